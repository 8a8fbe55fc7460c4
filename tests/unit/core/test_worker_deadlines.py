"""Deadlines of attempts: until they begin, and while they say nothing."""

import pytest
from tests.unit.core.samples import job, result
from tests.unit.core.worker_bench import WorkerBench, said

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec, Timeouts
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import (
    Assign,
    ChildFinished,
    Ended,
    HeartbeatAck,
    Registered,
    SetPause,
)
from lineshaft_worker.core.io import (
    AttemptBegan,
    AttemptEnded,
    AttemptKey,
    AttemptSpoke,
    ChildAsked,
    Effect,
    PauseSeen,
    StopAttempt,
    Tick,
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


def _adopting(timeouts: Timeouts) -> WorkerBench:
    """A new daemon that found the attempt running, with a coordinator of today."""
    spec: JobSpec = job("j1", timeouts=timeouts)
    bench = WorkerBench(adopted=((Assign(job=spec, attempt=1, epoch=1), 0),))
    bench.connected()
    bench.receive(
        Registered(
            worker_id="w1",
            protocol=1,
            epoch=1,
            features=("pause",),
            heartbeat_s=5.0,
            silence_s=20.0,
            lease_s=450.0,
        )
    )
    return bench


def test_an_attempt_that_outlived_its_daemon_is_not_waited_for_to_begin() -> None:
    worker = _adopting(Timeouts(prepare_s=5.0))
    worker.receive(SetPause(job_id="j1", attempt=1, mode="none"))

    assert StopAttempt(J1) not in _passes(worker, 100.0)


def test_an_attempt_that_outlived_its_daemon_must_still_say_something() -> None:
    worker = _adopting(Timeouts(silence_s=10.0))
    worker.receive(SetPause(job_id="j1", attempt=1, mode="none"))

    early = _passes(worker, 9.9)

    assert StopAttempt(J1) not in early
    assert StopAttempt(J1) in _passes(worker, 0.2)


def test_an_older_coordinator_does_not_keep_the_silence_of_a_found_attempt_from_counting() -> None:
    spec: JobSpec = job("j1", timeouts=Timeouts(silence_s=10.0))
    worker = WorkerBench(adopted=((Assign(job=spec, attempt=1, epoch=1), 0),))
    worker.registered()

    assert StopAttempt(J1) in _passes(worker, 10.1)


def test_a_found_attempt_that_may_be_frozen_is_not_judged_before_it_is_known() -> None:
    worker = _adopting(Timeouts(silence_s=10.0))

    unknown = _passes(worker, 50.0)
    worker.receive(SetPause(job_id="j1", attempt=1, mode="freeze"))
    worker.handle(PauseSeen(J1, is_frozen=True))

    assert StopAttempt(J1) not in [*unknown, *_passes(worker, 50.0)]


def test_the_time_for_which_a_job_stands_still_is_no_silence(worker: WorkerBench) -> None:
    worker.runs("j1", timeouts=Timeouts(silence_s=10.0))
    worker.handle(AttemptBegan(J1))
    worker.receive(SetPause(job_id="j1", attempt=1, mode="freeze"))
    worker.handle(PauseSeen(J1, is_frozen=True))

    frozen = _passes(worker, 100.0)
    worker.handle(PauseSeen(J1, is_frozen=False))
    early = _passes(worker, 9.9)

    assert StopAttempt(J1) not in [*frozen, *early]
    assert StopAttempt(J1) in _passes(worker, 0.2)


def test_a_plan_whose_child_took_long_has_its_time_from_then_on(worker: WorkerBench) -> None:
    worker.runs("j1", kind="plan", timeouts=Timeouts(silence_s=10.0))
    worker.handle(AttemptBegan(J1))
    worker.handle(ChildAsked(J1, job("c1")))

    waiting = _passes(worker, 100.0)
    outcome = Outcome(job_id="c1", status="succeeded", attempt=1)
    at_once = worker.receive(ChildFinished(outcome=outcome))
    early = _passes(worker, 9.9)

    assert StopAttempt(J1) not in [*waiting, *at_once, *early]
    assert StopAttempt(J1) in _passes(worker, 0.2)


def test_what_a_job_said_while_its_daemon_stood_still_counts(worker: WorkerBench) -> None:
    worker.runs("j1", timeouts=Timeouts(silence_s=10.0))
    worker.handle(AttemptBegan(J1))

    worker.now += 60.0  # Nothing is handled meanwhile; the tick that is due comes first.
    late = worker.handle(Tick())
    worker.handle(AttemptSpoke(J1, (_event(1),)))
    early = _passes(worker, 9.9)

    assert StopAttempt(J1) not in [*late, *early]
    assert StopAttempt(J1) in _passes(worker, 0.2)
