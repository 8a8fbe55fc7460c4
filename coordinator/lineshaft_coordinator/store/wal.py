"""Looks into SQLite's write-ahead log before SQLite does.

SQLite replays a log up to the first frame whose checksum fails and silently drops the rest: right
after a crash, which can tear the last transaction only, but a flipped bit in the middle of the
log would drop transactions that were synced and acknowledged. A transaction is appended only
after the one before was synced, so whatever is followed by frames of another transaction was
whole once. If such a frame does not verify now, the log is damaged.
(Format: sqlite.org/walformat.html and fileformat2.html, section 4.)
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = 0x377F0682
"""The lowest bit set means checksums over big-endian words."""
_MASK: Final = 0xFFFFFFFF


def find_damage(path: Path) -> str | None:
    """Say what synced data a write-ahead log has lost; `None` if nothing that could be told.

    A log that was cut off between two transactions cannot be told from a shorter one.
    Never call it while this process has the database open: closing the file here would drop
    SQLite's locks on it.
    """
    with path.open("rb") as file:
        raw = file.read(_HEADER.size)
        if len(raw) < _HEADER.size:
            return "its header is cut off" if raw else "it is empty"
        magic, _, page_bytes, _, *salts, sum_0, sum_1 = _HEADER.unpack(raw)
        order = ">" if magic & 1 else "<"
        if magic & ~1 != _MAGIC or _checksum(raw[:24], order, 0, 0) != (sum_0, sum_1):
            return "its header does not verify"
        return _find_lost_frame(file, page_bytes, tuple(salts), (order, sum_0, sum_1))


def _find_lost_frame(
    file: BinaryIO, page_bytes: int, salts: tuple[int, ...], start: tuple[str, int, int]
) -> str | None:
    order, sum_0, sum_1 = start
    broken_at: int | None = None
    is_past_commit = False
    for number, (head, page) in enumerate(_frames(file, page_bytes), start=1):
        _, commit_pages, salt_0, salt_1, *sums = _FRAME.unpack(head)
        is_ours = (salt_0, salt_1) == salts
        if broken_at is None:
            sum_0, sum_1 = _checksum(head[:8] + page, order, sum_0, sum_1) if is_ours else (0, 0)
            if is_ours and sums == [sum_0, sum_1]:
                continue
            broken_at = number
        # Frames of an older generation have other salts: they were copied to the database long ago.
        if not is_ours:
            continue
        if is_past_commit:
            return f"frame {broken_at} does not verify, and a later transaction follows it"
        is_past_commit = commit_pages != 0
    return None


def _frames(file: BinaryIO, page_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    while len(raw := file.read(_FRAME.size + page_bytes)) == _FRAME.size + page_bytes:
        yield raw[: _FRAME.size], raw[_FRAME.size :]


def _checksum(data: bytes, order: str, sum_0: int, sum_1: int) -> tuple[int, int]:
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        sum_0 = (sum_0 + even + sum_1) & _MASK
        sum_1 = (sum_1 + odd + sum_0) & _MASK
    return sum_0, sum_1
