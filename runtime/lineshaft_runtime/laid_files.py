"""Blobs laid down for a coordinator on the same machine while they are made: written once, at once.

Theory. Whoever packs a value has its bytes in hand, in the caller's memory, and must have them
elsewhere when it returns. If the coordinator is here, elsewhere is the very file that it takes
over: no copy in memory is made first. The file stays mapped until the blob is let go, so that it
can be sent over the connection, or again, though its name was moved away or removed.
"""

import mmap
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lineshaft_protocol.ids import BlobId
from lineshaft_runtime.hashed_files import BytesLike, write_hashed

LAID_MAX = 128
"""Files of one process at a time: each has an open descriptor. Others are kept in memory."""


class LaidFile:
    """A blob in a file of its own, whole; the disk has begun to write it, nobody waited for it.

    Args:
        path: Where it lies.
        blob_id: SHA-256 of its content.
        data: Its content, which outlives the name.
        places: Gets a place back when it is let go.
    """

    def __init__(self, path: Path, blob_id: BlobId, data: memoryview, places: list[None]) -> None:
        self.blob_id, self.data = blob_id, data
        self._path: Path | None = path
        self._places = places

    def take(self, folder: Path) -> str | None:
        """Return its name, once, for the one who is to have it; None if it does not lie there."""
        path = self._path
        if path is None or path.parent != folder:
            return None
        self._path = None
        return path.name

    def __del__(self) -> None:
        """Remove what nobody took."""
        self._places.append(None)
        if self._path is not None:
            _remove(self._path)


class FileLayer:
    """Lays files down; may be used in several threads at once."""

    def __init__(self) -> None:
        # No semaphore: a collection of garbage gives places back, in whatever thread and line it
        # happens to be, also where the semaphore's lock is held.
        self._places: list[None] = [None] * LAID_MAX

    def lay(
        self, folder: Path, buffers: Sequence[BytesLike], *, free_bytes_min: int
    ) -> LaidFile | None:
        """Write a blob into a folder; None if that cannot be, and then nothing of it is there.

        Args:
            folder: Where it is to lie.
            buffers: Its bytes, at least one.
            free_bytes_min: Room that must be left on the disk.
        """
        size_bytes = sum(memoryview(buffer).nbytes for buffer in buffers)
        path = folder / secrets.token_hex(16)
        try:
            self._places.pop()
        except IndexError:
            return None
        try:
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize - size_bytes >= free_bytes_min:
                blob_id = BlobId(write_hashed(path, buffers, is_sync_begun=True))
                return LaidFile(path, blob_id, _view_of(path, size_bytes), self._places)
        except OSError:  # The disk is full, or the coordinator is gone, with its folder.
            _remove(path)
        except BaseException:
            _remove(path)
            self._places.append(None)
            raise
        self._places.append(None)
        return None


def _view_of(path: Path, size_bytes: int) -> memoryview:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return memoryview(mmap.mmap(descriptor, size_bytes, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
