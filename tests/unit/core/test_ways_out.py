"""For each cause of a failure: 'why' names the job or its worker, and a way out."""

from typing import get_args

import pytest

from lineshaft_coordinator.core.ways_out import way_out
from lineshaft_protocol.outcomes import Failure, FailureCause, Outcome, Status

WORDS: dict[FailureCause, tuple[str, ...]] = {
    "exception": ("'lineshaft logs j'",),
    "exit": ("'lineshaft logs j'",),
    "signal": ("'lineshaft logs j'", "worker w1"),
    "oom": ("more memory", "'lineshaft logs j'"),
    "timeout": ("longer timeout", "'lineshaft logs j'"),
    "silence_timeout": ("longer silence_timeout", "'lineshaft logs j'"),
    "prepare_timeout": ("longer prepare_timeout", "worker w1"),
    "environment": ("requirements", "worker w1", "'lineshaft logs j'"),
    "start": ("'lineshaft drain'", "log of the daemon of worker w1"),
    "entry_point": ("the name of a file or function",),
    "unpickle": ("requirements", "worker w1"),
    "result": ("run.artifact",),
    "worker_lost": ("'lineshaft story j'",),
    "dependency": ("'lineshaft story j'",),
    "queue_timeout": ("longer queue_timeout", "'lineshaft workers'"),
    "unplaceable": ("ask for less", "'lineshaft workers'"),
    "blob_missing": ("submit it again",),
    "result_missing": ("worker w1", "done again"),
}


def _failed(cause: FailureCause, worker_id: str | None = "w1") -> Outcome:
    failure = Failure(cause=cause, message="so it was")
    return Outcome(job_id="j", status="failed", attempt=1, failure=failure, worker_id=worker_id)


def test_every_cause_has_a_row() -> None:
    assert WORDS.keys() == set(get_args(FailureCause))


@pytest.mark.parametrize(("cause", "words"), WORDS.items())
def test_a_cause_has_a_way_out(cause: FailureCause, words: tuple[str, ...]) -> None:
    text = way_out(_failed(cause))

    assert text is not None
    assert [each for each in words if each not in text] == []
    assert "\n" not in text


@pytest.mark.parametrize("cause", WORDS)
def test_a_way_out_names_no_worker_that_is_not_known(cause: FailureCause) -> None:
    assert "None" not in str(way_out(_failed(cause, worker_id=None)))


@pytest.mark.parametrize("status", [each for each in get_args(Status) if each != "failed"])
def test_what_did_not_fail_needs_no_way_out(status: Status) -> None:
    assert way_out(Outcome(job_id="j", status=status, attempt=1)) is None
