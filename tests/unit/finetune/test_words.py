"""The dialect's words and units beside ours, both ways."""

import math
from typing import get_args

import pytest

from lineshaft_coordinator.finetune.words import (
    FIELDS,
    STATES,
    STATUSES,
    Status,
    epoch_here,
    epoch_there,
    metrics_of,
    status_of,
    values_of,
)
from lineshaft_coordinator.strict_json import strict
from lineshaft_protocol.client_messages import JobStateName
from lineshaft_protocol.outcomes import Status as Ending

VOCABULARY = {
    "queued": "queued", "waiting": "queued", "assigned": "pending", "preparing": "pending",
    "running": "running", "pausing": "paused", "paused": "paused", "frozen": "paused",
    "succeeded": "completed", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), VOCABULARY.items())
def test_each_state_has_its_word(ours: str, theirs: str) -> None:
    assert status_of(ours) == theirs


def test_the_words_go_both_ways_and_leave_nothing_out() -> None:
    assert {*get_args(JobStateName), *get_args(Ending), "preparing"} == set(STATUSES)
    assert set(get_args(Status)) == set(STATES)
    assert {ours: theirs for theirs, all_ours in STATES.items() for ours in all_ours} == STATUSES


def test_units_go_both_ways() -> None:
    ours = {
        "loss": 0.5, "lr": 1e-4, "gpu_util": 0.75, "memory_mb": 3072.0, "eval_loss": 0.25,
        "grad_norm": 2.0, "memory_reserved_mb": 4096.0, "samples_per_second": 9.0,
    }  # fmt: skip

    theirs = values_of(ours)

    assert theirs == {
        "train_loss": 0.5, "learning_rate": 1e-4, "gpu_utilization_percent": 75.0,
        "gpu_memory_allocated_gb": 3.0, "eval_loss": 0.25, "grad_norm": 2.0,
        "gpu_memory_reserved_gb": 4.0, "samples_per_second": 9.0,
    }  # fmt: skip
    assert metrics_of(theirs) == ours


@pytest.mark.parametrize("field", FIELDS)
def test_a_trainer_may_use_the_names_of_the_dialect(field: str) -> None:
    assert values_of({field: 2.0}) == {field: 2.0}


def test_what_json_does_not_have_is_null() -> None:
    assert values_of({"loss": math.nan, "lr": math.inf, "grad_norm": "big", "eval_loss": True}) == {
        "train_loss": None,
        "learning_rate": None,
    }
    assert strict({"a": [math.nan, 1, "x"], "b": -math.inf}) == {"a": [None, 1, "x"], "b": None}
    assert values_of({"loss": 10**400}) == {"train_loss": None}


def test_epochs_are_counted_from_one_there_and_from_zero_here() -> None:
    assert [epoch_there(epoch, 3) for epoch in (0, 0.5, 1, 2.9, 3.0)] == [1, 1, 2, 3, 3]
    assert [epoch_here(epoch_there(epoch, None)) for epoch in range(4)] == [0, 1, 2, 3]
