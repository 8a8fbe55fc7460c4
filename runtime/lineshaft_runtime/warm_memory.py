"""Memory of a daemon that moves large values: kept for the next one instead of given back at once.

The C library hands a freed megabyte to the kernel, and gets it back as 256 page faults, each with
a page of zeros: measured, they were a fifth to a third of what a large value costs. So freed memory
stays until `give_memory_back`. In a user's process this is not ours to decide.
"""

import ctypes
from collections.abc import Callable
from typing import cast

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Of glibc's `mallopt`."""
KEPT_BYTES_MAX = 32 * 1024 * 1024
"""Most free memory that one arena keeps at its end."""
ARENAS_MAX = 2
"""One for the loop, one for all threads: what each arena keeps is kept for its own threads only."""
MAPPED_BYTES_MIN = 8 * 1024 * 1024
"""What is as long as this is mapped by itself, and goes back when it is freed."""


def keep_memory_warm() -> bool:
    """Keep freed memory for what is allocated next; False if the C library knows no such way."""
    tune = _of_c_library("mallopt")
    return tune is not None and all(
        [
            tune(_ARENA_MAX, ARENAS_MAX),
            tune(_MMAP_THRESHOLD, MAPPED_BYTES_MIN),
            tune(_TRIM_THRESHOLD, KEPT_BYTES_MAX),
        ]
    )


def give_memory_back() -> None:
    """Give free memory back to the system; takes a few milliseconds if there is much."""
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_c_library(name: str) -> Callable[..., int] | None:
    try:
        return cast("Callable[..., int]", getattr(ctypes.CDLL(None), name))
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
