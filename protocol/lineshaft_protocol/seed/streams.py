"""Streams: chunks of a value that follow each other, as msgpack in binary frames.

Written with named fields, which peers of all dialects read; read with named fields, positional, or
mixed, as peers of dialects A and B write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, TypeAlias

from lineshaft_protocol.seed.msgpack_frames import FRAME_BYTES_MAX, decode_msgpack, encode_msgpack
from lineshaft_protocol.seed.plans import SerializedPlan
from lineshaft_protocol.seed.results import PlanResult
from lineshaft_protocol.seed.values import Value
from lineshaft_protocol.seed.wire import U64, Dialect, SeedModel, by_name, read_tagged


class _StreamMessage(SeedModel):
    tag: ClassVar[str | None] = "type"


class StreamBegin(_StreamMessage):
    """Opens a stream through a plan; answered by nothing if all is well."""

    stream_id: str
    plan_id: str
    total_chunks: U64 | None = None
    plan: SerializedPlan


class ChunkData(_StreamMessage):
    """One chunk of the input."""

    stream_id: str
    chunk_index: U64
    value: Value


class StreamEnd(_StreamMessage):
    """No more chunks come."""

    stream_id: str


class ChunkResult(_StreamMessage):
    """The output for the chunk of the same index."""

    stream_id: str
    chunk_index: U64
    value: Value


class StreamComplete(_StreamMessage):
    """The stream is over, well or not."""

    stream_id: str
    result: PlanResult


StreamMessage: TypeAlias = StreamBegin | ChunkData | StreamEnd | ChunkResult | StreamComplete
_STREAM_MESSAGES: Final[Mapping[str, type[StreamMessage]]] = by_name(
    StreamBegin, ChunkData, StreamEnd, ChunkResult, StreamComplete
)


def decode_stream(data: bytes, *, bytes_max: int = FRAME_BYTES_MAX) -> StreamMessage:
    """Read a binary frame.

    Raises:
        ProtocolError: It is no stream message, or longer than `bytes_max`.
    """
    document = decode_msgpack(data, bytes_max=bytes_max)
    return read_tagged(document, tag="type", variants=_STREAM_MESSAGES)


def encode_stream(message: StreamMessage, *, dialect: Dialect = "A") -> bytes:
    """Write a binary frame.

    Args:
        message: What to say.
        dialect: The peer's, if known; `unknown` is read by all.

    Raises:
        UnencodableError: It holds what msgpack or the dialect cannot carry.
    """
    return encode_msgpack(message.to_wire(dialect))
