"""One schema for what seed 000's server says: stream, history and the functions agree on it."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from tests.integration.feeds.conductor import Conducted
from tests.integration.feeds.conftest import House
from tests.integration.feeds.test_s000_stream import Run
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from lineshaft_coordinator.training_runs.words import (
    STATUSES,
    metrics_of,
    outcome_of,
    status_of,
    timestamp,
    values_of,
)


class Metrics(BaseModel):
    """What a page of seed 000 may rely on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    epoch: int
    step: int
    timestamp: str
    loss: float | None = None
    accuracy: float | None = None
    lr: float | None = None
    gpu_util: float | None = None
    memory_mb: float | None = None


class Stored(Metrics):
    custom: Any = None


def test_s000_40_stream_and_history_say_the_same_by_one_schema(
    house: House, conduct: Callable[..., Conducted]
) -> None:
    run, show = Run(house), conduct()
    stream = f"/api/training/runs/{show.job_id}/stream"
    reported, logged = house.look(run.stream), house.look(stream)
    values = {"loss": 0.5, "accuracy": 0.25, "lr": 0.1, "gpu_util": 0.5, "memory_mb": 2048.0}
    run.record(1, **values, custom={"a": 1})
    show.log(1, loss=0.5, gpu_utilization_percent=50.0, gpu_memory_allocated_gb=2.0, lr=0.1)
    messages = [reported.next(), logged.next()]
    run.stop()
    show.do("end")
    ends = [socket.rest()[-1] for socket in (reported, logged)]

    told = [Metrics.model_validate(each["data"]) for each in messages if each is not None]
    http = house.http()
    stored = [
        Stored.model_validate(http.get(f"/api/training/runs/{run_id}/metrics").json()[0])
        for run_id in (run.run["id"], show.job_id)
    ]

    for live, kept in zip(told, stored, strict=True):
        assert live.model_dump() == kept.model_dump(exclude={"custom"})
    assert (told[1].gpu_util, told[1].memory_mb, told[1].lr) == (0.5, 2048.0, 0.1)
    assert [set(end["data"]) for end in ends] == [{"status", "completed_at"}] * 2


def test_s000_40_a_page_without_a_token_is_told_what_is_missing(house: House) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{house.farm.url}{Run(house).stream}")

    assert b"?token=" in refused.value.response.body


def test_words_of_states_lead_there_and_ends_back_again() -> None:
    states = ("queued", "assigned", "running", "paused", "succeeded", "failed", "cancelled")

    assert [status_of(state) for state in states] == [
        *("pending", "pending", "running", "running", "completed", "failed", "stopped")
    ]
    ended = [status for status in STATUSES if status not in ("pending", "running")]
    assert [status_of(outcome_of(status)) for status in ended] == ended


@pytest.mark.parametrize("share", [0.0, 0.57, 1.0])
def test_units_lead_there_and_back_again(share: float) -> None:
    theirs = {"epoch": 1, "step": 2, "gpu_util": share, "memory_mb": 1234.5, "loss": share}

    ours = metrics_of(theirs)

    assert ours["gpu_memory_allocated_gb"] == 1234.5 / 1024
    assert values_of(ours, 2) == theirs
    assert values_of({"gpu_utilization_percent": share * 100}, 2) == pytest.approx(
        {"epoch": 0, "step": 2, "gpu_util": share}
    )


def test_what_json_cannot_say_is_left_out() -> None:
    values = values_of({"loss": float("nan"), "lr": float("inf"), "acc": 0.5}, -3)

    assert values == {"epoch": 0, "step": 0, "accuracy": 0.5}
    assert values_of({"sys/cpu.util_pct": 3.0}, 1) is None


def test_times_have_nine_digits() -> None:
    assert timestamp(1776381300.5) == "2026-04-16T23:15:00.500000000+00:00"
