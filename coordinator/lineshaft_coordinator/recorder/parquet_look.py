"""Looks into Parquet files of jobs from a process of its own, which may have so much and no more.

A file of two kilobytes can unfold to gigabytes before anybody could count them, honest ones of
pictures do, and its reader is a large library in C++: whatever happens there, who records goes on.
"""

import json
import os
import subprocess
import sys
from typing import Any, Final, Literal

LOOK_S: Final = 12.0
"""Less than who asked waits for an answer."""
MEMORY_BYTES: Final = 512 << 20
"""Of the process that looks, its libraries included."""
UNREADABLE: Final = 2
TOO_LARGE: Final = 3
_CHILD: Final = "lineshaft_coordinator.recorder.parquet_child"

Words = Literal["page", "seed"]
"""Whether values are cut for a page, or told as seed 004 tells them."""


def first_rows(path: str, name: str, words: Words) -> dict[str, Any]:
    """Return columns, rows, total_rows and total_columns; values are those of JSON, and NaN.

    Raises:
        ValueError: It is no Parquet file, or too large to be looked at.
    """
    try:
        done = subprocess.run(  # noqa: S603 - words of ours, and a path
            [sys.executable, "-m", _CHILD, path, words, str(MEMORY_BYTES)],
            # Arrow's own allocator ends its process where there is no more memory.
            env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LOOK_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{name} takes too long to be looked at: download it") from error
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    if done.returncode == UNREADABLE:
        reason = done.stderr.decode(errors="replace").strip().replace(path, name)
        raise ValueError(f"{name} cannot be read as Parquet: {reason}")
    why = "its first rows are too large" if done.returncode == TOO_LARGE else "its reader broke"
    raise ValueError(f"{name} cannot be looked at, {why}: download it")
