"""What a worker does by itself: it guards its slots, and keeps every result until it is settled."""

import pytest
from tests.unit.core.samples import CODE, capacity, job, result, succeeded
from tests.unit.core.worker_bench import WorkerBench, begun, said

from lineshaft_protocol.figures import Figures
from lineshaft_protocol.ids import BlobId, Session
from lineshaft_protocol.jobs import Parent, Payload
from lineshaft_protocol.outcomes import Failure
from lineshaft_protocol.resources import GIB, Resources
from lineshaft_protocol.worker_messages import (
    Assign,
    Began,
    ChildFinished,
    Ended,
    Heartbeat,
    HeartbeatAck,
    Held,
    LeaveNow,
    Leaving,
    Recall,
    Register,
    Returned,
    Settled,
    SpawnChild,
    Stop,
)
from lineshaft_worker.core.io import (
    AnswerChild,
    AttemptBegan,
    AttemptKey,
    AttemptReturned,
    BlobGone,
    BlobsArrived,
    BlobsFailed,
    ChildAsked,
    Close,
    Connect,
    Connected,
    DrainAsked,
    FetchBlobs,
    ForgetAttempt,
    Leave,
    LoadSampled,
    Received,
    ResultRefused,
    ResultStored,
    RevokeAttempt,
    StopAttempt,
    StoreResult,
)
from lineshaft_worker.core.machine import WorkerCore

J1, J2, J3 = AttemptKey("j1", 1), AttemptKey("j2", 1), AttemptKey("j3", 1)


# --- the connection ---


def test_it_says_what_it_holds_whenever_it_connects(worker: WorkerBench) -> None:
    worker.registered()
    worker.runs("j1")
    worker.assign("j2")
    worker.cut()

    register = said(worker.connected())[0]

    assert isinstance(register, Register)
    assert register.held == (
        Held(job_id="j1", attempt=1, is_running=True),
        Held(job_id="j2", attempt=1, is_running=False),
    )


def test_a_result_is_told_until_it_is_settled(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")

    first = worker.ends(key)
    worker.cut()
    again = worker.registered()
    settled = worker.receive(Settled(job_id="j1", attempt=1))
    worker.cut()

    ended = Ended(result=result("j1", 1))
    assert said(first) == [ended]
    assert ended in said(again)
    assert settled == [ForgetAttempt(J1)]
    assert ended not in said(worker.registered())


def test_waiting_before_the_next_try_to_connect_doubles(worker: WorkerBench) -> None:
    waits = []
    worker.registered()
    for _ in range(4):
        worker.cut()
        before = worker.now
        worker.after(60.0, until=Connect)
        waits.append(round(worker.now - before, 3))
        worker.session = Session(len(waits) + 10)
        worker.handle(Connected(worker.session))

    assert waits == [0.1, 0.2, 0.4, 0.8]  # Connected, but never answered.


def test_a_coordinator_that_does_not_answer_is_left(worker: WorkerBench) -> None:
    worker.connected()

    effects = worker.after(10.0)

    assert [type(effect) for effect in effects][:1] == [Close]


def test_a_silent_coordinator_is_left(worker: WorkerBench) -> None:
    worker.registered()

    effects = worker.after(20.0)

    closes = [effect.reason for effect in effects if isinstance(effect, Close)]
    assert closes == ["the coordinator was silent for 20 s"]


def test_what_comes_on_an_old_session_is_not_obeyed(worker: WorkerBench) -> None:
    worker.registered()
    old = worker.session
    assert old is not None
    worker.cut()
    worker.registered()

    effects = worker.handle(Received(old, Assign(job=job("j1"), attempt=1, epoch=1)))

    assert effects == []


def test_a_beginning_not_heard_is_told_again(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")
    worker.cut()
    worker.connected()
    worker.handle(AttemptBegan(key))

    assert Began(job_id="j1", attempt=1) in said(worker.registered())


# --- slots and devices ---


def test_an_attempt_told_twice_runs_once(worker: WorkerBench) -> None:
    worker.registered()

    assert begun(worker.assign("j1")) == [("j1", 0)]
    assert worker.assign("j1") == []


def test_no_more_runs_than_there_are_slots(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")

    waits = worker.assign("j2")
    starts = worker.ends(key)

    assert begun(waits) == []
    assert begun(starts) == [("j2", 0)]


def test_a_slot_is_free_when_the_process_is_gone_not_when_it_is_asked_to_end(
    worker: WorkerBench,
) -> None:
    worker.registered()
    key = worker.runs("j1")
    worker.assign("j2")

    asked = worker.receive(Stop(job_id="j1", attempt=1))
    over = worker.ends(key, "stopped")

    assert asked == [StopAttempt(J1)]
    assert begun(over) == [("j2", 0)]


def test_a_settled_attempt_keeps_its_slot_until_it_is_gone(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")
    worker.assign("j2")

    fenced = worker.receive(Settled(job_id="j1", attempt=1))
    over = worker.ends(key, "stopped")

    assert fenced == [StopAttempt(J1)]
    assert ForgetAttempt(J1) in over
    assert said(over) == []
    assert begun(over) == [("j2", 0)]


def test_cpus_and_memory_are_never_given_twice() -> None:
    worker = WorkerBench(capacity(slots=4, cpus=4.0))
    worker.registered()
    worker.runs("j1", resources=Resources(cpus=3.0, memory_bytes=20 * GIB))

    assert begun(worker.assign("j2", resources=Resources(cpus=2.0))) == []
    assert begun(worker.assign("j3", resources=Resources(memory_bytes=20 * GIB))) == []
    assert begun(worker.assign("j4", resources=Resources(cpus=1.0))) == [("j4", 1)]


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [(0, 0, False), (10, 0, False), (0, 10, False), (10, 14, True), (10, 15, False)],
)
def test_a_gpu_is_shared_by_memory_or_not_at_all(first: int, second: int, fits: bool) -> None:
    worker = WorkerBench(capacity(slots=4, gpus=1))
    worker.registered()
    wanted = [Resources(gpus=1, gpu_memory_bytes=gib * GIB) for gib in (first, second)]
    worker.runs("j1", resources=wanted[0], devices=("g0",))

    effects = worker.assign("j2", resources=wanted[1], devices=("g0",))

    assert bool(begun(effects)) is fits


def test_what_waits_for_a_failed_gpu_is_given_back(worker: WorkerBench) -> None:
    worker = WorkerBench(capacity(slots=2, gpus=1))
    worker.registered()
    worker.runs("j1", resources=Resources(gpus=1), devices=("g0",))
    worker.assign("j2", resources=Resources(gpus=1), devices=("g0",))
    broken = capacity(slots=2, gpus=1, faulty=(0,))

    effects = worker.handle(LoadSampled({}, broken))

    messages = said(effects)
    assert isinstance(messages[0], Heartbeat)
    assert messages[0].capacity == broken
    assert messages[1] == Returned(
        job_id="j2", attempt=1, reason="what it asks for is out of use on this worker"
    )


def test_what_the_daemon_counted_goes_with_its_heartbeats(worker: WorkerBench) -> None:
    worker.connected()
    counted = Figures(spool_bytes=7, environment_hits=(1, 2), environment_hits_s=3.0)
    worker.handle(LoadSampled({}, None, counted))
    worker.handle(LoadSampled({}))

    messages = said(worker.registered())

    assert [m.figures for m in messages if isinstance(m, Heartbeat)] == [counted]


def test_a_device_that_fails_before_the_answer_to_register_is_told(worker: WorkerBench) -> None:
    worker = WorkerBench(capacity(gpus=1))
    worker.connected()
    broken = capacity(gpus=1, faulty=(0,))
    worker.handle(LoadSampled({}, broken))

    messages = said(worker.registered())

    assert [m.capacity for m in messages if isinstance(m, Heartbeat)] == [broken]


# --- lanes ---


def test_brief_work_is_handed_to_a_busy_lane() -> None:
    worker = WorkerBench()
    worker.registered()
    worker.runs("j1", expected_s=0.001)

    assert begun(worker.assign("j2", expected_s=0.001)) == [("j2", 0)]
    assert begun(worker.assign("j3", expected_s=5.0)) == []


def test_what_waits_behind_a_stuck_attempt_is_taken_back(worker: WorkerBench) -> None:
    worker.registered()
    worker.runs("j1", expected_s=0.001)
    worker.assign("j2", expected_s=0.001)

    late = worker.after(0.05)
    worker.handle(AttemptReturned(J2))

    assert late == [RevokeAttempt(J2)]
    assert list(worker.core.bench.waiting) == [J2]


def test_what_was_handed_over_runs_when_the_first_has_ended(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1", expected_s=0.001)
    worker.assign("j2", expected_s=0.001)

    worker.ends(key)
    effects = worker.ends(J2)

    assert said(effects) == [Ended(result=result("j2", 1))]
    assert worker.core.bench.used_slots == 0


def test_a_handed_attempt_that_is_cancelled_never_runs(worker: WorkerBench) -> None:
    worker.registered()
    worker.runs("j1", expected_s=0.001)
    worker.assign("j2", expected_s=0.001)

    asked = worker.receive(Stop(job_id="j2", attempt=1))
    over = worker.handle(AttemptReturned(J2))

    assert asked == [RevokeAttempt(J2)]
    assert [m.result.status for m in said(over) if isinstance(m, Ended)] == ["stopped"]


def test_an_attempt_given_back_while_it_stops_has_ended(worker: WorkerBench) -> None:
    worker.registered()
    worker.runs("j1")
    worker.receive(Stop(job_id="j1", attempt=1))

    effects = worker.handle(AttemptReturned(J1))

    assert begun(effects) == []
    assert [m.result.status for m in said(effects) if isinstance(m, Ended)] == ["stopped"]


def test_a_recalled_attempt_that_waits_is_given_back(worker: WorkerBench) -> None:
    worker.registered()
    worker.runs("j1")
    worker.assign("j2")

    effects = worker.receive(Recall(job_id="j2", attempt=1))
    running = worker.receive(Recall(job_id="j1", attempt=1))

    assert said(effects) == [Returned(job_id="j2", attempt=1, reason="another worker is idle")]
    assert running == []


# --- blobs ---


def test_code_is_fetched_once(worker: WorkerBench) -> None:
    worker.registered()

    first = worker.assign("j1", code=CODE)
    arrived = worker.handle(BlobsArrived(J1))
    second = worker.assign("j2", code=CODE)
    worker.handle(BlobGone(CODE))
    third = worker.assign("j3", code=CODE)

    assert first == [FetchBlobs(J1, (CODE,))]
    assert begun(arrived) == [("j1", 0)]
    assert second == []
    assert third == [FetchBlobs(J3, (CODE,))]


def test_all_files_of_a_job_are_fetched_before_it_starts(worker: WorkerBench) -> None:
    worker.registered()

    first = worker.assign("j1", kind="pipeline", files=("a" * 64, "b" * 64))
    arrived = worker.handle(BlobsArrived(J1))

    assert first == [FetchBlobs(J1, (BlobId("a" * 64), BlobId("b" * 64)))]
    assert begun(arrived) == [("j1", 0)]


def test_a_job_without_its_blob_fails(worker: WorkerBench) -> None:
    worker.registered()
    worker.assign("j1", code=CODE)

    effects = worker.handle(BlobsFailed(J1, "it is gone"))

    failures = [m.result.failure for m in said(effects) if isinstance(m, Ended)]
    assert failures == [Failure(cause="blob_missing", message="it is gone")]


def test_a_large_result_is_told_once_it_is_stored(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")
    payload = Payload(blob="f" * 64)

    over = worker.ends(key, must_store=True)
    worker.cut()
    again = worker.registered()
    stored = worker.handle(ResultStored(key, payload))

    assert over == [StoreResult(J1)]
    assert StoreResult(J1) in again
    told = [m.result.result for m in said(stored) if isinstance(m, Ended)]
    assert told == [payload]


def test_a_result_that_nobody_stores_fails_the_attempt(worker: WorkerBench) -> None:
    worker.registered()
    worker.ends(worker.runs("j1"), must_store=True)

    effects = worker.handle(ResultRefused(J1, "no room"))

    failures = [m.result.failure for m in said(effects) if isinstance(m, Ended)]
    assert failures == [Failure(cause="result", message="no room")]


# --- children ---


def _child(number: int) -> SpawnChild:
    return SpawnChild(job=job(f"c{number}", parent=Parent(job_id="j1", attempt=1)))


def test_a_plan_that_waits_gives_its_slot_to_its_child(worker: WorkerBench) -> None:
    worker.registered()
    plan = worker.runs("j1", kind="plan")

    asked = worker.handle(ChildAsked(plan, _child(1).job))
    child = worker.assign("c1")
    worker.ends(AttemptKey("c1", 1))
    outcome = succeeded("c1", 1, on="w1")
    answered = worker.receive(ChildFinished(outcome=outcome))

    assert said(asked) == [_child(1)]
    assert begun(child) == [("c1", 1)]
    assert answered == [AnswerChild(plan, outcome)]
    assert worker.core.bench.used_slots == 1


def test_a_plan_goes_on_when_there_is_a_slot_for_it(worker: WorkerBench) -> None:
    worker.registered()
    plan = worker.runs("j1", kind="plan")
    worker.handle(ChildAsked(plan, _child(1).job))
    other = worker.runs("j2")
    outcome = succeeded("c1", 1, on="w2")

    full = worker.receive(ChildFinished(outcome=outcome))
    free = worker.ends(other)

    assert full == []
    assert AnswerChild(plan, outcome) in free


def test_a_plan_with_two_children_keeps_its_slot_away_for_the_second(worker: WorkerBench) -> None:
    worker.registered()
    plan = worker.runs("j1", kind="plan")
    for number in (1, 2):
        worker.handle(ChildAsked(plan, _child(number).job))
    first = succeeded("c1", 1, on="w2")

    answered = worker.receive(ChildFinished(outcome=first))
    second = worker.assign("c2")

    assert answered == [AnswerChild(plan, first)]
    assert begun(second) == [("c2", 1)]


def test_children_are_asked_for_again_after_a_cut(worker: WorkerBench) -> None:
    worker.registered()
    plan = worker.runs("j1", kind="plan")
    worker.handle(ChildAsked(plan, _child(1).job))
    worker.cut()

    asked = [message for message in said(worker.registered()) if isinstance(message, SpawnChild)]

    assert asked == [SpawnChild(job=_child(1).job, is_repeat=True)]


# --- alone ---


def test_a_worker_alone_ends_what_it_runs_when_its_lease_is_over(worker: WorkerBench) -> None:
    worker.registered()
    worker.receive(HeartbeatAck(sent_at=worker.now))
    key = worker.runs("j1")
    worker.assign("j2")
    acked_at = worker.now
    worker.cut()

    worker.after(449.9)
    before = worker.core.bench.attempts[key].phase.value
    effects = worker.after(0.2, until=StopAttempt)

    assert before == "running"
    assert StopAttempt(J1) in effects
    assert ForgetAttempt(J2) in effects
    assert worker.now == acked_at + 450.0


def test_adopted_attempts_have_a_lease_too() -> None:
    assign = Assign(job=job("j1"), attempt=1, epoch=1)
    worker = WorkerBench(adopted=((assign, 0),))

    effects = worker.after(451.0)

    assert StopAttempt(J1) in effects


def test_an_adopted_attempt_is_held_and_ends_as_any_other() -> None:
    assign = Assign(job=job("j1"), attempt=1, epoch=1)
    worker = WorkerBench(adopted=((assign, 3),))

    register = said(worker.connected())[0]
    worker.registered()
    over = worker.ends(J1)

    assert isinstance(register, Register)
    assert register.held == (Held(job_id="j1", attempt=1, is_running=True, pause="unknown"),)
    assert said(over) == [Ended(result=result("j1", 1))]


# --- leaving ---


def test_a_draining_worker_gives_back_what_waits_and_leaves_when_the_rest_is_settled(
    worker: WorkerBench,
) -> None:
    worker.registered()
    key = worker.runs("j1")
    worker.assign("j2")

    asked = worker.handle(DrainAsked())
    over = worker.ends(key)
    settled = worker.receive(Settled(job_id="j1", attempt=1))

    assert said(asked) == [
        Leaving(reason="the worker is draining"),
        Returned(job_id="j2", attempt=1, reason="another worker is idle"),
    ]
    assert Leave() not in over
    assert settled == [ForgetAttempt(J1), Leave()]


def test_a_draining_worker_takes_nothing(worker: WorkerBench) -> None:
    worker.registered()
    worker.receive(LeaveNow(stop=False))

    effects = worker.assign("j1")

    assert said(effects) == [Returned(job_id="j1", attempt=1, reason="draining")]


def test_what_is_given_back_before_the_answer_to_register_is_told_after_it(
    worker: WorkerBench,
) -> None:
    worker.registered()
    worker.runs("j1")
    worker.assign("j2")
    worker.cut()
    worker.connected()
    worker.handle(DrainAsked())

    messages = said(worker.registered())

    assert Returned(job_id="j2", attempt=1, reason="another worker is idle") in messages


def test_a_drained_worker_that_was_not_to_leave_leaves_when_asked(worker: WorkerBench) -> None:
    worker.registered()

    drained = worker.receive(LeaveNow(stop=False))
    asked = worker.handle(DrainAsked())

    assert Leave() not in drained
    assert Leave() in asked


def test_a_draining_worker_waits_for_the_coordinator_with_its_results(worker: WorkerBench) -> None:
    worker.registered()
    key = worker.runs("j1")
    worker.cut()
    worker.handle(DrainAsked())

    over = worker.ends(key)
    hurried = worker.handle(DrainAsked(is_hurried=True))

    assert Leave() not in over
    assert Leave() in hurried


def test_a_hurried_worker_stops_what_runs(worker: WorkerBench) -> None:
    worker.registered()
    worker.runs("j1")

    effects = worker.handle(DrainAsked(is_hurried=True))

    assert StopAttempt(J1) in effects
    assert isinstance(worker.core, WorkerCore)
