"""Frames of streams between sessions: who may say what, and what happens when somebody leaves."""

from collections.abc import Sequence
from typing import Literal

import pytest

from lineshaft_coordinator.data.stream_relay import StreamRelay
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.ids import Session
from lineshaft_protocol.stream_frames import (
    BytesLike,
    ChunkData,
    ChunkResult,
    StreamAck,
    StreamAttach,
    StreamEnd,
    StreamFault,
    StreamFrame,
    StreamOpen,
    StreamReady,
    decode_frame,
    encode_frame,
)

ID = "job-1"
ATTACH = StreamAttach(ID, 1, 0, 0)
OPEN = StreamOpen(ID, 1)
CHUNK = ChunkData(ID, 1, 0, (1,), b"a")
RESULT = ChunkResult(ID, 1, 0, (1,), b"A")


class SomePort:
    def __init__(self, session: int, role: Literal["client", "worker"]) -> None:
        self.session, self.role = Session(session), role
        self.got: list[StreamFrame] = []
        self.closed: list[str] = []
        self.is_full = False

    def send_frame(self, stream_id: str, buffers: Sequence[BytesLike]) -> bool:
        frame = decode_frame(b"".join(buffers))
        assert frame.stream_id == stream_id
        self.got.append(frame)
        return not self.is_full

    def close(self, reason: str) -> None:
        self.closed.append(reason)


class Bench:
    def __init__(self) -> None:
        self.client, self.worker = SomePort(1, "client"), SomePort(2, "worker")
        self.other = SomePort(3, "client")
        self.relay = StreamRelay(self)
        self.leased = {(Session(2), ID, 1)}
        self.live = {ID}

    def is_leased(self, session: Session, job_id: str, attempt: int) -> bool:
        return (session, job_id, attempt) in self.leased

    def is_live_stream(self, job_id: str) -> bool:
        return job_id in self.live

    def abandon(self, job_id: str, reason: str) -> None:
        raise AssertionError(f"{job_id} abandoned: {reason}")

    def say(self, port: SomePort, *frames: StreamFrame) -> None:
        for frame in frames:
            self.relay.receive(port.session, port.role, port, bytearray(encode_frame(frame)))


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_frames_go_between_client_and_worker_as_they_are(bench: Bench) -> None:
    bench.say(bench.client, ATTACH)
    bench.say(bench.worker, OPEN)
    bench.say(bench.client, ATTACH, CHUNK, StreamEnd(ID, 1, 1), StreamAck(ID, 1, 1))
    bench.say(bench.worker, StreamReady(ID, 1, 0), RESULT, StreamEnd(ID, 1, 1))

    assert bench.client.got == [OPEN, StreamReady(ID, 1, 0), RESULT, StreamEnd(ID, 1, 1)]
    assert bench.worker.got == [ATTACH, CHUNK, StreamEnd(ID, 1, 1), StreamAck(ID, 1, 1)]
    bench.relay.close()


async def test_what_is_for_nobody_is_void(bench: Bench) -> None:
    bench.say(bench.worker, RESULT, OPEN, RESULT)
    bench.say(bench.client, ATTACH)

    assert bench.worker.got == [ATTACH]
    assert bench.client.got == []
    bench.relay.close()


async def test_a_worker_that_does_not_have_the_attempt_is_not_believed(bench: Bench) -> None:
    bench.say(bench.client, ATTACH)
    bench.say(bench.worker, StreamOpen(ID, 2), RESULT)

    assert bench.client.got == []
    assert bench.worker.closed == []
    bench.relay.close()


@pytest.mark.parametrize("frame", [CHUNK, StreamEnd(ID, 1, 0), StreamAck(ID, 1, 0)])
async def test_who_is_not_attached_is_told_so(bench: Bench, frame: StreamFrame) -> None:
    bench.say(bench.client, ATTACH)
    bench.say(bench.worker, OPEN)

    bench.say(bench.other, frame)

    (fault,) = bench.other.got
    assert isinstance(fault, StreamFault)
    assert "not attached" in fault.reason
    assert bench.worker.got == []
    bench.relay.close()


async def test_a_stream_that_nobody_knows_is_told_of(bench: Bench) -> None:
    bench.live.clear()
    bench.say(bench.client, ATTACH)

    assert bench.client.got == [StreamFault(ID, "there is no such stream, or it has ended")]
    assert not len(bench.relay)


async def test_the_newest_attachment_counts(bench: Bench) -> None:
    bench.say(bench.client, ATTACH)
    bench.say(bench.other, ATTACH)
    bench.say(bench.worker, OPEN)

    assert bench.client.got == []
    assert bench.other.got == [OPEN]
    bench.relay.close()


async def test_who_left_gets_nothing_more_and_may_come_back(bench: Bench) -> None:
    bench.say(bench.client, ATTACH)
    bench.say(bench.worker, OPEN)
    bench.relay.gone(bench.client)
    bench.say(bench.worker, RESULT)
    bench.say(bench.other, ATTACH)
    bench.relay.gone(bench.worker)
    bench.say(bench.other, CHUNK)

    assert bench.client.got == [OPEN]
    assert bench.worker.got == [ATTACH]
    bench.relay.close()


@pytest.mark.parametrize("frame", [OPEN, RESULT, StreamReady(ID, 1, 0), StreamFault(ID, "no")])
async def test_a_client_that_speaks_like_a_worker_is_closed(
    bench: Bench, frame: StreamFrame
) -> None:
    bench.say(bench.client, frame)

    assert len(bench.client.closed) == 1


@pytest.mark.parametrize("frame", [ATTACH, CHUNK, StreamFault(ID, "no")])
async def test_a_worker_that_speaks_like_a_client_is_closed(
    bench: Bench, frame: StreamFrame
) -> None:
    bench.say(bench.worker, frame)

    assert len(bench.worker.closed) == 1


async def test_who_sends_beyond_the_window_is_closed_and_not_who_reads_slowly(
    bench: Bench,
) -> None:
    bench.say(bench.client, ATTACH)
    bench.say(bench.worker, OPEN)
    bench.worker.is_full = True

    bench.say(bench.client, CHUNK)

    assert "window" in bench.client.closed[0]
    assert bench.worker.closed == []
    bench.relay.close()


async def test_what_is_no_sound_frame_is_the_peers_fault(bench: Bench) -> None:
    with pytest.raises(ProtocolError):
        bench.relay.receive(Session(1), "client", bench.client, bytearray(b"\x81\xa4type"))
