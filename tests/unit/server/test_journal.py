"""Events as rows of the store."""

import json
import math

import pytest
from pydantic import JsonValue

from lineshaft_coordinator.journal import event_row, read_event, read_event_plainly
from lineshaft_coordinator.store.interface import EventRow
from lineshaft_protocol.events import JobEvent

BODIES: list[dict[str, JsonValue]] = [
    {},
    {"metrics": {"loss": 0.5, "n": 3, "on": True, "off": None, "t": 'ä\n"x"'}, "step": 7},
    {"metrics": {"a": math.inf, "b": -math.inf, "big": 2**53 + 1, "tiny": 5e-324}},
    {"deep": [{"x": [1, [2.5, "%b"]]}], "%s": "%d"},
]


def told(body: dict[str, JsonValue]) -> JobEvent:
    return JobEvent(job_id="j1", attempt=2, seq=9, at=1.5, kind="metrics", body=body)


@pytest.mark.parametrize("body", BODIES)
def test_an_event_is_read_as_it_was_kept(body: dict[str, JsonValue]) -> None:
    event = told(body)

    row = event_row(event)

    assert (row.job_id, row.attempt, row.seq, row.at) == ("j1", 2, 9, 1.5)
    assert b"j1" not in row.body
    assert read_event(row) == event
    assert read_event_plainly(row) == event.model_dump()


def test_a_number_that_is_none_is_kept() -> None:
    row = event_row(told({"metrics": {"loss": math.nan}}))

    assert row.body == b'{"kind":"metrics","body":{"metrics":{"loss":NaN}}}'
    assert str(read_event(row).body) == "{'metrics': {'loss': nan}}"


@pytest.mark.parametrize("body", BODIES)
def test_an_event_of_an_earlier_version_says_all_in_its_body(body: dict[str, JsonValue]) -> None:
    event = told(body)

    row = EventRow("j1", 2, 9, 1.5, json.dumps(event.model_dump()).encode())

    assert read_event(row) == event
    assert read_event_plainly(row) == event.model_dump()


def test_in_place_of_an_event_that_cannot_be_read_stands_a_notice() -> None:
    read = read_event(EventRow("j1", 2, 9, math.inf, b'{"kind":"smell","body":{}}'))

    assert (read.job_id, read.attempt, read.seq, read.at) == ("j1", 2, 9, 0.0)
    assert (read.kind, read.body["code"]) == ("notice", "unreadable")
