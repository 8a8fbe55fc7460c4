"""The file that rows of an open run are appended to, one frame a flush.

A frame is what one `write(2)` adds: a header as JSON, and rows as an Arrow record batch. It has a
checksum, and it says up to where its writer had read what it records, together with the rows:
whatever kills the writer, a row and the knowledge that it is there are kept or lost together.

    magic 4 | header bytes 4 | body bytes 4 | crc32 of both 4 | header, padded to 8 | body

The header's `columns` are those of the body, and are left out while they are as before.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from lineshaft_records import optional
from lineshaft_records.rows import Flush

MAGIC: Final = b"LSF1"
_HEAD: Final = struct.Struct("<4sIII")
FRAME_BYTES_MAX: Final = 1 << 30
Position = Mapping[str, int]
"""Up to where a writer had read its source, in words of its own."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One flush, read back."""

    columns: tuple[str, ...]
    rows: int
    position: Position
    sizes: Mapping[str, int]
    """How long files beside the rows were, in bytes."""
    body: bytes
    start: int
    end: int
    """Where the next frame begins in the file."""

    def batch(self) -> Any:
        """Return the rows as an Arrow record batch."""
        pa = optional.arrow()
        return pa.ipc.read_record_batch(pa.py_buffer(self.body), schema_of(self.columns))


def schema_of(columns: Sequence[str]) -> Any:
    """Return the Arrow schema of a frame with these columns of metrics."""
    pa = optional.arrow()
    fields = [("attempt", pa.int32()), ("step", pa.int64()), ("at", pa.int64())]
    fields += [(name, pa.float64() if name.startswith("n:") else pa.string()) for name in columns]
    return pa.schema(fields)


def encode_body(flush: Flush) -> bytes:
    """Return rows as an Arrow record batch, in bytes."""
    pa = optional.arrow()
    schema = schema_of(tuple(flush.columns))
    values = [flush.attempts, flush.steps, flush.at_us, *flush.columns.values()]
    arrays = [pa.array(each, kind) for each, kind in zip(values, schema.types, strict=True)]
    # Options of their own would be found in the environment of whoever trains.
    return cast("bytes", pa.record_batch(arrays, schema=schema).serialize().to_pybytes())


def frame_of(header: Mapping[str, object], body: bytes) -> bytes:
    """Return the bytes of a frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    crc = zlib.crc32(body, zlib.crc32(text))
    return _HEAD.pack(MAGIC, len(text), len(body), crc) + text + body


def frames(path: Path, *, start: int = 0, columns: Sequence[str] = ()) -> Iterator[Frame]:
    """Yield the frames of a segment, up to the first that is not whole.

    Args:
        path: The segment.
        start: Where to begin, in bytes: the end of a frame.
        columns: What the last frame before it had.
    """
    with path.open("rb", buffering=1 << 20) as file:
        yield from frames_in(file, start=start, columns=columns)


def frames_in(file: Any, *, start: int = 0, columns: Sequence[str] = ()) -> Iterator[Frame]:
    """Yield the frames of an open segment; see `frames`."""
    last = tuple(columns)
    file.seek(start)
    while True:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        magic, text_bytes, body_bytes, crc = _HEAD.unpack(head)
        if magic != MAGIC or max(text_bytes, body_bytes) > FRAME_BYTES_MAX:
            return
        text, body = file.read(text_bytes), file.read(body_bytes)
        is_whole = len(text) == text_bytes and len(body) == body_bytes
        if not is_whole or zlib.crc32(body, zlib.crc32(text)) != crc:
            return
        header: dict[str, Any] = json.loads(text)
        last = tuple(header.get("columns", last))
        end = start + _HEAD.size + text_bytes + body_bytes
        yield Frame(
            last, header["rows"], header["position"], header.get("sizes", {}), body, start, end
        )
        start = end


class Segment:
    """Appends frames to one file.

    Args:
        path: Made if it is not there.
        size: Where to go on; what lies behind is cut off.
        columns: Those of the last frame.
    """

    def __init__(self, path: Path, *, size: int = 0, columns: Sequence[str] = ()) -> None:
        self.path = path
        self.size = size
        self.columns = tuple(columns)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        self._is_synced = True

    def append(self, flush: Flush | None, position: Position, sizes: Mapping[str, int]) -> None:
        """Add a frame.

        Raises:
            OSError: The disk is full or broken; the file is as it was before.
        """
        header: dict[str, object] = {"rows": 0, "position": dict(position)}
        if sizes:
            header["sizes"] = dict(sizes)
        columns, body = self.columns, b""
        if flush is not None and flush.at_us:
            columns, body = tuple(flush.columns), encode_body(flush)
            header["rows"] = len(flush.at_us)
        if columns != self.columns or self.size == 0:
            header["columns"] = list(columns)
        frame = frame_of(header, body)
        try:
            view = memoryview(frame)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.columns = columns
        self.size += len(frame)
        self._is_synced = False

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        if not self._is_synced:
            os.fdatasync(self._descriptor)
            self._is_synced = True

    def close(self) -> None:
        """Give the file back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
