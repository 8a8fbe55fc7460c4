"""Every record of the coordinator's journal, as `lineshaft story` tells it."""

from typing import get_args

import pytest

from lineshaft.cli.jobs import LEAVES, told
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptPlaced,
    AttemptStarted,
    CancelRequested,
    FileKept,
    JobFinished,
    JobResumed,
    JobSubmitted,
    PauseCause,
    PauseRequested,
    PauseWithdrawn,
    Record,
    ReturnCause,
    decode,
    encode,
)
from lineshaft_coordinator.server.questions import told_record
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Failure, Outcome, Status

SPEC = JobSpec(job_id="j", kind="pipeline", payload=Payload(inline="eA=="), name="fit")
FILE = KeptFile(file_id="1.1", kind="checkpoint", name="model.pt", attempt=1, at=0.0, blob="a" * 64)
FAILURE = Failure(cause="exception", message="bad\nworse", type_name="ValueError")

TOLD: list[tuple[Record, str]] = [
    (JobSubmitted(job_id="j", client_id="ann", job=SPEC), "submitted by ann: pipeline fit"),
    (
        JobSubmitted(
            job_id="j",
            client_id="ann",
            job=SPEC.model_copy(update={"retry_of": "i", "after": ("a", "b")}),
        ),
        "submitted by ann: pipeline fit, to do i again, after a and b",
    ),
    (
        AttemptStarted(job_id="j", attempt=2, worker_id="w1", epoch=3, devices=("g0", "g1")),
        "attempt 2 given to worker w1 with GPUs g0 and g1",
    ),
    (
        AttemptStarted(job_id="j", attempt=2, worker_id="w1", epoch=3, is_unplaced=True),
        "attempt 2 to be prepared by worker w1",
    ),
    (
        AttemptPlaced(job_id="j", attempt=2, devices=("g0", "g1")),
        "attempt 2 is prepared and has its place with GPUs g0 and g1",
    ),
    *(
        (
            AttemptLeft(job_id="j", attempt=1, cause=cause, reason="so it was"),
            f"attempt 1 is over: {LEAVES[cause]}; the job goes back to the queue: so it was",
        )
        for cause in get_args(ReturnCause)
        if cause != "paused"
    ),
    (
        AttemptLeft(job_id="j", attempt=1, cause="paused", reason="lunch"),
        "attempt 1 is over: it paused; the job waits to be resumed: lunch",
    ),
    (
        AttemptLeft(job_id="j", attempt=1, cause="failed", failure=FAILURE),
        "attempt 1 is over: its code failed; the job goes back to the queue: "
        "exception ValueError: bad worse",
    ),
    *(
        (
            PauseRequested(job_id="j", mode="freeze", cause=cause, reason="lunch"),
            "asked to stand still where it is: lunch",
        )
        for cause in get_args(PauseCause)
    ),
    (
        PauseRequested(job_id="j", reason="lunch"),
        "asked to save a checkpoint and end: lunch",
    ),
    (PauseWithdrawn(job_id="j", reason="it was resumed"), "it goes on: it was resumed"),
    (JobResumed(job_id="j"), "resumed: the job goes back to the queue"),
    (FileKept(job_id="j", file=FILE), "checkpoint model.pt is kept"),
    (
        FileKept(job_id="j", file=FILE, dropped=("0.1",)),
        "checkpoint model.pt is kept; 1 older one is not any longer",
    ),
    (
        FileKept(job_id="j", file=FILE.model_copy(update={"blob": None, "problem": "no room"})),
        "checkpoint model.pt could not be stored: no room",
    ),
    (CancelRequested(job_id="j", reason="no more"), "cancel asked: no more"),
    (
        JobFinished(
            job_id="j",
            outcome=Outcome(
                job_id="j",
                status="failed",
                attempt=1,
                worker_id="w1",
                run_s=1.5,
                failure=FAILURE,
            ),
        ),
        "failed on worker w1 after 1.5 s: exception ValueError: bad worse",
    ),
    (
        JobFinished(
            job_id="j", outcome=Outcome(job_id="j", status="cancelled", attempt=0, reason="asked")
        ),
        "cancelled: asked",
    ),
    (
        JobFinished(
            job_id="j",
            outcome=Outcome(job_id="j", status="succeeded", attempt=1, worker_id="w1", run_s=2.0),
        ),
        "succeeded on worker w1 after 2.0 s",
    ),
]


def test_every_record_has_a_row() -> None:
    assert {type(record) for record, _ in TOLD} == set(get_args(get_args(Record)[0]))


def test_every_status_has_a_row() -> None:
    ends = {record.outcome.status for record, _ in TOLD if isinstance(record, JobFinished)}
    assert ends == set(get_args(Status))


@pytest.mark.parametrize(("record", "text"), TOLD)
def test_a_record_is_told_in_one_line_with_its_cause(record: Record, text: str) -> None:
    line = told(told_record(decode(encode(record))))

    assert line == text
    assert "\n" not in line
