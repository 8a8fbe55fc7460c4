"""The binary frames of streams: msgpack maps with named fields, the data last and untouched.

``type`` is the first field, and ``data``, where there is one, the last. So who passes a frame on
reads its head and never copies or decodes the values: a chunk's bytes belong to the two ends. The
head is padded, so that the data begin at a multiple of 64 bytes, and arrays made on them are
aligned wherever the frame is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Protocol, TypeAlias, cast, get_args

import msgpack  # type: ignore[import-untyped]  # it has no stubs

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.ids import is_name
from lineshaft_protocol.values import value
from lineshaft_protocol.wire import NUMBER_MAX

CHUNK_BYTES_MAX = 16 * 1024 * 1024
"""Longest chunk of a stream, in bytes."""

CHUNKS_MAX = 512
"""Most chunks in one frame."""

FRAME_BYTES_MAX = CHUNK_BYTES_MAX + 16 * 1024
"""Longest frame, in bytes."""

BATCH_BYTES = 256 * 1024
"""Chunks that wait together leave in one frame up to this length, in bytes."""

_HEAD_BYTES_MAX = 8 * 1024
_TEXT_MAX = 2048
_ALIGNMENT = 64
_BIN32 = 0xC6

BytesLike: TypeAlias = bytes | bytearray | memoryview


@value()
class StreamOpen:
    """Worker: an attempt of the stream's job has begun, or can be reached again; attach to it."""

    stream_id: str
    attempt: int


@value()
class StreamAttach:
    """Client: it is I who feeds this stream; tell me where to go on."""

    stream_id: str
    turn: int
    """Counts the client's attachments; frames of an earlier turn are void."""
    first_chunk: int
    """The first chunk that it can still send."""
    next_result: int
    """The first result that it does not have."""


@value()
class StreamReady:
    """Runner: send from this chunk on."""

    stream_id: str
    turn: int
    next_chunk: int


@value()
class ChunkData:
    """Client: chunks, one after the other, from this index on."""

    stream_id: str
    turn: int
    chunk_index: int
    sizes: tuple[int, ...]
    """Length of each chunk, in bytes."""
    data: BytesLike


@value()
class ChunkResult:
    """Runner: results; of streams that give one for each chunk, the result acknowledges it."""

    stream_id: str
    turn: int
    chunk_index: int
    sizes: tuple[int, ...]
    data: BytesLike


@value()
class StreamAck:
    """Receiver: so many chunks (or, from the client, results) are taken in; send more."""

    stream_id: str
    turn: int
    count: int


@value()
class StreamEnd:
    """Sender: there are so many chunks (or, from the runner, results), and no more."""

    stream_id: str
    turn: int
    total_chunks: int


@value()
class StreamFault:
    """Coordinator: the stream cannot go on."""

    stream_id: str
    reason: str


Chunks: TypeAlias = ChunkData | ChunkResult
StreamFrame: TypeAlias = (
    StreamOpen
    | StreamAttach
    | StreamReady
    | ChunkData
    | ChunkResult
    | StreamAck
    | StreamEnd
    | StreamFault
)

_KINDS: dict[str, type[StreamFrame]] = {
    kind.__name__: kind for kind in cast("tuple[type[StreamFrame], ...]", get_args(StreamFrame))
}
_FIELDS = {kind: tuple(each.name for each in fields(kind)) for kind in _KINDS.values()}
_HEADS = {b"\xa4type" + bytes((0xA0 | len(name),)) + name.encode() for name in _KINDS}
_HEAD_LENGTHS = sorted({len(head) for head in _HEADS})


class _Unpacker(Protocol):
    def feed(self, data: BytesLike) -> None: ...
    def read_map_header(self) -> int: ...
    def unpack(self) -> object: ...
    def tell(self) -> int: ...


# The casts stand in for msgpack's missing stubs.
_pack = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpacker = cast("Callable[..., _Unpacker]", msgpack.Unpacker)


def is_stream_frame(frame: BytesLike) -> bool:
    """Whether a binary frame is one of these, whole and sound or not."""
    return any(bytes(frame[1 : 1 + length]) in _HEADS for length in _HEAD_LENGTHS)


def encode_frame(frame: StreamFrame) -> bytes:
    """Write a frame that carries no chunks, or few and short ones."""
    return b"".join(encode_buffers(frame))


def encode_buffers(frame: StreamFrame, parts: Sequence[BytesLike] | None = None) -> list[BytesLike]:
    """Write a frame as buffers to be sent one after the other.

    Args:
        frame: What to write.
        parts: The chunks' bytes, in place of the frame's own ``data``.
    """
    kind = type(frame)
    body: dict[str, object] = {"type": kind.__name__}
    names = _FIELDS[kind]
    for name in names:
        if name != "data":
            body[name] = getattr(frame, name)
    if not isinstance(frame, ChunkData | ChunkResult):
        return [_pack(body)]
    buffers = [frame.data] if parts is None else parts
    size = sum(frame.sizes)
    head = _pack(body)
    # Two fields more: "pad", then "data", whose bytes follow.
    start = len(head) + len(b"\xa3pad\xd9_" + b"\xa4data\xc6____")
    padding = -start % _ALIGNMENT
    tail = b"\xa3pad\xd9" + bytes((padding,)) + b" " * padding
    tail += b"\xa4data\xc6" + size.to_bytes(4, "big")
    return [bytes((head[0] + 2,)) + head[1:] + tail, *buffers]


def decode_frame(frame: BytesLike) -> StreamFrame:
    """Read a frame; the data stay where they are.

    Raises:
        ProtocolError: It is none, or not sound.
    """
    try:
        body = _body(frame)
    except (ValueError, TypeError, msgpack.UnpackException, msgpack.exceptions.OutOfData) as error:
        raise ProtocolError(f"invalid stream frame: {error or 'cut short'}") from error
    kind = _KINDS.get(str(body.pop("type", "")))
    if kind is None:
        raise ProtocolError("invalid stream frame: unknown type")
    names = _FIELDS[kind]
    values = [body.get(name) for name in names]
    for name, part in zip(names, values, strict=True):
        if not _is_sound(name, part):
            raise ProtocolError(f"invalid {kind.__name__}: {name} is missing or malformed")
    if kind is ChunkData or kind is ChunkResult:
        sizes = values[-2] = tuple(cast("list[int]", values[-2]))
        data = cast("memoryview", values[-1])
        if not sizes or sum(sizes) != data.nbytes:
            raise ProtocolError(
                f"invalid {kind.__name__}: sizes say {sum(sizes)} bytes, there are {data.nbytes}"
            )
    return cast("Callable[..., StreamFrame]", kind)(*values)


def chunks_of(frame: Chunks) -> list[memoryview]:
    """Cut the data of a frame into its chunks, without a copy."""
    view = memoryview(frame.data)
    chunks: list[memoryview] = []
    start = 0
    for size in frame.sizes:
        chunks.append(view[start : start + size])
        start += size
    return chunks


def _body(frame: BytesLike) -> dict[str, object]:
    view = memoryview(frame)
    unpacker = _unpacker(
        raw=False,
        strict_map_key=True,
        max_str_len=_TEXT_MAX,
        max_bin_len=0,
        max_array_len=CHUNKS_MAX,
        max_map_len=0,
        max_ext_len=0,
    )
    unpacker.feed(view[:_HEAD_BYTES_MAX])
    count = unpacker.read_map_header()
    if count > 16:
        raise ValueError("too many fields")
    body: dict[str, object] = {}
    for position in range(count):
        key = unpacker.unpack()
        if not isinstance(key, str) or key in body:
            raise ValueError("keys are text, and come once")
        if key == "data":
            if position != count - 1:
                raise ValueError("data must be the last field")
            body["data"] = _data(view, unpacker.tell())
            return body
        body[key] = unpacker.unpack()
    if unpacker.tell() != view.nbytes:
        raise ValueError("something follows its end")
    return body


def _data(view: memoryview, start: int) -> memoryview:
    if view.nbytes < start + 5 or view[start] != _BIN32:
        raise ValueError("data must be a bin of 32 bits length")
    length = int.from_bytes(view[start + 1 : start + 5], "big")
    data = view[start + 5 :]
    if data.nbytes != length:
        raise ValueError(f"data claims {length} bytes, there are {data.nbytes}")
    return data


def _is_sound(name: str, value: object) -> bool:
    match name:
        case "stream_id":
            return isinstance(value, str) and is_name(value)
        case "reason":
            return isinstance(value, str)
        case "data":
            return isinstance(value, memoryview)
        case "sizes":
            return isinstance(value, list) and all(
                type(size) is int and 0 <= size <= CHUNK_BYTES_MAX
                for size in cast("Iterable[object]", value)
            )
        case _:
            return type(value) is int and 0 <= value <= NUMBER_MAX
