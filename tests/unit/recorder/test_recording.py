"""How a job's committed events become its run's files."""

from typing import Any

import pytest

from lineshaft_coordinator.recorder.job_run import ending_of, experiment_of
from lineshaft_coordinator.recorder.source import Begun


def begun(name: str | None = None, experiment: str | None = None) -> Begun:
    return Begun("j1", name, "pipeline", (), None, None, experiment, {}, {}, 1.0, 2.0)


@pytest.mark.parametrize(
    ("job", "experiment"),
    [
        (begun(), "default"),
        (begun("digits"), "digits"),
        (begun("code/train.py"), "train.py"),
        (begun("digits", "ablation"), "ablation"),
        (begun("x", "../up"), "_up"),
        (begun("..."), "default"),
    ],
)
def test_a_jobs_experiment_is_what_it_says_or_its_name(job: Begun, experiment: str) -> None:
    assert experiment_of(job) == experiment


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [
        ({"status": "succeeded"}, "FINISHED", ""),
        ({"status": "cancelled", "reason": "by anna"}, "FAILED", "run cancelled: by anna"),
        (
            {"status": "failed", "failure": {"cause": "exception", "message": "odd\nloss"}},
            "FAILED",
            "run FAILED: odd loss",
        ),
        (
            {"status": "failed", "failure": {"cause": "worker_lost", "message": "w1 is gone"}},
            "CRASHED",
            "run CRASHED: w1 is gone",
        ),
        ({}, "FAILED", "run FAILED"),
    ],
)
def test_a_runs_end_is_that_of_its_job(outcome: dict[str, Any], status: str, text: str) -> None:
    assert ending_of(outcome) == (status, text)
