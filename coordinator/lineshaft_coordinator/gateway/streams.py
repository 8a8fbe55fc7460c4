"""Streams of seed clients: their results leave in the order of the chunks.

One stream of a connection *rides*: a job of kind `stream` takes all its chunks. It holds a slot
from its first chunk to its end. So only one does: replies of a connection leave in order, and if
each of its streams needed a slot at the same time, they could wait for each other for ever. A chunk
of the others is a plan job of its own, and so is one that is too long to ride.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from lineshaft_coordinator.gateway.job_client import JobClient
from lineshaft_coordinator.gateway.payloads import apart
from lineshaft_coordinator.gateway.plans import Plans, new_job_id, read_result
from lineshaft_coordinator.gateway.riding import RidingStream
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import (
    ChunkData,
    ChunkResult,
    Dialect,
    Empty,
    Failed,
    Forward,
    InlineInput,
    InlineOutput,
    SerializedPlan,
    StreamBegin,
    StreamComplete,
    StreamEnd,
    Success,
    dialect_of,
    encode_stream,
)
from lineshaft_protocol.seed.msgpack_frames import decode_msgpack, encode_msgpack
from lineshaft_protocol.seed.values import read_value
from lineshaft_protocol.stream_frames import CHUNK_BYTES_MAX

STREAMS_MAX = 64
"""Open ones of one connection."""

Reply = Callable[[], Awaitable[bytes | None]]
"""Gives one frame when its turn to be sent has come, or nothing."""


@dataclass(slots=True)
class _Stream:
    stream_id: str
    plan: SerializedPlan
    dialect: Dialect
    filter_bytes: int
    began_at: float
    is_failed: bool = False
    may_ride: bool = False
    riding: RidingStream | None = None
    tasks: set[asyncio.Task[bytes | Failed]] = field(
        default_factory=set[asyncio.Task[bytes | Failed]]
    )


class Streams:
    """The streams of one connection; they end with it."""

    def __init__(self, plans: Plans, client: JobClient, identity: str) -> None:
        self._plans, self._client, self._identity = plans, client, identity
        self._streams: dict[str, _Stream] = {}
        self._tasks: set[asyncio.Task[bytes | Failed]] = set()
        self._riding: list[RidingStream] = []

    def begin(self, begin: StreamBegin) -> Reply | None:
        """Open a stream; says something only if that is not possible."""
        if len(self._streams) >= STREAMS_MAX and begin.stream_id not in self._streams:
            error = f"{STREAMS_MAX} streams are open on this connection; end one first"
            return _ready(_failure(begin.stream_id, error, dialect_of(begin.plan)))
        # Streams only run filters, they train none: what each chunk would teach, no other knows.
        plan = self._plans.complete(self._identity, begin.plan)
        self._streams[begin.stream_id] = _Stream(
            begin.stream_id,
            plan.model_copy(update={"mode": Forward()}),
            dialect_of(begin.plan),
            sum(len(each.pickled_filter) for each in plan.filters),
            time.monotonic(),
            may_ride=not any(each.may_ride for each in self._streams.values()),
        )
        return None

    def chunk(self, chunk: ChunkData, size_bytes: int, dialect: Dialect) -> Reply:
        """Start to run a chunk.

        Args:
            chunk: As it came, in a frame of so many bytes.
            size_bytes: See above.
            dialect: The connection's, for a stream that is not known.
        """
        stream = self._streams.get(chunk.stream_id)
        if stream is None:
            return _ready(_failure(chunk.stream_id, "unknown stream_id", dialect))
        if stream.is_failed:
            return _ready(None)
        if stream.may_ride and size_bytes <= CHUNK_BYTES_MAX // 2:
            data = encode_msgpack(chunk.value.to_wire("C"))
            return partial(self._finish_ridden, stream, chunk.chunk_index, self._ride(stream, data))
        plan = stream.plan.model_copy(update={"input": InlineInput(value=chunk.value)})
        size_bytes += stream.filter_bytes
        running = self._plans.run_once(
            plan, client=self._client, size_bytes=size_bytes, job_id=new_job_id()
        )
        task = asyncio.create_task(running)
        for tasks in (self._tasks, stream.tasks):
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return partial(self._finish_chunk, stream, chunk.chunk_index, task)

    def end(self, end: StreamEnd) -> Reply:
        """Close a stream; upstream says nothing about one that is not known."""
        stream = self._streams.pop(end.stream_id, None)
        if stream is None:
            return _ready(None)
        if stream.riding is not None:
            stream.riding.end()
        return partial(self._complete, stream)

    async def close(self) -> None:
        """Cancel what still runs."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for riding in self._riding:
            await riding.leave()
        self._streams.clear()

    def _ride(self, stream: _Stream, data: bytes) -> asyncio.Future[bytes | Failed]:
        if stream.riding is None:
            stream.riding = RidingStream(
                stream.plan,
                plans=self._plans,
                client=self._client,
                size_bytes=stream.filter_bytes,
            )
            self._riding.append(stream.riding)
        return stream.riding.chunk(data)

    async def _finish_ridden(
        self, stream: _Stream, index: int, result: asyncio.Future[bytes | Failed]
    ) -> bytes | None:
        if stream.is_failed:
            return None
        ended = await result
        if isinstance(ended, Failed):
            return self._fail(stream, index, ended.error)
        try:
            value = await apart(len(ended), lambda: read_value(decode_msgpack(ended)))
        except ProtocolError as error:
            return self._fail(stream, index, f"the result cannot be read: {error.reason}")
        message = ChunkResult(stream_id=stream.stream_id, chunk_index=index, value=value)
        return encode_stream(message, dialect=stream.dialect)

    async def _finish_chunk(
        self, stream: _Stream, index: int, task: asyncio.Task[bytes | Failed]
    ) -> bytes | None:
        if stream.is_failed:
            return None
        result = await task
        ended = (
            result
            if isinstance(result, Failed)
            else await apart(len(result), partial(read_result, result))
        )
        match ended:
            case Success(output=InlineOutput(value=value)):
                message = ChunkResult(stream_id=stream.stream_id, chunk_index=index, value=value)
                return encode_stream(message, dialect=stream.dialect)
            case Success():
                return self._fail(stream, index, "the runner gave a reference")
            case Failed(error=error):
                return self._fail(stream, index, error)

    def _fail(self, stream: _Stream, index: int, error: str) -> bytes:
        # The stream stays known: chunks that are on their way are no new surprise to anybody.
        stream.is_failed = True
        for task in tuple(stream.tasks):
            task.cancel()
        return _failure(stream.stream_id, f"chunk {index}: {error}", stream.dialect)

    async def _complete(self, stream: _Stream) -> bytes | None:
        if stream.is_failed:
            return None
        duration_ms = int(1000 * (time.monotonic() - stream.began_at))
        result = Success(output=InlineOutput(value=Empty()), duration_ms=duration_ms)
        message = StreamComplete(stream_id=stream.stream_id, result=result)
        return encode_stream(message, dialect=stream.dialect)


def _failure(stream_id: str, error: str, dialect: Dialect) -> bytes:
    result = Failed(error=error, duration_ms=0)
    return encode_stream(StreamComplete(stream_id=stream_id, result=result), dialect=dialect)


def _ready(frame: bytes | None) -> Reply:
    async def reply() -> bytes | None:
        return frame

    return reply
