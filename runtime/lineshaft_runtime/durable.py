"""Bringing files, and the names in folders, to the disk. Every runner imports it: keep it small."""

import os
from collections.abc import Callable
from functools import cache
from typing import Protocol, cast

_BEGIN_WRITING = 2  # SYNC_FILE_RANGE_WRITE of <fcntl.h>


class _SyncFileRange(Protocol):
    def __call__(self, descriptor: int, offset: int, length: int, flags: int, /) -> int: ...


def sync_path(path: str | os.PathLike[str]) -> None:
    """Make a file's bytes durable, or the names in a folder: new, renamed and removed ones.

    Raises:
        OSError: It cannot be opened, or the disk failed.
    """
    _sync(path, os.fsync)


def sync_bytes(path: str | os.PathLike[str]) -> None:
    """Make a file's bytes and length durable; its times and mode may be older after a crash.

    Raises:
        OSError: It cannot be opened, or the disk failed.
    """
    _sync(path, os.fdatasync)


def _sync(path: str | os.PathLike[str], sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def begin_sync(descriptor: int, offset: int, length: int) -> None:
    """Have the disk begin to write a part of a file, and go on at once.

    Promises nothing: who must know that the bytes are on the disk syncs the file, and waits for
    less. Unlike a sync it takes no error away from who syncs later; that one gets it.

    Args:
        descriptor: Of the file, open for writing.
        offset: Where the part begins, in bytes.
        length: Of the part, in bytes; 0 for all that follows.
    """
    if (begin := _sync_file_range()) is not None:
        begin(descriptor, offset, length, _BEGIN_WRITING)


@cache
def _sync_file_range() -> _SyncFileRange | None:
    import ctypes  # noqa: PLC0415 - 10 ms that runners of small values do without

    found = getattr(ctypes.CDLL(None), "sync_file_range", None)  # of Linux
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast("_SyncFileRange | None", found)
