"""The log names workers that come and go, and no flapping one floods it."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.e2e.farm import Farm, until

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.server.attendance import LINES_MAX, WINDOW_S, Attendance
from lineshaft_protocol.ids import Session, WorkerId
from lineshaft_protocol.resources import Capacity, Gpu

CAPACITY = Capacity(
    slots=3,
    cpus=4.0,
    memory_bytes=1 << 30,
    gpus=(Gpu(uuid="GPU-1", name="L4", memory_bytes=1 << 34),),
)


class Door:
    """Workers come and go; time passes when told to."""

    def __init__(self) -> None:
        self.workers: dict[Session, Worker] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.attendance = Attendance(
            self.workers, lambda delay_s, call: self.timers.append((delay_s, call))
        )

    def come(self, name: str, session: int) -> None:
        self.workers[Session(session)] = Worker(WorkerId(name), capacity=CAPACITY)
        self.attendance.joined(Session(session), "10.0.0.7")

    def go(self, session: int) -> None:
        self.attendance.left(Session(session))
        self.workers.pop(Session(session), None)

    def window_ends(self) -> None:
        [(delay_s, call)] = self.timers
        self.timers.clear()
        assert delay_s == WINDOW_S
        call()


@pytest.fixture
def door(caplog: pytest.LogCaptureFixture) -> Door:
    caplog.set_level(logging.INFO)
    return Door()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Mapping[str, Any]]]:
    return [(each.getMessage(), vars(each)) for each in caplog.records]


def test_a_worker_is_named_with_what_it_has_when_it_joins_and_when_it_leaves(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.come("w1", 1)
    door.go(1)
    door.go(2)  # A client's.

    (joined, fields), (left, gone) = told(caplog)
    assert (joined, left) == ("worker joined", "worker left")
    assert {name: fields[name] for name in ("worker_id", "host", "slots", "gpus")} == {
        "worker_id": "w1",
        "host": "10.0.0.7",
        "slots": 3,
        "gpus": ["L4"],
    }
    assert gone["worker_id"] == "w1"


def test_a_worker_that_is_back_on_another_connection_has_not_left(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.come("w1", 1)
    door.come("w1", 2)
    door.go(1)

    assert [text for text, _ in told(caplog)] == ["worker joined"] * 2


def test_a_flapping_worker_costs_a_few_lines_and_then_how_it_stands(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    for session in range(500):
        door.come("w1", session)
        door.go(session)
    door.come("w1", 500)
    door.come("steady", 501)
    assert len(told(caplog)) == LINES_MAX + 1
    assert told(caplog)[-1][1]["worker_id"] == "steady"
    caplog.clear()

    (_, close), (_, close_steady) = door.timers
    door.timers.clear()
    close()
    close_steady()
    door.go(500)
    door.window_ends()

    (text, fields), (after, _) = told(caplog)
    assert (text, fields["worker_id"]) == ("worker came and went", "w1")
    assert (fields["times"], fields["is_here"]) == (1001 - LINES_MAX, True)
    assert after == "worker left"


def test_who_hung_up_before_it_was_welcome_is_not_told(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.workers[Session(1)] = Worker(WorkerId("w1"), capacity=CAPACITY)
    door.go(1)
    door.attendance.joined(Session(1), None)

    assert told(caplog) == []


def test_the_log_of_a_coordinator_has_its_workers(site: Farm) -> None:
    coordinator = site.start_coordinator("--log-style", "json")
    worker = site.start_worker("w1", "--slots", "2")

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in coordinator.said().splitlines() if line[:1] == "{"]
        return [each for each in found if each.get("msg", "").startswith("worker ")]

    until(lines, what="it joined")
    worker.terminate()
    until(lambda: len(lines()) == 2, what="it left")

    joined, left = lines()
    assert (joined["msg"], joined["worker_id"], joined["host"]) == (
        "worker joined",
        "w1",
        "127.0.0.1",
    )
    assert (joined["slots"], joined["gpus"]) == (2, [])
    assert (left["msg"], left["worker_id"]) == ("worker left", "w1")
