"""Whatever a job logs, its run can be told in seed 000's words, and in strict JSON."""

import json

import pytest

from lineshaft_coordinator.training_runs.messages import RunDialect
from lineshaft_coordinator.training_runs.words import metrics_of, timestamp, values_of
from lineshaft_protocol.events import JobEvent


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e308, float("nan"), float("inf")])
def test_numbers_that_cannot_be_told_are_left_out(value: float) -> None:
    metrics = {"loss": 0.5, "accuracy": value, "gpu_memory_allocated_gb": value, "epoch": value}
    body = {"metrics": metrics, "step": value if isinstance(value, int) else 7}
    event = JobEvent(job_id="j", attempt=1, seq=1, at=1.0, kind="metrics", body=body)

    message = RunDialect().message(event)

    assert message is not None
    told = json.loads(message.data, parse_constant=pytest.fail)["data"]
    assert told["loss"] == 0.5
    assert ("accuracy" in told) is (value == 1e308)
    assert "memory_mb" not in told


@pytest.mark.parametrize("at", [float("inf"), float("nan"), -1.0, 1e300])
def test_a_time_that_no_calendar_has_is_told_as_the_first(at: float) -> None:
    assert timestamp(at) == "1970-01-01T00:00:00.000000000+00:00"


def test_s000_26_units_are_converted_both_ways() -> None:
    told = values_of({"gpu_memory_allocated_gb": 2.0, "gpu_utilization_percent": 50.0}, 1)

    assert told == {"epoch": 0, "step": 1, "memory_mb": 2048.0, "gpu_util": 0.5}
    assert metrics_of(told) == {"epoch": 0, "gpu_memory_allocated_gb": 2.0, "gpu_util": 0.5}
