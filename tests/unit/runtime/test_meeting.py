"""The port that a worker keeps free for a gang."""

import socket

import pytest

from lineshaft_protocol.worker_messages import GangSeat, MeetingPlace
from lineshaft_worker.daemon.meeting import MeetingPort, address_towards, variables_of


def test_nobody_else_gets_the_port_until_it_is_given_out() -> None:
    kept = MeetingPort("127.0.0.1")
    place = kept.place()
    assert place is not None

    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", place.port))
    following = kept.give_out()

    assert following is not None
    assert following.port != place.port
    socket.create_server(("127.0.0.1", place.port)).close()
    kept.close()
    socket.create_server(("127.0.0.1", following.port)).close()


def test_a_port_is_kept_where_only_ipv6_leads() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    kept = MeetingPort("::1")
    place = kept.place()
    kept.close()

    assert place is None or place.address == "::1"


def test_the_way_to_the_coordinator_tells_our_address() -> None:
    assert address_towards("ws://127.0.0.1:7433") == "127.0.0.1"


def test_a_coordinator_that_cannot_be_found_leaves_the_machines_name() -> None:
    assert address_towards("ws://nowhere.invalid:7433") == socket.gethostname()


def test_a_rank_finds_its_place_as_torchrun_would_tell_it() -> None:
    seat = GangSeat(rank=1, nodes=3, meeting=MeetingPlace(address="10.0.0.7", port=4001))

    assert variables_of(None) == {}
    assert variables_of(seat) == {
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": "4001",
        "RANK": "1",
        "WORLD_SIZE": "3",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "3",
    }
