"""Bytes into a new file, and the file's hash. Imported by every runner: it stays small."""

import hashlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence

from lineshaft_runtime.durable import begin_sync

BytesLike = bytes | bytearray | memoryview

TOGETHER_BYTES_MIN = 4 * 1024 * 1024
"""From here on a second thread hashes what the first one has written; for less it costs more
than it saves."""
_WRITE_BYTES = 2 * 1024 * 1024
_SYNC_BYTES = 8 * 1024 * 1024
_READ_BYTES = 256 * 1024


def write_hashed(
    path: str | os.PathLike[str], buffers: Sequence[BytesLike], *, is_sync_begun: bool = False
) -> str:
    """Write buffers one after the other to a file that must not be there yet; does not sync it.

    Args:
        path: Of the new file.
        buffers: Its content.
        is_sync_begun: Whether somebody syncs the file soon: the disk writes while we hash, and
            there is less to wait for then.

    Returns:
        SHA-256 of the file, in hexadecimal digits. It is what was read again, from the cache: the
        buffers are somebody's arrays, and may have been changed between two looks at them.

    Raises:
        OSError: The disk refused. What was written of the file is still there.
    """
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        pieces = _written(descriptor, views)
        if is_sync_begun:
            pieces = _brought_to_disk(descriptor, pieces)
        if sum(view.nbytes for view in views) < TOGETHER_BYTES_MIN:
            for _ in pieces:
                pass
            return _Hashing(descriptor).digest()
        return _hashed_meanwhile(descriptor, pieces)
    finally:
        os.close(descriptor)


def _written(descriptor: int, views: Sequence[memoryview]) -> Iterator[int]:
    """Write it all, a piece each turn; yields its length in bytes."""
    for view in views:
        rest = view
        while rest.nbytes:
            count = os.write(descriptor, rest[:_WRITE_BYTES])
            rest = rest[count:]
            yield count


def _brought_to_disk(descriptor: int, pieces: Iterator[int]) -> Iterator[int]:
    """Have the disk write what was written, some at a time."""
    begun = written = 0
    for count in pieces:
        written += count
        if written - begun >= _SYNC_BYTES:
            begin_sync(descriptor, begun, written - begun)
            begun = written
        yield count
    if written > begun:
        begin_sync(descriptor, begun, written - begun)


def _hashed_meanwhile(descriptor: int, pieces: Iterator[int]) -> str:
    hashing = _Hashing(descriptor)
    turns = queue.SimpleQueue[bool]()

    def follow() -> None:
        while turns.get():
            hashing.advance()

    thread = threading.Thread(target=follow, name="hashing")
    thread.start()
    try:
        for _ in pieces:
            turns.put(True)
    finally:
        turns.put(False)
        thread.join()
    return hashing.digest()


class _Hashing:
    """Hashes a file up to where it ends by now."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._piece = memoryview(bytearray(_READ_BYTES))
        self._offset = 0

    def advance(self) -> None:
        while count := os.preadv(self._descriptor, [self._piece], self._offset):
            self._digest.update(self._piece[:count])
            self._offset += count

    def digest(self) -> str:
        self.advance()
        return self._digest.hexdigest()
