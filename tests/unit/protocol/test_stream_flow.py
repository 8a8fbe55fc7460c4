"""Both ends of one direction of a stream, and what neither takes from the other."""

from collections.abc import Callable

import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.stream_flow import WINDOW_BYTES, WINDOW_CHUNKS, Inlet, Outlet
from lineshaft_protocol.stream_frames import BATCH_BYTES, CHUNK_BYTES_MAX, CHUNKS_MAX


def outlet_of(*chunks: bytes) -> Outlet:
    outlet = Outlet()
    for chunk in chunks:
        outlet.put(chunk)
    return outlet


def test_small_chunks_leave_together_and_long_ones_alone() -> None:
    long = bytes(BATCH_BYTES)
    outlet = outlet_of(b"a", b"b", long, b"c")

    assert outlet.take() == (0, [b"a", b"b"])
    assert outlet.take() == (2, [long])
    assert outlet.take() == (3, [b"c"])
    assert outlet.take() is None


def test_a_frame_has_no_more_chunks_than_its_receiver_takes() -> None:
    outlet = outlet_of(*[b""] * (CHUNKS_MAX + 1))

    taken = outlet.take()

    assert taken is not None
    assert len(taken[1]) == CHUNKS_MAX


def test_the_window_fills_and_empties() -> None:
    outlet = outlet_of(bytes(WINDOW_BYTES - 1), b"1")
    assert not outlet.has_room
    while outlet.take():
        pass

    outlet.acknowledge(1)

    assert outlet.has_room
    assert (outlet.first, outlet.count, outlet.kept_bytes) == (1, 2, 1)


def test_the_window_counts_chunks_as_well() -> None:
    assert not outlet_of(*[b""] * WINDOW_CHUNKS).has_room


def test_a_chunk_longer_than_the_window_is_sent_alone() -> None:
    outlet = Outlet()
    assert outlet.has_room
    outlet.put(bytes(WINDOW_BYTES + 1))

    assert not outlet.has_room


def test_after_a_cut_it_goes_on_where_the_receiver_stands() -> None:
    outlet = outlet_of(b"a", b"b", b"c")
    outlet.end()
    assert outlet.take() == (0, [b"a", b"b", b"c"])
    assert outlet.take_end() == 3
    outlet.acknowledge(1)

    outlet.rewind(2)

    assert outlet.take() == (2, [b"c"])
    assert outlet.take_end() == 3
    assert outlet.take_end() is None
    outlet.acknowledge(3)
    assert outlet.is_done


def test_the_end_is_said_only_after_the_last_chunk() -> None:
    outlet = outlet_of(b"a")
    outlet.end()

    assert outlet.take_end() is None


@pytest.mark.parametrize("next_chunk", [0, 4])
def test_it_does_not_go_on_where_it_cannot(next_chunk: int) -> None:
    outlet = outlet_of(b"a", b"b", b"c")
    outlet.take()
    outlet.acknowledge(1)

    with pytest.raises(ProtocolError, match=str(next_chunk)):
        outlet.rewind(next_chunk)


def test_what_was_not_sent_cannot_be_acknowledged() -> None:
    with pytest.raises(ProtocolError, match="not sent"):
        outlet_of(b"a").acknowledge(1)


def test_an_inlet_takes_everything_once_and_in_order() -> None:
    inlet = Inlet()
    inlet.take(0, [1, 1])
    inlet.take(2, [1])
    inlet.end(3)
    for _ in range(3):
        inlet.consume(1)

    assert inlet.is_done
    assert inlet.ack_due() == 3
    assert inlet.ack_due() is None


def test_an_inlet_that_starts_later_takes_what_follows() -> None:
    inlet = Inlet()
    inlet.start(5)

    inlet.take(5, [1])

    assert inlet.next == 6


WRONG: dict[str, Callable[[Inlet], None]] = {
    "twice": lambda inlet: inlet.take(1, [1]),
    "is missing": lambda inlet: inlet.take(3, [1]),
    "the limit is": lambda inlet: inlet.take(2, [CHUNK_BYTES_MAX + 1]),
    "window": lambda inlet: inlet.take(2, [0] * (2 * WINDOW_CHUNKS)),
    "comes next": lambda inlet: inlet.end(3),
    "chunk 2 comes next": lambda inlet: inlet.end(1),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_breaks_the_order_is_refused_by_name(what: str) -> None:
    inlet = Inlet()
    inlet.take(0, [1, 1])

    with pytest.raises(ProtocolError, match=what):
        WRONG[what](inlet)


def test_nothing_comes_after_the_end_and_the_end_once() -> None:
    inlet = Inlet()
    inlet.take(0, [1])
    inlet.end(1)
    inlet.end(1)

    with pytest.raises(ProtocolError, match="after the end"):
        inlet.take(1, [1])
    with pytest.raises(ProtocolError, match="twice"):
        inlet.end(2)


def test_acknowledgements_wait_for_enough_or_for_all() -> None:
    inlet = Inlet()
    inlet.take(0, [700_000, 700_000, 1])

    inlet.consume(700_000)
    assert inlet.ack_due() is None
    inlet.consume(700_000)
    assert inlet.ack_due() == 2
    inlet.consume(1)
    assert inlet.ack_due() == 3
