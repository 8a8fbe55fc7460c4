"""Binary frames: bulk data as msgpack maps with named fields.

A blob's bytes travel as ``BlobChunk`` frames, in order and without gaps. The header is written
apart from the data, so that sending never copies the data.
"""

from collections.abc import Callable
from typing import cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.values import value

CHUNK_BYTES = 1024 * 1024
"""Length of the chunks we send, in bytes; what is left behind one goes along if it is short."""

_REST_BYTES_MAX = 256 * 1024
"""An array of 1 MiB is a little more when packed: a chunk for that little would cost as much again
as the first one."""

CHUNK_BYTES_MAX = 4 * 1024 * 1024
"""Longest chunk accepted, in bytes."""

WINDOW_BYTES = 16 * 1024 * 1024
"""Bytes of one blob that may be on their way without a BlobAck."""

_BLOB_ID_DIGITS = 64
_HEAD_BYTES_MAX = 160
"""Longest beginning of a frame that `encode_chunk` writes before the data, in bytes."""
_DATA_MARK = b"\xa4data\xc6"
"""The last key, and the type of bytes whose length has four bytes."""

# msgpack comes without types.
_pack = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpack = cast("Callable[..., object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]


@value()
class BlobChunk:
    """A piece of a blob."""

    blob_id: BlobId
    offset: int
    """Where in the blob the piece belongs, in bytes."""
    data: bytes | memoryview
    """May be a view of the frame it came in, which it keeps alive."""


def chunk_length(rest_bytes: int) -> int:
    """Say how long the next chunk is of what remains to be sent of a blob, in bytes."""
    return rest_bytes if rest_bytes <= CHUNK_BYTES + _REST_BYTES_MAX else CHUNK_BYTES


def encode_chunk(
    blob_id: BlobId, offset: int, data: bytes | memoryview
) -> list[bytes | memoryview]:
    """Write a chunk as the buffers of one frame."""
    head = _pack({"type": "BlobChunk", "blob_id": blob_id, "offset": offset})
    # The map gets one field more: "data", whose bytes follow.
    assert head[0] == 0x83, "a map of three fields has this head"
    return [b"\x84" + head[1:] + b"\xa4data\xc6" + len(data).to_bytes(4, "big"), data]


def decode_chunk(frame: bytes | bytearray | memoryview) -> BlobChunk:
    """Read a chunk.

    Raises:
        ProtocolError: The frame is not a well-formed chunk.
    """
    data: bytes | memoryview | None
    packed, data = _apart(frame) or (frame, None)
    try:
        unpacked = _unpack(
            packed, raw=False, strict_map_key=True, max_bin_len=CHUNK_BYTES_MAX, max_map_len=16
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"invalid frame: {error}") from error
    # msgpack's own limits leave only plain maps with text keys.
    fields = cast("dict[str, object]", unpacked) if isinstance(unpacked, dict) else {}
    if fields.get("type") != "BlobChunk":
        raise ProtocolError("invalid frame: not a BlobChunk")
    blob_id, offset = fields.get("blob_id"), fields.get("offset")
    if data is None and isinstance(found := fields.get("data"), bytes):
        data = found
    is_id = (
        isinstance(blob_id, str)
        and len(blob_id) == _BLOB_ID_DIGITS
        and set(blob_id) <= set("0123456789abcdef")
    )
    is_place = type(offset) is int and offset >= 0
    if not is_id or not is_place or data is None:
        raise ProtocolError("invalid frame: malformed BlobChunk")
    return BlobChunk(BlobId(str(blob_id)), cast("int", offset), data)


def _apart(frame: bytes | bytearray | memoryview) -> tuple[bytes, memoryview] | None:
    """Cut a frame as `encode_chunk` writes it into a map of three fields, and the data.

    The data stay where they are: msgpack would copy them. None if the frame is written otherwise.
    """
    view = memoryview(frame)
    head = bytes(view[:_HEAD_BYTES_MAX])
    end = head.find(_DATA_MARK)
    start = end + len(_DATA_MARK) + 4
    if not head.startswith(b"\x84") or end < 0 or start > len(head):
        return None
    size_bytes = int.from_bytes(head[start - 4 : start], "big")
    # The mark may as well stand within a text: then what is before it is no map of three.
    if size_bytes != len(view) - start or size_bytes > CHUNK_BYTES_MAX:
        return None
    return b"\x83" + head[1:end], view[start:]
