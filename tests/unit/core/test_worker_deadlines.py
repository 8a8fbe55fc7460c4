"""Deadlines of attempts: until they begin, and while they say nothing."""

import pytest
from tests.unit.core.samples import result
from tests.unit.core.worker_bench import WorkerBench, said

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import Timeouts
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Ended, HeartbeatAck
from lineshaft_worker.core.io import (
    AttemptBegan,
    AttemptEnded,
    AttemptKey,
    AttemptSpoke,
    Effect,
    StopAttempt,
)

J1 = AttemptKey(JobId("j1"), 1)


@pytest.fixture
def worker() -> WorkerBench:
    bench = WorkerBench()
    bench.registered()
    return bench


def _event(seq: int) -> JobEvent:
    return JobEvent(job_id="j1", attempt=1, seq=seq, at=0.0, kind="log", body={})


def _passes(worker: WorkerBench, seconds: float) -> list[Effect]:
    """Time passes on a connection whose other end answers."""
    effects: list[Effect] = []
    end = worker.now + seconds
    while worker.now < end:
        effects += worker.after(min(1.0, end - worker.now))
        worker.receive(HeartbeatAck(sent_at=worker.now))
    return effects


def _ending(messages: list[Wire]) -> tuple[str, str]:
    (ended,) = [m for m in messages if isinstance(m, Ended)]
    assert ended.result.failure is not None
    return ended.result.failure.cause, ended.result.failure.message


def test_a_job_that_says_nothing_for_too_long_is_ended_and_says_so(worker: WorkerBench) -> None:
    worker.runs("j1", timeouts=Timeouts(silence_s=10.0))
    worker.handle(AttemptBegan(J1))

    early = _passes(worker, 9.9)
    late = _passes(worker, 0.2)
    over = said(worker.handle(AttemptEnded(J1, result("j1", 1, "stopped"))))

    assert StopAttempt(J1) not in early
    assert StopAttempt(J1) in late
    assert _ending(over) == (
        "silence_timeout",
        "it printed, reported and saved nothing for its silence_timeout of 10 s",
    )


def test_whatever_a_job_says_gives_it_time_again(worker: WorkerBench) -> None:
    worker.runs("j1", timeouts=Timeouts(silence_s=10.0))
    worker.handle(AttemptBegan(J1))

    _passes(worker, 9.0)
    worker.handle(AttemptSpoke(J1, (_event(1),)))
    early = _passes(worker, 9.9)

    assert StopAttempt(J1) not in early
    assert StopAttempt(J1) in _passes(worker, 0.2)


def test_a_job_that_waits_too_long_at_its_worker_fails_by_name(worker: WorkerBench) -> None:
    slots = worker.core.bench.capacity.slots
    for number in range(slots):
        worker.runs(f"busy-{number}")
    worker.assign("j1", timeouts=Timeouts(prepare_s=5.0))

    messages = said(_passes(worker, 5.1))

    assert _ending(messages) == (
        "prepare_timeout",
        "its worker did not begin it within its prepare_timeout of 5 s",
    )


def test_a_job_that_began_in_time_has_no_deadline_left(worker: WorkerBench) -> None:
    worker.runs("j1", timeouts=Timeouts(prepare_s=5.0))
    worker.handle(AttemptBegan(J1))

    assert StopAttempt(J1) not in _passes(worker, 100.0)


def test_a_job_that_succeeded_while_it_was_being_ended_has_succeeded(worker: WorkerBench) -> None:
    worker.runs("j1", timeouts=Timeouts(silence_s=10.0))
    worker.handle(AttemptBegan(J1))
    _passes(worker, 10.1)

    (ended,) = [m for m in said(worker.ends(J1)) if isinstance(m, Ended)]

    assert ended.result.status == "succeeded"
