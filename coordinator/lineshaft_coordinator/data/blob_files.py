"""How blobs lie in files."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from lineshaft_coordinator.data.blob_errors import (
    BlobDiskError,
    BlobIdError,
    BlobMismatchError,
    BlobNotFoundError,
    BlobOffsetError,
    BlobTooLargeError,
)
from lineshaft_coordinator.data.blob_records import BlobFile, Upload
from lineshaft_runtime.durable import begin_sync, sync_bytes

BLOB_ID: Final = re.compile(r"[0-9a-f]{64}")
FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_REHASH_BYTES: Final = 1 << 20


def list_blobs(folder: Path) -> Iterator[tuple[str, int]]:
    """List the names and sizes in bytes of all blobs that are complete."""
    for shard in folder.iterdir():
        if len(shard.name) == 2:
            for path in shard.iterdir():
                if BLOB_ID.fullmatch(blob_id := shard.name + path.name):
                    yield blob_id, path.stat().st_size


def blob_path(folder: Path, blob_id: str) -> Path:
    """Say where a complete blob lies."""
    return folder / f"{blob_id[:2]}/{blob_id[2:]}"


def make_file(path: Path) -> int:
    """Make an empty file for an upload; returns its length, 0."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    os.close(os.open(path, flags, _FILE_MODE))
    return 0


def take_up(path: Path, size_bytes: int, update: Callable[[bytes], None]) -> int:
    """Hash what an earlier process left of an upload, and touch it.

    Returns:
        How many bytes of it are good to go on from.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        if os.fstat(descriptor).st_size > size_bytes:
            os.ftruncate(descriptor, 0)
        received_bytes = 0
        while data := os.pread(descriptor, _REHASH_BYTES, received_bytes):
            update(data)
            received_bytes += len(data)
        os.utime(descriptor)
        return received_bytes
    finally:
        os.close(descriptor)


def check_offer(blob_id: str, size_bytes: int, bytes_max: int) -> None:
    """Make sure that a blob has a name, and a size that one may have.

    Raises:
        BlobIdError: The name is none.
        BlobTooLargeError: It is too large, or less than nothing.
    """
    if not BLOB_ID.fullmatch(blob_id):
        raise BlobIdError(blob_id)
    if not 0 <= size_bytes <= bytes_max:
        raise BlobTooLargeError(blob_id, size_bytes, bytes_max)


def check_hash(blob_id: str, digest: str) -> None:
    """Make sure that a blob is what its name says.

    Raises:
        BlobMismatchError: It is not.
    """
    if digest != blob_id:
        raise BlobMismatchError(blob_id, f"its bytes hash to {digest}")


def check_own_file(blob_id: str, path: Path, size_bytes: int) -> None:
    """Make sure that a file is plain, ours and of that length; nobody writes to it by accident.

    Raises:
        BlobMismatchError: It is not.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise BlobMismatchError(blob_id, "what was laid down for it is no file of our own")
        if found.st_size != size_bytes:
            raise BlobMismatchError(
                blob_id, f"its file has {found.st_size} bytes, not the {size_bytes} that were said"
            )
        path.chmod(0o400)
    except OSError as error:
        raise BlobMismatchError(blob_id, f"its file cannot be used: {error.strerror}") from error


def append(blob_id: str, upload: Upload, data: bytes | memoryview) -> None:
    """Write and hash what follows in an upload; the first bytes make its file, the last sync it.

    Raises:
        BlobMismatchError: It is whole, and its bytes hash to another name.
    """
    done_bytes = upload.received_bytes or 0
    flags = os.O_WRONLY | os.O_CLOEXEC | (0 if done_bytes else os.O_CREAT | os.O_TRUNC)
    descriptor = os.open(upload.path, flags, _FILE_MODE)
    try:
        # Written first: the disk works while we hash. What is not what it should be is dropped.
        _write_all(descriptor, done_bytes, data)
        upload.digest.update(data)
        upload.received_bytes = done_bytes + len(data)
        if upload.received_bytes == upload.size_bytes:
            check_hash(blob_id, upload.digest.hexdigest())
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, offset: int, data: bytes | memoryview) -> None:
    """Write all of the data at an offset; the disk begins at once."""
    begin, rest = offset, memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
    begin_sync(descriptor, begin, offset - begin)


def write_copy(path: Path, fetch: Callable[[Callable[[bytes], object]], object]) -> None:
    """Make a file of what is fetched piece by piece, and sync it."""
    with path.open("wb", buffering=0) as file:

        def take(data: bytes) -> None:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) or 0 :]

        path.chmod(_FILE_MODE)
        fetch(take)
    sync_bytes(path)


def read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    """Read so many bytes, less only where the file ends."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_part(blob_id: str, blob: BlobFile, offset: int, length: int) -> bytes:
    """Read a part of a complete blob, less than `length` bytes only at its end.

    Raises:
        BlobNotFoundError: Its file is gone.
        BlobOffsetError: The offset is negative or past the end.
        BlobDiskError: The disk failed.
    """
    if not 0 <= offset <= blob.size_bytes:
        raise BlobOffsetError(blob_id, offset, blob.size_bytes)
    wanted = max(0, min(length, blob.size_bytes - offset))
    try:
        with blob.path.open("rb", buffering=0) as file:
            data = read_exactly(file.fileno(), offset, wanted)
    except FileNotFoundError as error:  # collected since, or removed behind our back
        raise BlobNotFoundError(blob_id) from error
    except OSError as error:
        raise BlobDiskError(blob_id, str(error)) from error
    if len(data) < wanted:
        raise BlobDiskError(blob_id, f"{blob.path} was cut off")
    return data


def read_cached(path: Path, offset: int, length: int) -> bytearray | None:
    """Read exactly so many bytes without waiting for the disk; None if that cannot be."""
    flag = getattr(os, "RWF_NOWAIT", None)  # of Linux
    if flag is None:
        return None
    data = bytearray(length)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            count = os.preadv(descriptor, [data], offset, flag)
        finally:
            os.close(descriptor)
    except OSError:  # Not cached, or a file system that cannot tell.
        return None
    return data if count == length else None


def is_younger(path: Path, deadline: float) -> bool:
    """Tell whether a file was touched at `deadline` (wall time in seconds) or later."""
    try:
        return path.stat().st_mtime >= deadline
    except FileNotFoundError:
        return False


def make_young(path: Path) -> None:
    """Touch a blob, so that a collection leaves it until it is referred to."""
    with suppress(OSError):
        os.utime(path)


def unlink(path: Path) -> int | None:
    """Remove a file; return how many bytes it had, None if somebody else was faster."""
    try:
        size_bytes = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return None
    return size_bytes


def remove(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
