"""A client that breaks the rules of streams ends its own stream or session, and hurts nobody."""

import itertools
from collections.abc import Iterator

import psutil
import pytest
from tests.e2e.farm import Farm, until
from tests.e2e.rawclient import RawClient

from lineshaft import Client
from lineshaft.fitted import graph_payload
from lineshaft.pipeline import Pipeline
from lineshaft_protocol.client_messages import Accepted, Finished, Submit
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.stream_flow import WINDOW_BYTES
from lineshaft_protocol.stream_frames import (
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
from lineshaft_runtime.packing import pack_bytes

NUMBERS = itertools.count(1)
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def client(pair: Farm) -> Iterator[Client]:
    with pair.client() as made:
        yield made


def payload() -> Payload:
    # Without a name it goes by value: workers do not have this module.
    pipeline = Pipeline([("double", lambda x: x * 2)])
    return Payload.of_bytes(b"".join(graph_payload(pipeline.graph, None)))


class RawStream(RawClient):
    """Has a stream that a worker has begun, and is attached to it."""

    def begin(self) -> str:
        self.id = f"raw-{next(NUMBERS)}"
        self.say(Submit(job=JobSpec(job_id=self.id, kind="stream", payload=payload())))
        self.hear(Accepted)
        self.send(StreamAttach(self.id, 1, 0, 0))
        # A worker that was quicker than we has opened it before, and answers at once.
        self.until_frame(StreamOpen, StreamReady)
        self.send(StreamAttach(self.id, 2, 0, 0))
        while self.until_frame(StreamReady) != StreamReady(self.id, 2, 0):
            pass
        return self.id

    def send(self, *frames: StreamFrame) -> None:
        for frame in frames:
            self.socket.send(encode_frame(frame))

    def until_frame(self, *kinds: type[StreamFrame]) -> StreamFrame:
        while True:
            data = self.socket.recv(timeout=30)
            if isinstance(data, bytes) and isinstance(frame := decode_frame(data), kinds):
                return frame


def data(stream_id: str, index: int, *values: object) -> ChunkData:
    chunks = [pack_bytes(value) for value in values]
    return ChunkData(stream_id, 2, index, tuple(map(len, chunks)), b"".join(chunks))


WRONG = {
    "is missing": lambda s: [data(s, 1, 5)],
    "arrived twice": lambda s: [data(s, 0, 5), data(s, 0, 5)],
    "after the end": lambda s: [data(s, 0, 5), StreamEnd(s, 2, 1), data(s, 1, 5)],
    "comes next": lambda s: [data(s, 0, 5), StreamEnd(s, 2, 7)],
    "was not sent": lambda s: [StreamAck(s, 2, 9)],
    "can be sent": lambda s: [StreamAttach(s, 3, 0, 9)],
    "chunk 0: ": lambda s: [ChunkData(s, 2, 0, (4,), b"junk")],
}


@pytest.mark.parametrize("told", WRONG)
def test_a_broken_order_ends_the_stream_with_a_reason(
    pair: Farm, client: Client, told: str
) -> None:
    with RawStream(pair) as raw:
        stream_id = raw.begin()

        raw.send(*WRONG[told](stream_id))

        while not isinstance(message := hear_text(raw), Finished):
            pass
    assert message.outcome.status == "failed"
    assert message.outcome.failure is not None
    assert told in message.outcome.failure.message
    assert client.submit(pow, 2, 2).result(20) == 4


def hear_text(raw: RawClient) -> object:
    """The next control message; frames are passed over."""
    from lineshaft_protocol.codec import TO_CLIENT

    while True:
        frame = raw.socket.recv(timeout=30)
        if isinstance(frame, str):
            return TO_CLIENT.decode(frame)[-1]


@pytest.mark.parametrize(
    "frame", [data("nobody", 0, 1), StreamEnd("nobody", 1, 0), StreamAttach("nobody", 1, 0, 0)]
)
def test_a_stream_that_is_not_there_is_told_of_and_the_session_goes_on(
    pair: Farm, frame: StreamFrame
) -> None:
    with RawStream(pair) as raw:
        raw.send(frame)

        fault = raw.until_frame(StreamFault)
        raw.begin()

    assert fault.stream_id == "nobody"


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(ChunkResult("a", 1, 0, (1,), b"a")),
        encode_frame(StreamOpen("a", 1)),
        encode_frame(data("a", 0, 1))[:-1],
        encode_frame(data("a", 0, 1)) + b"!",
        encode_frame(ChunkData("a", 1, 0, (7,), b"sizes lie")),
        b"\x83\xa4type\xa9StreamAck\xa4turn\xdf\xff\xff\xff\xff",
        b"\x83\xa4type\xa9StreamAck\xa4turn\xc7\xff\x05",
        b"\x85\xa4type\xa9ChunkData\xa5sizes\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_frame_of_a_client_ends_the_session(
    pair: Farm, client: Client, frame: bytes
) -> None:
    with RawStream(pair) as raw:
        raw.socket.send(frame)

        code, reason = raw.end()

    assert code == 1002
    assert reason
    assert client.submit(pow, 2, 2).result(20) == 4


def test_who_floods_a_stream_is_closed_and_the_memory_is_given_back(
    pair: Farm, client: Client
) -> None:
    assert pair.coordinator is not None
    coordinator = psutil.Process(pair.coordinator.pid)
    before = coordinator.memory_info().rss
    chunk = bytes(MIB)
    with RawStream(pair) as raw:
        stream_id = raw.begin()
        # The runner takes no chunk that is not sound: the first one ends the stream, and nobody
        # takes the others.
        for index in range(WINDOW_BYTES * 16 // MIB):
            try:
                raw.send(ChunkData(stream_id, 2, index, (MIB,), chunk))
            except Exception:  # noqa: BLE001 - the session may have been closed
                break

        assert client.submit(pow, 2, 2).result(30) == 4
        held = coordinator.memory_info().rss
    until(
        lambda: coordinator.memory_info().rss - before < 64 * MIB,
        what="memory is given back",
        within_s=10,
    )

    assert held - before < 256 * MIB
