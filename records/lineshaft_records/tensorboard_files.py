"""The event files of TensorBoard, scalars only, read and written without TensorFlow.

A file is records: length 8, masked CRC-32C of it 4, data, masked CRC-32C of that 4. The data is a
protocol buffer `Event`: wall_time = 1, step = 2, file_version = 3, summary = 5, which holds values:
tag = 1, simple_value = 2, tensor = 8.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

_MASK_DELTA: Final = 0xA282EAD8
_POLYNOMIAL: Final = 0x82F63B78
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _DOUBLE = 1, 2


def _table() -> tuple[int, ...]:
    values: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        values.append(crc)
    return tuple(values)


_CRC: Final = _table()


def masked_crc(data: bytes) -> int:
    """Return the checksum that TensorBoard expects."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


class Scalar(NamedTuple):
    """One number of an event file."""

    tag: str
    step: int
    at_s: float
    value: float


class EventFile:
    """Writes one event file.

    Args:
        folder: Where; there already.
    """

    def __init__(self, folder: Path) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._record(
            _field(1, _FIXED64, struct.pack("<d", time.time())) + _text(3, b"brain.Event:2")
        )

    def add(self, tag: str, value: float, step: int, at_s: float) -> None:
        """Write one number."""
        inner = _text(1, tag.encode()) + _field(2, _FIXED32, struct.pack("<f", _single(value)))
        event = _field(1, _FIXED64, struct.pack("<d", at_s)) + _field(2, _VARINT, _varint(step))
        self._record(event + _text(5, _text(1, inner)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _record(self, data: bytes) -> None:
        head = struct.pack("<Q", len(data))
        self._file.write(head + struct.pack("<I", masked_crc(head)))
        self._file.write(data + struct.pack("<I", masked_crc(data)))


def scalars(path: Path) -> Iterator[Scalar]:
    """Yield the numbers of an event file, up to where it is torn."""
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            (size,) = struct.unpack_from("<Q", head)
            data, crc = file.read(size), file.read(4)
            if len(data) < size or len(crc) < 4 or struct.unpack("<I", crc)[0] != masked_crc(data):
                return
            yield from _event(data)


def _event(data: bytes) -> Iterator[Scalar]:
    at_s, step, summary = 0.0, 0, b""
    for number, value in _fields(data):
        match number, value:
            case 1, bytes():
                (at_s,) = struct.unpack("<d", value)
            case 2, int():
                step = value - (1 << 64) if value >> 63 else value
            case 5, bytes():
                summary = value
            case _:
                pass
    for number, value in _fields(summary):
        if number == 1 and isinstance(value, bytes):
            tag, told = "", None
            for inner, each in _fields(value):
                if inner == 1 and isinstance(each, bytes):
                    tag = each.decode(errors="replace")
                elif inner == 2 and isinstance(each, bytes):
                    (told,) = struct.unpack("<f", each)
                elif inner == 8 and isinstance(each, bytes):
                    told = _tensor(each)
            if told is not None:
                yield Scalar(tag, step, at_s, told)


def _tensor(data: bytes) -> float | None:
    """Read a tensor with one number in it; None if it is another."""
    kind, content = 0, b""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number in (4, 5, 6) and isinstance(value, bytes):
            content = value
    shape = {(_FLOAT, 4): "<f", (_DOUBLE, 8): "<d"}.get((kind, len(content)))
    return None if shape is None else float(struct.unpack(shape, content)[0])


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the fields of a protocol buffer; what is torn ends it."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _read_varint(data, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(data, place)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            return
        yield number, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, place


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, kind: int, content: bytes) -> bytes:
    return _varint(number << 3 | kind) + content


def _text(number: int, content: bytes) -> bytes:
    return _field(number, _BYTES, _varint(len(content)) + content)


def _single(value: float) -> float:
    """Return what a float of four bytes can hold of a number."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return value
