"""The way of large values between runner and daemon: files, read as memory, written in one go."""

import contextlib
import os
from collections.abc import Callable, Sequence

from lineshaft_runtime.hashed_files import write_hashed
from lineshaft_runtime.mapped import mapped
from lineshaft_runtime.packing import PLAIN, pack, pack_plain
from lineshaft_worker.runner.frames import INLINE_BYTES_MAX

BytesLike = bytes | bytearray | memoryview


def load(source: bytes | str) -> BytesLike:
    """Return the bytes a frame carries or names, writable without an effect on anybody else.

    Arrays of an attempt's arguments lie on this memory, and user code may change them.
    """
    if isinstance(source, bytes):
        return bytearray(source) if len(source) > 1024 else source
    return mapped(source)


def packed(value: object) -> list[BytesLike]:
    """Return a result as it goes to the client. Raises CannotPackError."""
    # Most brief calls return a number, and this takes 2 µs less.
    return [pack_plain(value)] if type(value) in PLAIN else pack(value, name="result")


def store(
    buffers: Sequence[BytesLike], path: str, *, is_sync_begun: Callable[[], bool] = bool
) -> tuple[bytes | None, int, str]:
    """Return the bytes if they are few, else write them to a file.

    Args:
        buffers: The bytes.
        path: Of the file.
        is_sync_begun: Says it as for `write_hashed`; asked only if there is a file.

    Returns:
        The bytes (None if they are in the file), their number, and SHA-256 in hexadecimal digits
        (empty for what is not in a file).

    Raises:
        OSError: The disk refused.
    """
    size_bytes = sum(memoryview(buffer).nbytes for buffer in buffers)
    if size_bytes <= INLINE_BYTES_MAX:
        return b"".join(buffers), size_bytes, ""
    # A new file, never an old one emptied: that may be linked as a blob by now.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - no pathlib in a runner
    return None, size_bytes, write_hashed(path, buffers, is_sync_begun=is_sync_begun())
