"""The runner's end of a stream: chunks in, through the plan, results out, until all are taken.

Theory. One thread does it all. It works on chunks that are here while there is room for results,
and reads its pipe only when there is nothing else to do: what the client may have under way is
bounded by the window, so the daemon never holds more. The client attaches, perhaps again after a
cut; each attachment is a *turn*, and what was under way in an earlier one is void. The attempt ends
when the client has taken every result, so that a cut in the last moment loses none.
"""

import time
from collections import deque
from typing import Protocol

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.stream_flow import Inlet, Outlet
from lineshaft_protocol.stream_frames import (
    BATCH_BYTES,
    BytesLike,
    ChunkData,
    ChunkResult,
    StreamAck,
    StreamAttach,
    StreamEnd,
    StreamFrame,
    StreamReady,
    chunks_of,
    decode_frame,
    encode_buffers,
)
from lineshaft_runtime.plans.errors import StreamStateLostError
from lineshaft_runtime.plans.streaming import StreamPlan
from lineshaft_worker.runner.stream_pipe import PipeLostError

FLUSH_S = 0.002
"""Results wait for others no longer than this, in seconds."""


class Pipe(Protocol):
    """The way to the daemon."""

    def dial(self) -> None:
        """Connect."""
        ...

    def send(self, buffers: list[BytesLike]) -> None:
        """Send a frame. Raises PipeLostError."""
        ...

    def receive(self) -> BytesLike:
        """Wait for a frame. Raises PipeLostError."""
        ...


class StreamRunner:
    """Serves one stream from its beginning to its end."""

    def __init__(self, stream_id: str, plan: StreamPlan, pipe: Pipe) -> None:
        self._stream_id, self._plan, self._pipe = stream_id, plan, pipe
        self._inlet, self._outlet = Inlet(), Outlet()
        self._chunks: deque[memoryview] = deque()
        self._turn = 0
        self._error: Exception | None = None
        self._unsent_bytes = 0
        self._flushed = 0.0

    def serve(self) -> None:
        """Work until the client has every result.

        Raises:
            ChunkFailedError: A chunk failed; the client has all results before it.
            StreamStateLostError: The client goes on where this runner cannot.
            ProtocolError: The client broke the order of the stream.
            NoDaemonError: The daemon is gone, and none came after it.
        """
        self._pipe.dial()
        while not self._outlet.is_done:
            try:
                if self._chunks and self._outlet.has_room and self._error is None:
                    self._work()
                else:
                    self._flush()
                    self._take(decode_frame(self._pipe.receive()))
                self._end_if_due()
            except PipeLostError:
                self._turn = 0
                self._pipe.dial()
            if self._error is not None and self._outlet.first == self._outlet.count:
                raise self._error

    # --- chunks ---

    def _work(self) -> None:
        data = self._chunks.popleft()
        try:
            result = self._plan.take(data)
        except Exception as error:  # noqa: BLE001 - raised when the results before it are taken
            self._fail(error)
            return
        self._inlet.consume(len(data))
        if result is not None:
            # A copy: the next chunk may change what the views show.
            self._put(b"".join(result))
        elif (count := self._inlet.ack_due()) is not None:
            self._say(StreamAck(self._stream_id, self._turn, count))

    def _put(self, result: bytes) -> None:
        self._outlet.put(result)
        self._unsent_bytes += len(result)
        if (
            self._unsent_bytes >= BATCH_BYTES
            or not self._chunks
            or time.monotonic() - self._flushed > FLUSH_S
        ):
            self._flush()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._chunks.clear()

    def _end_if_due(self) -> None:
        if self._error is not None or self._outlet.is_ended or not self._inlet.is_done:
            return
        try:
            result = self._plan.finish()
        except Exception as error:  # noqa: BLE001 - as in `_work`
            self._fail(error)
            return
        if result is not None:
            self._outlet.put(b"".join(result))
        self._outlet.end()
        self._flush()

    # --- frames ---

    def _take(self, frame: StreamFrame) -> None:
        match frame:
            case StreamAttach():
                self._on_attach(frame)
            case ChunkData(turn=turn, chunk_index=index, sizes=sizes):
                if turn == self._turn and self._error is None:
                    self._inlet.take(index, sizes)
                    self._chunks.extend(chunks_of(frame))
            case StreamAck(turn=turn, count=count):
                if turn == self._turn:
                    self._outlet.acknowledge(count)
            case StreamEnd(turn=turn, total_chunks=total):
                if turn == self._turn and self._error is None:
                    self._inlet.end(total)
            case _:
                raise ProtocolError(f"{type(frame).__name__} is not for a runner")

    def _on_attach(self, attach: StreamAttach) -> None:
        if attach.turn <= self._turn:
            return
        if not self._inlet.next and not self._outlet.count and attach.first_chunk:
            # Another runner had the chunks before; only what depends on no other can go on.
            if self._plan.is_stateful:
                self._fail(StreamStateLostError(attach.first_chunk))
                return
            self._inlet.start(attach.first_chunk)
            self._outlet.start(attach.next_result)
            self._plan.start(attach.first_chunk)
        if attach.first_chunk > self._inlet.next:
            raise ProtocolError(
                f"the client begins at chunk {attach.first_chunk}, but {self._inlet.next} "
                "comes next"
            )
        self._turn = attach.turn
        self._outlet.rewind(attach.next_result)
        self._say(StreamReady(self._stream_id, self._turn, self._inlet.next))
        self._flush()

    def _flush(self) -> None:
        self._unsent_bytes = 0
        self._flushed = time.monotonic()
        if not self._turn:
            return
        while (taken := self._outlet.take()) is not None:
            index, parts = taken
            sizes = tuple(map(len, parts))
            frame = ChunkResult(self._stream_id, self._turn, index, sizes, b"")
            self._pipe.send(encode_buffers(frame, parts))
        if (total := self._outlet.take_end()) is not None:
            self._say(StreamEnd(self._stream_id, self._turn, total))

    def _say(self, frame: StreamFrame) -> None:
        self._pipe.send(encode_buffers(frame))
