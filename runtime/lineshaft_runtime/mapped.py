"""Files as memory. Imported by every runner: it stays small."""

import mmap
import os


def mapped(path: str | os.PathLike[str]) -> memoryview:
    """Map a file; the memory may be changed without an effect on anybody else.

    Raises:
        OSError: It cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
    finally:
        os.close(descriptor)
