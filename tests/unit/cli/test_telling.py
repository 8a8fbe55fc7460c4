"""From what the coordinator says to what people read."""

import pytest
from pydantic import JsonValue

from lineshaft.cli.jobs import job_row, reasons_of, rows_of, told
from lineshaft.cli.standing import status_line
from lineshaft.cli.workers import gpus_text, worker_row


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            {"type": "JobSubmitted", "client_id": "ann", "job": {"kind": "plan", "name": "fit"}},
            "submitted by ann: plan fit",
        ),
        (
            {"type": "AttemptStarted", "attempt": 2, "worker_id": "w1", "epoch": 1},
            "attempt 2 given to worker w1",
        ),
        (
            {"type": "AttemptLeft", "attempt": 1, "cause": "worker_lost", "reason": "silent"},
            "attempt 1 is over: its worker was lost; the job goes back to the queue: silent",
        ),
        ({"type": "CancelRequested", "reason": "no more"}, "cancel asked: no more"),
        (
            {
                "type": "JobFinished",
                "outcome": {
                    "status": "failed",
                    "worker_id": "w1",
                    "run_s": 1.5,
                    "failure": {"cause": "exception", "message": "bad"},
                },
            },
            "failed on worker w1 after 1.5 s: exception: bad",
        ),
        (
            {"type": "JobFinished", "outcome": {"status": "cancelled", "reason": "asked"}},
            "cancelled: asked",
        ),
        ({"type": "SomethingNew", "a": 1}, '{"type": "SomethingNew", "a": 1}'),
    ],
)
def test_a_record_is_told_as_a_sentence(record: dict[str, JsonValue], text: str) -> None:
    assert told(record) == text


def test_a_job_has_a_row_with_its_age_and_the_first_line_of_its_error() -> None:
    job: dict[str, JsonValue] = {
        "job_id": "j-1",
        "name": None,
        "status": "failed",
        "worker_id": "w1",
        "attempt": 2,
        "owner": "local",
        "submitted_at": 1000.0,
        "error": "first\nsecond",
    }

    assert job_row(job, 1090.0) == ["j-1", "", "failed", "w1", "90.0 s", "2", "local", "first"]


def test_a_clock_that_runs_ahead_makes_no_negative_age() -> None:
    assert job_row({"submitted_at": 1000.0}, 990.0)[4] == "0 ms"


def test_a_worker_has_a_row() -> None:
    worker: dict[str, JsonValue] = {
        "worker_id": "w1",
        "status": "busy",
        "used_slots": 1,
        "slots": 4,
        "memory_bytes": 64 * 2**30,
        "gpus": [],
        "tags": ["a", "b"],
        "lineshaft": "1.0",
        "load": {"cpu_usage": 0.256},
    }

    assert worker_row(worker) == ["w1", "busy", "1/4", "26 %", "64 GiB", "none", "a,b", "1.0"]


def test_a_worker_that_is_away_has_a_row_too() -> None:
    assert worker_row({"worker_id": "w1", "status": "away", "load": None})[:2] == ["w1", "away"]


def test_gpus_are_counted_with_those_out_of_use() -> None:
    gpus: list[JsonValue] = [
        {"name": "H100", "jobs": 1, "fault": None},
        {"name": "H100", "jobs": 0, "fault": "memory is not given back"},
    ]

    assert gpus_text(gpus) == "1/2 H100, 1 out of use"
    load: JsonValue = {"gpu_temperature_c": [61.0, None, 70.4]}
    assert gpus_text(gpus, load) == "1/2 H100 70 °C, 1 out of use"


def test_reasons_are_found_and_their_absence_is_no_error() -> None:
    assert reasons_of({"status": "queued", "reasons": ["a", "b"]}) == ("queued", ["a", "b"])
    assert reasons_of(None) == ("somewhere", [])


def test_only_objects_are_rows() -> None:
    assert rows_of([{"a": 1}, 2]) == [{"a": 1}]
    assert rows_of(None) == []


def test_the_state_of_a_small_farm_is_one_line() -> None:
    info: JsonValue = {"live_jobs": 3, "queued_jobs": 2, "jobs": {"failed": 0, "succeeded": 7}}

    assert status_line(info, [{}]) == "1 worker: 1 running, 2 queued, 7 succeeded"
    assert status_line(info, []).startswith("0 workers:")
