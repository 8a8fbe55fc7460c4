"""Pages of a training's log: read from its file, line by line, in memory that does not grow."""

from collections import deque
from itertools import islice
from pathlib import Path
from typing import NamedTuple

LINE_CHARACTERS_MAX = 64 * 1024


class LogPage(NamedTuple):
    """Some lines, and where they stand."""

    lines: list[str]
    total_lines: int
    offset: int
    """Number of the first line, from 0."""


def log_page(path: Path, limit: int, offset: int) -> LogPage:
    """Return lines of a log; blocks on the disk.

    Args:
        path: The log; one that is not there is empty.
        limit: How many lines at most.
        offset: Number of the first, from 0; a negative one counts from the end.
    """
    total = _count(path)
    start = max(0, total + offset) if offset < 0 else min(offset, total)
    if not path.exists():
        return LogPage([], 0, 0)
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        lines = [_shown(line) for line in islice(file, start, start + limit)]
    return LogPage(lines, total, start)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log; none if it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        return [_shown(line) for line in deque(file, maxlen=count)]


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    count, last = 0, b""
    with path.open("rb") as file:
        while piece := file.read(1024 * 1024):
            count += piece.count(b"\n")
            last = piece[-1:]
    return count + (last not in (b"", b"\n"))


def _shown(line: str) -> str:
    return line.rstrip("\r\n")[:LINE_CHARACTERS_MAX]
