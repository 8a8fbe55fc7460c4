"""Frames of several streams on one connection."""

from collections.abc import Sequence

from lineshaft_protocol.stream_frames import BytesLike
from lineshaft_runtime.fair_queue import QUEUE_BYTES_MAX, FairQueue


class Wire:
    def __init__(self, room: int) -> None:
        self.room = room
        self.sent: list[bytes] = []

    def send(self, buffers: Sequence[BytesLike]) -> None:
        self.sent.append(b"".join(buffers))
        self.room -= 1

    def is_writable(self) -> bool:
        return self.room > 0


def test_frames_leave_at_once_while_the_connection_keeps_up() -> None:
    wire = Wire(2)
    queue = FairQueue(wire.send, wire.is_writable)

    for name in ("a", "b", "a"):
        queue.put(name, [name.encode(), b"!"])

    assert wire.sent == [b"a!", b"b!"]


def test_streams_take_turns_and_each_keeps_its_order() -> None:
    wire = Wire(0)
    queue = FairQueue(wire.send, wire.is_writable)
    for frame in (b"a1", b"a2", b"a3", b"b1", b"c1", b"b2"):
        queue.put(chr(frame[0]), [frame])

    wire.room = 5
    queue.flush()
    queue.put("d", [b"d1"])
    wire.room = 9
    queue.flush()

    assert wire.sent == [b"a1", b"b1", b"c1", b"a2", b"b2", b"a3", b"d1"]


def test_more_than_the_window_allows_is_noticed_for_each_stream_alone() -> None:
    queue = FairQueue(lambda _: None, lambda: False)
    half = bytes(QUEUE_BYTES_MAX // 2)

    assert queue.put("a", [half])
    assert queue.put("a", [half])
    assert not queue.put("a", [b"!"])
    assert queue.put("b", [half])


def test_what_is_dropped_does_not_leave() -> None:
    wire = Wire(0)
    queue = FairQueue(wire.send, wire.is_writable)
    queue.put("a", [b"a"])
    queue.put("b", [b"b"])

    queue.drop("a")
    wire.room = 9
    queue.flush()

    assert wire.sent == [b"b"]
