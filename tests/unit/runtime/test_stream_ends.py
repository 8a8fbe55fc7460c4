"""A runner's end and a client's end of a stream, joined by hand: no sockets, no clock."""

from collections import deque
from collections.abc import Callable, Sequence

import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed.plans import Execute
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
from lineshaft_runtime.packing import pack_bytes, unpack
from lineshaft_runtime.plans.calling import NativeCalling
from lineshaft_runtime.plans.errors import ChunkFailedError, StreamStateLostError
from lineshaft_runtime.plans.streaming import PackedChunks, StreamPlan
from lineshaft_runtime.stream_feed import StreamFeed
from lineshaft_worker.runner.stream_end import StreamRunner
from lineshaft_worker.runner.stream_pipe import NoDaemonError, PipeLostError

ID = "job-1"


class Total:
    """Sums up what it has seen."""

    _stream_mode = "evolving"

    def advance(self, x: int, state: int | None) -> tuple[int, int]:
        total = (state or 0) + x
        return total, total


def double(x: object) -> object:
    return x * 2  # type: ignore[operator]


class Doubling:
    def forward(self, x: object) -> object:
        return double(x)


def plan_of(node_filter: object) -> StreamPlan:
    return StreamPlan(
        Execute(node_id="a"),
        filters={"a": node_filter},
        states={},
        edges=None,
        calling=NativeCalling(),
        coding=PackedChunks(),
    )


class ScriptedPipe:
    """Says to a runner what the script says, and keeps what it answers."""

    def __init__(self, script: Sequence[StreamFrame | None]) -> None:
        self._script = deque(script)
        self.said: list[StreamFrame] = []
        self.dialled = 0

    def dial(self) -> None:
        if not self._script:
            raise NoDaemonError
        self.dialled += 1

    def send(self, buffers: list[BytesLike]) -> None:
        self.said.append(decode_frame(b"".join(buffers)))

    def receive(self) -> BytesLike:
        frame = self._script.popleft() if self._script else None
        if frame is None:
            raise PipeLostError
        return encode_frame(frame)


def data(index: int, *values: object, turn: int = 1) -> ChunkData:
    chunks = [pack_bytes(value) for value in values]
    return ChunkData(ID, turn, index, tuple(map(len, chunks)), b"".join(chunks))


def results(said: list[StreamFrame]) -> list[tuple[int, object]]:
    """Chunks and their results; how many go into one frame is a matter of time."""
    found: list[tuple[int, object]] = []
    for frame in said:
        if isinstance(frame, ChunkResult):
            start = 0
            for index, size in enumerate(frame.sizes, start=frame.chunk_index):
                found.append((index, unpack(bytes(frame.data[start : start + size]))))
                start += size
    return found


def served(node_filter: object, *script: StreamFrame | None) -> ScriptedPipe:
    pipe = ScriptedPipe(script)
    StreamRunner(ID, plan_of(node_filter), pipe).serve()
    return pipe


def test_a_runner_answers_chunks_in_order_and_ends_when_all_are_taken() -> None:
    pipe = served(
        Doubling(),
        StreamAttach(ID, 1, 0, 0),
        data(0, 1, 2),
        data(2, 3),
        StreamEnd(ID, 1, 3),
        StreamAck(ID, 1, 3),
    )

    assert pipe.said[0] == StreamReady(ID, 1, 0)
    assert results(pipe.said) == [(0, 2), (1, 4), (2, 6)]
    assert pipe.said[-1] == StreamEnd(ID, 1, 3)


def test_after_a_cut_results_that_were_not_received_are_sent_again() -> None:
    pipe = served(
        Total(),
        StreamAttach(ID, 1, 0, 0),
        data(0, 1, 2, 3),
        None,
        data(3, 100),  # Of the turn before: void.
        StreamAttach(ID, 2, 1, 1),
        data(3, 4, turn=2),
        StreamEnd(ID, 2, 4),
        StreamAck(ID, 2, 4),
    )

    assert pipe.dialled == 2
    assert [each for each in pipe.said if isinstance(each, StreamReady)] == [
        StreamReady(ID, 1, 0),
        StreamReady(ID, 2, 3),
    ]
    assert results(pipe.said) == [(0, 1), (1, 3), (2, 6), (1, 3), (2, 6), (3, 10)]


def test_a_new_runner_goes_on_where_the_last_one_was_if_there_is_no_state() -> None:
    pipe = served(
        Doubling(),
        StreamAttach(ID, 4, 7, 7),
        data(7, 1, turn=4),
        StreamEnd(ID, 4, 8),
        StreamAck(ID, 4, 8),
    )

    assert pipe.said[0] == StreamReady(ID, 4, 7)
    assert results(pipe.said) == [(7, 2)]


def test_a_new_runner_does_not_pretend_to_have_the_state_of_the_last() -> None:
    with pytest.raises(StreamStateLostError, match="chunk 7"):
        served(Total(), StreamAttach(ID, 4, 7, 7))


def test_a_failure_waits_until_the_results_before_it_are_taken() -> None:
    pipe = ScriptedPipe(
        [StreamAttach(ID, 1, 0, 0), data(0, 1, None, 3), data(3, 4), StreamAck(ID, 1, 1)]
    )

    with pytest.raises(ChunkFailedError, match="chunk 1"):
        StreamRunner(ID, plan_of(Doubling()), pipe).serve()

    assert results(pipe.said) == [(0, 2)]
    assert not pipe._script


WRONG: dict[str, list[StreamFrame]] = {
    "is missing": [data(1, 5)],
    "twice": [data(0, 5), data(0, 5)],
    "after the end": [data(0, 5), StreamEnd(ID, 1, 1), data(1, 5)],
    "comes next": [data(0, 5), StreamEnd(ID, 1, 2)],
    "ended twice": [data(0, 5, 6), StreamEnd(ID, 1, 2), StreamEnd(ID, 1, 3)],
    "not sent": [StreamAck(ID, 1, 1)],
    "can be sent": [StreamAttach(ID, 2, 0, 1)],
    "client begins at": [data(0, 5), StreamAttach(ID, 2, 2, 0)],
    "StreamReady is not for": [StreamReady(ID, 1, 0)],
    "StreamFault is not for": [StreamFault(ID, "no")],
    "ChunkResult is not for": [ChunkResult(ID, 1, 0, (1,), b"a")],
}


@pytest.mark.parametrize("what", WRONG)
def test_a_client_that_breaks_the_rules_fails_its_own_stream(what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        served(Doubling(), StreamAttach(ID, 1, 0, 0), *WRONG[what])


def test_a_chunk_that_cannot_be_unpacked_fails_the_stream_by_its_number() -> None:
    bad = ChunkData(ID, 1, 1, (3,), b"bad")

    with pytest.raises(ChunkFailedError, match=r"chunk 1: .*packed value"):
        served(Doubling(), StreamAttach(ID, 1, 0, 0), data(0, 1), bad, StreamAck(ID, 1, 1))


class FeedBench:
    def __init__(self) -> None:
        self.sent: list[StreamFrame] = []
        self.results: list[bytes] = []
        self.rooms = 0
        self.faults: list[str] = []
        self.feed = StreamFeed(
            ID,
            lambda _, buffers: self.sent.append(decode_frame(b"".join(buffers))),
            on_results=lambda results: self.results.extend(map(bytes, results)),
            on_room=self._on_room,
            on_fault=self.faults.append,
        )

    def _on_room(self) -> None:
        self.rooms += 1

    def hear(self, *frames: StreamFrame) -> list[StreamFrame]:
        """What it says to these."""
        before = len(self.sent)
        for frame in frames:
            self.feed.on_frame(bytearray(encode_frame(frame)))
        return self.sent[before:]


@pytest.fixture
def bench() -> FeedBench:
    made = FeedBench()
    for chunk in (b"a", b"bb", b"c"):
        made.feed.put(chunk)
    made.feed.attach()
    return made


def test_a_feed_sends_nothing_before_the_runner_is_ready(bench: FeedBench) -> None:
    bench.feed.push()

    assert bench.sent == [StreamAttach(ID, 1, 0, 0)]
    assert bench.hear(StreamReady(ID, 1, 0)) == [ChunkData(ID, 1, 0, (1, 2, 1), b"abbc")]


def test_a_feed_attaches_anew_and_goes_on_where_the_runner_stands(bench: FeedBench) -> None:
    bench.hear(StreamReady(ID, 1, 0), ChunkResult(ID, 1, 0, (1,), b"A"))
    bench.feed.end()

    assert bench.hear(StreamOpen(ID, 1)) == [StreamAttach(ID, 2, 1, 1)]
    assert bench.hear(ChunkResult(ID, 1, 1, (3,), b"old")) == []
    assert bench.hear(StreamReady(ID, 2, 2)) == [
        ChunkData(ID, 2, 2, (1,), b"c"),
        StreamEnd(ID, 2, 3),
    ]
    assert bench.results == [b"A"]


def test_results_are_acknowledged_when_they_are_consumed(bench: FeedBench) -> None:
    assert bench.hear(StreamReady(ID, 1, 0), ChunkResult(ID, 1, 0, (1, 1), b"AB"))[1:] == []

    bench.feed.consumed([1, 1])

    assert bench.sent[-1] == StreamAck(ID, 1, 2)


def test_a_fault_is_told(bench: FeedBench) -> None:
    bench.hear(StreamFault(ID, "too many streams"))

    assert bench.faults == ["too many streams"]


LIES: dict[str, Callable[[FeedBench], object]] = {
    "is missing": lambda bench: bench.hear(ChunkResult(ID, 1, 1, (1,), b"B")),
    "twice": lambda bench: bench.hear(*[ChunkResult(ID, 1, 0, (1,), b"A")] * 2),
    "not sent": lambda bench: bench.hear(ChunkResult(ID, 1, 0, (0,) * 4, b"")),
    "was not sent": lambda bench: bench.hear(StreamAck(ID, 1, 9)),
    "can be sent": lambda bench: bench.hear(StreamReady(ID, 1, 4)),
    "comes next": lambda bench: bench.hear(StreamEnd(ID, 1, 2)),
    "not for a client": lambda bench: bench.hear(StreamAttach(ID, 1, 0, 0)),
}


@pytest.mark.parametrize("what", LIES)
def test_a_runner_that_breaks_the_rules_is_found_out(bench: FeedBench, what: str) -> None:
    bench.hear(StreamReady(ID, 1, 0))

    with pytest.raises(ProtocolError, match=what):
        LIES[what](bench)
