"""The coordinator's part of streams: frames from a client to the worker of its job, and back.

Theory. A stream is a job of kind ``stream``, and has its name. Its client *attaches* from a
session, the worker that runs it *opens* it from another; frames go between the two, in order, and
no value is ever looked at. Nothing is kept here: what a cut swallows, the ends send again. So a
restart of the coordinator is to a stream what any cut is.

A worker's word counts if the ledger leases that attempt to it. A client that is away for too long
has abandoned its stream: the job is cancelled, so that it holds no slot for ever.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lineshaft_protocol.ids import Session
from lineshaft_protocol.stream_frames import (
    BytesLike,
    ChunkData,
    ChunkResult,
    StreamAck,
    StreamAttach,
    StreamEnd,
    StreamFault,
    StreamOpen,
    StreamReady,
    decode_frame,
    encode_frame,
)

logger = logging.getLogger(__name__)

ABANDONED_S = 300.0
"""How long a stream waits for its client to come back, in seconds."""
SWEEP_S = 15.0
STREAMS_MAX = 10_000
"""Most streams at a time; more are refused."""


class Port(Protocol):
    """The way to a client or worker."""

    def send_frame(self, stream_id: str, buffers: Sequence[BytesLike]) -> bool:
        """Send a frame, now or in its turn; False if too much of the stream waits."""
        ...

    def close(self, reason: str) -> None:
        """End the session: the peer broke a rule."""
        ...


class Desk(Protocol):
    """What the relay asks of the daemon."""

    def is_leased(self, session: Session, job_id: str, attempt: int) -> bool:
        """Whether the worker of this session has this attempt."""
        ...

    def is_live_stream(self, job_id: str) -> bool:
        """Whether there is a job of kind ``stream`` that has not ended."""
        ...

    def abandon(self, job_id: str, reason: str) -> None:
        """Cancel a job."""
        ...


@dataclass(slots=True)
class _Stream:
    client: Port | None = None
    worker: Port | None = None
    away_since: float = 0.0


class StreamRelay:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._streams: dict[str, _Stream] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def receive(
        self,
        session: Session,
        role: Literal["client", "worker"],
        port: Port,
        data: bytes | bytearray,
    ) -> None:
        """Pass a frame on.

        Raises:
            ProtocolError: It is no sound frame.
        """
        frame = decode_frame(data)
        stream = self._streams.get(frame.stream_id)
        if role == "client":
            self._from_client(port, frame, data, stream)
        else:
            self._from_worker(session, port, frame, data, stream)

    def gone(self, port: Port) -> None:
        """A session is over: its streams wait for the next."""
        now = asyncio.get_running_loop().time()
        for stream in self._streams.values():
            if stream.client is port:
                stream.client, stream.away_since = None, now
            if stream.worker is port:
                stream.worker = None

    def close(self) -> None:
        """Sweep no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _from_client(
        self,
        port: Port,
        frame: object,
        data: bytes | bytearray,
        stream: _Stream | None,
    ) -> None:
        match frame:
            case StreamAttach(stream_id=stream_id):
                if not self._desk.is_live_stream(stream_id):
                    self._fault(port, stream_id, "there is no such stream, or it has ended")
                    return
                if stream is None and len(self._streams) >= STREAMS_MAX:
                    self._fault(port, stream_id, f"{STREAMS_MAX} streams are open already")
                    return
                stream = stream or self._add(stream_id)
                stream.client = port
            case (
                ChunkData(stream_id=stream_id)
                | StreamAck(stream_id=stream_id)
                | StreamEnd(stream_id=stream_id)
            ):
                if stream is None or stream.client is not port:
                    self._fault(port, stream_id, "this session is not attached to the stream")
                    return
            case _:
                port.close(f"{type(frame).__name__} is not for a client to send")
                return
        # Without a worker it is void: the client attaches again when there is one.
        if stream.worker is not None and not stream.worker.send_frame(stream_id, [data]):
            port.close(f"more of stream {stream_id} is on its way than the window allows")

    def _from_worker(
        self,
        session: Session,
        port: Port,
        frame: object,
        data: bytes | bytearray,
        stream: _Stream | None,
    ) -> None:
        match frame:
            case StreamOpen(stream_id=stream_id, attempt=attempt):
                if not self._desk.is_leased(session, stream_id, attempt):
                    return  # Settled, or given to another: that worker is told in other words.
                stream = stream or self._add(stream_id)
                stream.worker = port
            case (
                ChunkResult(stream_id=stream_id)
                | StreamAck(stream_id=stream_id)
                | StreamEnd(stream_id=stream_id)
                | StreamReady(stream_id=stream_id)
            ):
                if stream is None or stream.worker is not port:
                    return  # An attempt that was given up still speaks.
            case _:
                port.close(f"{type(frame).__name__} is not for a worker to send")
                return
        # Without a client it is void: the runner keeps it until the client has it.
        if stream.client is not None and not stream.client.send_frame(stream_id, [data]):
            port.close(f"more of stream {stream_id} is on its way than the window allows")

    def _fault(self, port: Port, stream_id: str, reason: str) -> None:
        port.send_frame(stream_id, [encode_frame(StreamFault(stream_id, reason))])

    def _add(self, stream_id: str) -> _Stream:
        loop = asyncio.get_running_loop()
        stream = self._streams[stream_id] = _Stream(away_since=loop.time())
        if self._sweeping is None:
            self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        return stream

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for stream_id, stream in tuple(self._streams.items()):
            if not self._desk.is_live_stream(stream_id):
                del self._streams[stream_id]
            elif stream.client is None and loop.time() - stream.away_since > ABANDONED_S:
                del self._streams[stream_id]
                logger.warning("stream abandoned", extra={"job_id": stream_id})
                reason = f"its client has been away for {ABANDONED_S:g} s"
                self._desk.abandon(stream_id, reason)
        self._sweeping = loop.call_later(SWEEP_S, self._sweep) if self._streams else None
