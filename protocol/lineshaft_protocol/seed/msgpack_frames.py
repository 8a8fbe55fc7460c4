"""msgpack of untrusted peers: measured before it is unpacked, so that no claim costs memory.

An array's header claims a length, and the unpacker reserves it at once; arrays claimed inside each
other multiply. So the frame is first walked without building anything: each open list still owes
its items, an item takes at least a byte, and all that is owed must fit into what is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed.wire import NESTING_MAX, UnencodableError, unique_keys

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""The longest message that clients of dialects A and B read."""


def decode_msgpack(data: bytes, *, bytes_max: int = FRAME_BYTES_MAX) -> object:
    """Unpack one document from an untrusted peer.

    Args:
        data: The frame.
        bytes_max: The longest frame to look at.

    Raises:
        ProtocolError: Too long, cut short, followed by something, nested deeper than
            `NESTING_MAX`, an extension type, a key that is no string or comes twice, or not UTF-8.
    """
    if len(data) > bytes_max:
        raise ProtocolError(f"a frame of {len(data)} bytes; at most {bytes_max} are read")
    _measure(data)
    try:
        return _unpackb(data, object_pairs_hook=_object)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"invalid msgpack: {error}") from None


def encode_msgpack(document: object) -> bytes:
    """Pack a document of plain values.

    Raises:
        UnencodableError: It holds a lone surrogate or no msgpack type.
    """
    # An integer that no 64 bits hold becomes a float, as it does in upstream's JSON.
    try:
        return _packb(document, default=_wide_integer)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnencodableError(str(error)) from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = unique_keys(pairs)
    if not set(map(type, fields)) <= {str}:
        raise ProtocolError("an object's key must be a string")
    return fields


def _wide_integer(value: object) -> float:
    if isinstance(value, int):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no msgpack form")


# The casts stand in for msgpack's missing stubs.
_unpackb = cast("Callable[..., object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]
_packb = cast("Callable[..., bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]

# Everything of a length that its first byte tells: numbers, nil, booleans, short strings, and
# lists and maps of nothing.
_SMALL: Final = (
    rb"[\x00-\x7f\xe0-\xff\xc0\xc2\xc3\x80\x90]|[\xcc\xd0].|[\xcd\xd1]..|[\xca\xce\xd2].{4}"
    rb"|[\xcb\xcf\xd3].{8}|"
) + b"|".join(b"[\\x%02x].{%d}" % (0xA0 + length, length) for length in range(32))
_ITEM: Final = re.compile(_SMALL, re.DOTALL)
# Whole runs are one step in C: a tensor or a list of bytes has millions of items.
_RUN: Final = re.compile(
    rb"(?P<floats>(?:\xcb.{8})++)|(?P<octets>(?:[\x00-\x7f]|\xcc.)++)"
    rb"|(?P<mixed>(?:" + _SMALL + rb")++)",
    re.DOTALL,
)
_LARGE_OCTET: Final = re.compile(rb"\xcc.", re.DOTALL)
_TEXT_HEADS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
_LIST_HEADS: Final = {0xDC: 2, 0xDD: 4}
_MAP_HEADS: Final = {0xDE: 2, 0xDF: 4}


def _measure(data: bytes) -> None:
    """Walk the frame's structure.

    Raises:
        ProtocolError: It claims more than it holds, nests too deep, or has an extension type.
    """
    owed = [1]  # Items that each open list still lacks, innermost last.
    total = 1
    at = 0
    while total:
        while owed[-1] == 0:
            owed.pop()
        if at >= len(data):
            raise ProtocolError("the frame is cut short")
        at, done, claimed = _step(data, at)
        # A run of scalars may reach beyond its list, into those around it.
        while done > owed[-1]:
            done -= owed[-1]
            total -= owed.pop()
            if not owed:
                raise ProtocolError("the frame goes on after its end")
        owed[-1] -= done
        total += claimed - done
        if claimed:
            owed.append(claimed)
        if total > len(data) - at:
            raise ProtocolError("the frame is cut short")
        if len(owed) > NESTING_MAX + 1:
            raise ProtocolError(f"recursion limit exceeded: nested deeper than {NESTING_MAX}")
    if at != len(data):
        raise ProtocolError("the frame goes on after its end")


def _step(data: bytes, at: int) -> tuple[int, int, int]:
    """Return where the next item starts, how many items were passed, how many they claim."""
    if run := _RUN.match(data, at):
        return run.end(), _count(run), 0
    head = data[at]
    if 0x80 <= head <= 0x8F:
        return at + 1, 1, 2 * (head & 0x0F)
    if 0x90 <= head <= 0x9F:
        return at + 1, 1, head & 0x0F
    for heads, per_item in ((_TEXT_HEADS, 0), (_LIST_HEADS, 1), (_MAP_HEADS, 2)):
        if size_bytes := heads.get(head):
            length = int.from_bytes(data[at + 1 : at + 1 + size_bytes], "big")
            end = at + 1 + size_bytes
            return (end, 1, length * per_item) if per_item else (end + length, 1, 0)
    raise ProtocolError(f"unexpected msgpack marker {head:#04x}")


def _count(run: re.Match[bytes]) -> int:
    match run.lastgroup:
        case "floats":
            return len(run.group()) // 9
        case "octets":  # A byte takes one byte below 128, and two from there on.
            return len(run.group()) - _LARGE_OCTET.subn(b"", run.group())[1]
        case _:
            return len(_ITEM.sub(b"1", run.group()))
