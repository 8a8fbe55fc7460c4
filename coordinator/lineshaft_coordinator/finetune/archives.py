"""ZIP archives that are sent as they are read: stored, so that their length is known before.

Headers come before what they describe, with true sizes and checksums, so every reader takes them.
The checksums need the content to be read once before the first byte is sent; they are remembered,
so that a download that goes on where it broke off begins at once. Memory does not depend on sizes.
"""

import asyncio
import hashlib
import struct
import tarfile
import time
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

PIECE_BYTES: Final = 1024 * 1024
REMEMBERED_MAX: Final = 64
OPENED_MAX: Final = 64
"""Files that one download has open from its beginning; those behind them when it comes to them."""
_LIMIT: Final = 0xFFFFFFFF
_COUNT_LIMIT: Final = 0xFFFF
_VERSION: Final = 45
_UTF8: Final = 0x800
_MODE: Final = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of an entry: those given, or a part of a file."""

    size_bytes: int
    data: bytes = b""
    path: Path | None = None
    offset: int = 0

    def pieces(self, start: int, end: int, opened: BinaryIO | None = None) -> Iterator[bytes]:
        """Read a part, piece by piece, of the file as it is now or was opened. Raises OSError."""
        if self.path is None:
            yield self.data[start:end]
            return
        with nullcontext(opened) if opened is not None else self.path.open("rb") as file:
            file.seek(self.offset + start)
            left = end - start
            while left > 0:
                piece = file.read(min(PIECE_BYTES, left))
                if not piece:
                    raise OSError(f"{self.path} is shorter than it was")
                left -= len(piece)
                yield piece


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive."""

    name: str
    content: Content
    at: float
    """When it was written, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that can be sent from any place on."""

    parts: tuple[Content, ...]
    size_bytes: int
    sha256: str

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Read a part of it, piece by piece, in threads. Raises OSError.

        Its files may be removed meanwhile, as jobs are pruned while somebody slow reads.
        """
        place = 0
        with ExitStack() as stack:
            opened = await asyncio.to_thread(self._opened, stack)
            for part in self.parts:
                first, last = max(start - place, 0), min(end - place, part.size_bytes)
                place += part.size_bytes
                if first >= last:
                    continue
                reader = part.pieces(first, last, opened.get(part.path))
                while (piece := await asyncio.to_thread(next, reader, None)) is not None:
                    yield piece

    def _opened(self, stack: ExitStack) -> dict[Path | None, BinaryIO]:
        paths = dict.fromkeys(part.path for part in self.parts if part.path is not None)
        return {path: stack.enter_context(path.open("rb")) for path in islice(paths, OPENED_MAX)}


@dataclass(slots=True)
class Archives:
    """Makes archives, and remembers the last ones."""

    _made: OrderedDict[tuple[Entry, ...], Archive] = field(
        default_factory=OrderedDict[tuple[Entry, ...], Archive]
    )

    async def of(self, entries: Sequence[Entry]) -> Archive:
        """Return the archive of these files; they are read once if that is new.

        Raises:
            OSError: A file cannot be read.
        """
        key = tuple(entries)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = await asyncio.to_thread(make_archive, key)
            while len(self._made) > REMEMBERED_MAX:
                self._made.popitem(last=False)
        return made


def make_archive(entries: Sequence[Entry]) -> Archive:
    """Read all files for their checksums, and put headers around them. Raises OSError."""
    parts: list[Content] = []
    directory: list[bytes] = []
    place = 0
    for entry in entries:
        crc = 0
        for piece in entry.content.pieces(0, entry.content.size_bytes):
            crc = zlib.crc32(piece, crc)
        head = _local_header(entry, crc)
        directory.append(_directory_entry(entry, crc, place))
        parts += [Content(len(head), head), entry.content]
        place += len(head) + entry.content.size_bytes
    tail = b"".join(directory)
    tail += _end(len(directory), len(tail), place)
    parts.append(Content(len(tail), tail))
    digest = hashlib.sha256()
    for part in parts:
        for piece in part.pieces(0, part.size_bytes):
            digest.update(piece)
    return Archive(tuple(parts), sum(part.size_bytes for part in parts), digest.hexdigest())


def folder_entries(tar: Path, name: str, at: float) -> list[Entry]:
    """Return the files in a tar archive as entries beneath a folder of this name.

    Raises:
        OSError: It cannot be read.
        tarfile.TarError: It is none.
    """
    with tarfile.open(tar, "r:") as archive:
        return [
            Entry(
                f"{name}/{member.name}",
                Content(member.size, path=tar, offset=member.offset_data),
                at,
            )
            for member in archive
            if member.isreg() and not member.issparse()
        ]


def file_entry(path: Path, name: str, at: float) -> Entry:
    """Return a file, as long as it is now, as an entry. Raises OSError."""
    return Entry(name, Content(path.stat().st_size, path=path), at)


def _local_header(entry: Entry, crc: int) -> bytes:
    name, size = entry.name.encode(), entry.content.size_bytes
    is_large = size >= _LIMIT
    extra = struct.pack("<HHQQ", 1, 16, size, size) if is_large else b""
    shown = _LIMIT if is_large else size
    date, clock = _dos_time(entry.at)
    fields = (_VERSION, _UTF8, 0, clock, date, crc, shown, shown, len(name), len(extra))
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + name + extra


def _directory_entry(entry: Entry, crc: int, place: int) -> bytes:
    name, size = entry.name.encode(), entry.content.size_bytes
    wide = [size, size] if size >= _LIMIT else []
    if place >= _LIMIT:
        wide.append(place)
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    shown, offset = min(size, _LIMIT), min(place, _LIMIT)
    date, clock = _dos_time(entry.at)
    made_by = 3 << 8 | _VERSION  # By Unix, so that the mode counts.
    fields = (made_by, _VERSION, _UTF8, 0, clock, date, crc, shown, shown, len(name), len(extra))
    return (
        b"PK\x01\x02"
        + struct.pack("<HHHHHHIIIHH", *fields)
        + struct.pack("<HHHII", 0, 0, 0, _MODE, offset)
        + name
        + extra
    )


def _end(count: int, size: int, place: int) -> bytes:
    fields = (44, _VERSION, _VERSION, 0, 0, count, count, size, place)
    wide = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", *fields)
    where = b"PK\x06\x07" + struct.pack("<IQI", 0, place + size, 1)
    shown = min(count, _COUNT_LIMIT)
    last = struct.pack("<HHHHIIH", 0, 0, shown, shown, min(size, _LIMIT), min(place, _LIMIT), 0)
    return wide + where + b"PK\x05\x06" + last


def _dos_time(at: float) -> tuple[int, int]:
    when = time.gmtime(max(at, 315_532_800))  # From 1980 on.
    date = (when.tm_year - 1980) << 9 | when.tm_mon << 5 | when.tm_mday
    return date, when.tm_hour << 11 | when.tm_min << 5 | when.tm_sec // 2
