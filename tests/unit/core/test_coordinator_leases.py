"""Who holds what: reconnects, restarts, losses, and what comes too late."""

import pytest
from tests.unit.core.coordinator_bench import (
    CoordinatorBench,
    assigned,
    closed,
    records,
    told,
)
from tests.unit.core.samples import (
    capacity,
    ended,
    finished,
    job,
    left,
    result,
    started,
    submitted,
    succeeded,
)

from lineshaft_coordinator.core.io import Append, Close, Send, StopPlacing
from lineshaft_coordinator.core.records import AttemptLeft
from lineshaft_protocol.client_messages import Answer, Drain, Heal
from lineshaft_protocol.jobs import Parent, Timeouts
from lineshaft_protocol.outcomes import Failure
from lineshaft_protocol.resources import Capacity, Gpu, Resources
from lineshaft_protocol.worker_messages import (
    Began,
    ChildFinished,
    Ended,
    HealDevice,
    Heartbeat,
    HeartbeatAck,
    Held,
    LeaveNow,
    Leaving,
    Register,
    Registered,
    Returned,
    Settled,
    SpawnChild,
)


def test_a_result_of_a_lost_attempt_is_not_recorded(coordinator: CoordinatorBench) -> None:
    coordinator.given(
        submitted("j1"),
        started("j1", 1, on="w1"),
        left("j1", 1, "worker_lost"),
        started("j1", 2, on="w2"),
    )
    w1 = coordinator.worker("w1", is_draining=True)

    effects = coordinator.receive(w1, ended("j1", 1))

    assert effects == [Send(w1, Settled(job_id="j1", attempt=1))]


def test_a_result_from_a_worker_without_the_lease_is_not_recorded(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1"), started("j1", 1, on="w1"))
    w2 = coordinator.worker("w2")

    effects = coordinator.receive(w2, ended("j1", 1))

    assert effects == [Send(w2, Settled(job_id="j1", attempt=1))]


def test_a_result_told_twice_counts_once(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    coordinator.receive(worker, ended("j1", 1))

    effects = coordinator.receive(worker, ended("j1", 1, "failed"))

    assert effects == [Send(worker, Settled(job_id="j1", attempt=1))]


# --- reconnects ---


def test_a_worker_that_comes_back_in_time_keeps_what_it_runs(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1", kind="pipeline"))
    coordinator.disconnect(coordinator.worker("w1"))
    coordinator.after(300.0)

    worker, effects = coordinator.register(
        "w1", held=(Held(job_id="j1", attempt=1, is_running=True),)
    )

    assert [type(message) for message in told(effects, worker)] == [Registered]
    assert records(coordinator.receive(worker, ended("j1", 1))) == [
        finished(succeeded("j1", 1, on="w1"))
    ]


def test_an_assignment_that_never_arrived_costs_nothing(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"))
    coordinator.disconnect(coordinator.worker("w1"))

    _, effects = coordinator.register("w1")

    reason = "it never reached its worker"
    assert records(effects)[0] == left("j1", 1, "not_delivered", reason)
    assert assigned(effects) == [("j1", 2)]


def test_an_assignment_swallowed_by_our_restart_costs_nothing(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1"), started("j1", 1, on="w1", incarnation="i1"))

    _, effects = coordinator.register("w1", incarnation="i1")

    assert records(effects)[0] == left("j1", 1, "not_delivered", "it never reached its worker")


def test_what_a_restarted_worker_no_longer_has_is_lost(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"), started("j1", 1, on="w1", incarnation="i1"))

    _, effects = coordinator.register("w1", incarnation="i2")

    assert records(effects)[0] == left("j1", 1, "worker_lost", "worker w1 was restarted")


def test_an_attempt_that_we_gave_away_is_fenced_when_its_worker_returns(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(
        submitted("j1"),
        started("j1", 1, on="w1"),
        left("j1", 1, "worker_lost"),
        started("j1", 2, on="w2"),
    )

    worker, effects = coordinator.register(
        "w1", held=(Held(job_id="j1", attempt=1, is_running=True),)
    )

    assert told(effects, worker)[1:] == [Settled(job_id="j1", attempt=1)]


def test_a_newer_connection_of_a_worker_takes_over(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"))
    old = coordinator.worker("w1")

    new, effects = coordinator.register("w1", held=(Held(job_id="j1", attempt=1),))

    assert closed(effects) == [(old, "replaced by a newer connection of this worker")]
    assert closed(coordinator.receive(old, ended("j1", 1))) == [
        (old, "the first message must be Register")
    ]
    assert records(coordinator.receive(new, ended("j1", 1))) != []


def test_an_older_connection_that_registers_late_is_closed(coordinator: CoordinatorBench) -> None:
    old = coordinator._connect("worker")
    new = coordinator.worker("w1")
    register = coordinator.shop.fleet.by_session[new].register
    assert isinstance(register, Register)

    effects = coordinator.receive(old, register)

    assert closed(effects) == [(old, "this worker has registered on a newer connection")]


def test_an_old_list_of_what_is_held_is_not_believed_after_a_newer_connection(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1", kind="pipeline"))
    old = coordinator._connect("worker")
    new = coordinator.worker("w1")
    register = coordinator.shop.fleet.by_session[new].register
    assert isinstance(register, Register)
    coordinator.disconnect(new)

    effects = coordinator.receive(old, register)

    assert closed(effects) == [(old, "this worker has registered on a newer connection")]
    assert coordinator.state("j1") == "leased"


def test_a_session_that_registers_twice_is_closed(coordinator: CoordinatorBench) -> None:
    worker = coordinator.worker("w1")
    register = coordinator.shop.fleet.by_session[worker].register
    assert isinstance(register, Register)

    effects = coordinator.receive(worker, register.model_copy(update={"worker_id": "w2"}))

    assert closed(effects) == [(worker, "a session registers once")]
    assert coordinator.disconnect(worker) == []
    assert told(coordinator.register("w1")[1], coordinator.shop.fleet.workers["w1"].session) != []


# --- losses ---


def test_a_function_starts_elsewhere_soon_after_its_worker_is_gone(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1"))
    gone, other = coordinator.worker("w1"), coordinator.worker("w2")
    coordinator.live(31.0, gone, other)

    effects = coordinator.disconnect(gone)
    early, late = coordinator.after(0.49), coordinator.after(0.02)

    assert effects == []
    assert assigned(early) == []
    assert assigned(late) == [("j1", 2)]
    assert len(told(late, other)) == 1


def test_a_pipeline_waits_ten_minutes_for_its_worker(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1", kind="pipeline"))
    coordinator.disconnect(coordinator.worker("w1"))

    early, late = coordinator.after(599.9), coordinator.after(0.2)

    assert records(early) == []
    assert records(late) == [left("j1", 1, "worker_lost", "worker w1 was lost")]


def test_a_job_may_say_how_long_it_waits_for_its_worker(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1", kind="pipeline", timeouts=Timeouts(lost_after_s=60.0)))
    coordinator.disconnect(coordinator.worker("w1"))

    assert records(coordinator.after(59.9)) == []
    assert [record.type for record in records(coordinator.after(0.2))] == ["AttemptLeft"]


def test_nobody_is_judged_lost_right_after_our_start(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"), started("j1", 1, on="w1"))

    assert records(coordinator.after(29.9)) == []
    assert [record.type for record in records(coordinator.after(0.2))] == ["AttemptLeft"]


def test_nobody_is_judged_by_our_own_stall(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"))
    away, here = coordinator.worker("w1"), coordinator.worker("w2")
    coordinator.live(31.0, away, here)
    coordinator.disconnect(away)

    effects = coordinator.stall(120.0)

    assert effects == []
    assert coordinator.state("j1") == "leased"


def test_a_silent_worker_is_closed(coordinator: CoordinatorBench) -> None:
    worker = coordinator.worker("w1")

    assert closed(coordinator.after(19.9)) == []
    assert closed(coordinator.after(0.2)) == [(worker, "silent for 20 s")]


def test_a_worker_that_is_hardly_heard_gets_nothing_new(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.after(15.1)

    silent = coordinator.submit(client, "j1")
    heard = coordinator.receive(worker, Leaving())
    again = coordinator.receive(worker, Heartbeat(worker_id="w1", load={}, sent_at=1.0))

    assert assigned(silent) == assigned(heard) == []
    assert again[0] == Send(worker, HeartbeatAck(sent_at=1.0))


def test_a_suspect_worker_gets_work_with_its_first_word(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.after(15.1)
    coordinator.submit(client, "j1")

    effects = coordinator.receive(worker, Began(job_id="j9", attempt=1))

    assert assigned(effects) == [("j1", 1)]


def test_a_job_that_lost_three_workers_is_taken_to_be_their_cause(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(
        submitted("j1"),
        started("j1", 1, on="w1"),
        left("j1", 1, "worker_lost"),
        started("j1", 2, on="w1"),
        left("j1", 2, "worker_lost"),
        started("j1", 3, on="w1"),
    )

    effects = coordinator.after(31.0)

    text = "worker w1 was lost; 3 workers were lost with this job"
    failures = [r.outcome.failure for r in records(effects) if r.type == "JobFinished"]
    assert failures == [Failure(cause="worker_lost", message=text)]


def test_what_was_never_delivered_is_never_poison(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("j1"))
    for _ in range(5):
        coordinator.disconnect(coordinator.worker("w1"))

    _, effects = coordinator.register("w1")

    assert assigned(effects) == [("j1", 6)]


# --- giving back ---


def test_what_a_worker_gives_back_starts_elsewhere(coordinator: CoordinatorBench) -> None:
    client, w1 = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1")
    w2 = coordinator.worker("w2")
    coordinator.receive(w1, Leaving())

    effects = coordinator.receive(w1, Returned(job_id="j1", attempt=1, reason="draining"))

    assert effects[0] == Append(left("j1", 1, "returned", "draining"))
    assert told(effects, w1) == [Settled(job_id="j1", attempt=1)]
    assert len(told(effects, w2)) == 1


def test_what_a_drained_worker_stopped_is_not_counted(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1")
    coordinator.receive(worker, Leaving())

    effects = coordinator.receive(worker, ended("j1", 1, "stopped"))

    assert records(effects) == [left("j1", 1, "returned", "worker w1 was drained")]


def test_what_a_worker_stopped_by_itself_counts_as_lost(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1")

    effects = coordinator.receive(worker, ended("j1", 1, "stopped"))

    assert isinstance(records(effects)[0], AttemptLeft)
    assert records(effects)[0] == left("j1", 1, "worker_lost", "worker w1 stopped it")


def test_the_reason_of_a_worker_that_stopped_an_attempt_is_told(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1")
    why = result("j1", 1, "stopped").model_copy(update={"reason": "its lease ran out"})

    effects = coordinator.receive(worker, Ended(result=why))

    said = "worker w1 stopped it: its lease ran out"
    assert records(effects)[0] == left("j1", 1, "worker_lost", said)


# --- drain ---


def test_a_draining_worker_gets_nothing_more(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")

    effects = coordinator.receive(client, Drain(request_id=7, worker_id="w1", stop=True))

    assert effects == [
        Send(worker, LeaveNow(stop=True)),
        Send(client, Answer(request_id=7, data={"draining": True})),
    ]
    assert assigned(coordinator.submit(client, "j1")) == []


def test_a_gpu_is_healed_by_its_worker(coordinator: CoordinatorBench) -> None:
    gpu = Gpu(uuid="g1", name="Standin", memory_bytes=8 << 30, fault="7 GiB of it are in use")
    client = coordinator.client()
    worker = coordinator.worker("w1", offers=Capacity(slots=1, cpus=1, memory_bytes=0, gpus=(gpu,)))

    effects = coordinator.receive(client, Heal(request_id=7, worker_id="w1", gpu="g1"))
    unknown = coordinator.receive(client, Heal(request_id=8, worker_id="w1", gpu="g2"))
    away = coordinator.receive(client, Heal(request_id=9, worker_id="w2", gpu="g1"))

    assert effects == [
        Send(worker, HealDevice(gpu="g1")),
        Send(client, Answer(request_id=7, data={"asked": True})),
    ]
    assert unknown == [Send(client, Answer(request_id=8, error="worker w1 has no GPU g2"))]
    assert away == [Send(client, Answer(request_id=9, error="no worker w2 is connected"))]


def test_draining_a_worker_that_is_not_here_is_answered(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    effects = coordinator.receive(client, Drain(request_id=7, worker_id="w1"))

    assert effects == [Send(client, Answer(request_id=7, error="no worker w1 is connected"))]


def test_a_drain_is_repeated_to_a_worker_that_did_not_hear_it(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.receive(client, Drain(request_id=7, worker_id="w1"))
    coordinator.disconnect(worker)

    again, effects = coordinator.register("w1")
    fresh, after_restart = coordinator.register("w1", incarnation="i2")

    assert told(effects, again)[1:] == [LeaveNow(stop=False)]
    assert told(after_restart, fresh)[1:] == []


# --- children of plans ---


def test_a_plan_gives_its_slot_to_its_child(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "p", kind="plan")
    child = job("p.1", parent=Parent(job_id="p", attempt=1))

    asked = coordinator.receive(worker, SpawnChild(job=child))
    over = coordinator.receive(worker, ended("p.1", 1))

    assert assigned(asked) == [("p.1", 1)]
    assert told(over, worker) == [
        ChildFinished(outcome=succeeded("p.1", 1, on="w1")),
        Settled(job_id="p.1", attempt=1),
    ]
    assert coordinator.shop.fleet.workers["w1"].used_slots == 1


def test_a_child_asked_for_twice_runs_once(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=2))
    coordinator.submit(client, "p", kind="plan")
    child = job("p.1", parent=Parent(job_id="p", attempt=1))
    coordinator.receive(worker, SpawnChild(job=child))

    effects = coordinator.receive(worker, SpawnChild(job=child, is_repeat=True))

    assert effects == []


def test_the_children_of_a_plan_end_with_it(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "p", kind="plan")
    coordinator.submit(client, "other", priority=5)
    for number in (1, 2):
        child = job(f"p.{number}", parent=Parent(job_id="p", attempt=1))
        coordinator.receive(worker, SpawnChild(job=child))

    effects = coordinator.receive(worker, ended("p", 1, "failed"))

    ends = [record.outcome for record in records(effects) if record.type == "JobFinished"]
    assert [(end.job_id, end.status) for end in ends] == [
        ("p", "failed"),
        ("p.1", "cancelled"),
        ("p.2", "cancelled"),
    ]


def test_children_are_counted_once_over_restarts_and_reconnects(
    coordinator: CoordinatorBench,
) -> None:
    child = {"parent": Parent(job_id="p", attempt=2)}
    old_child = {"parent": Parent(job_id="p", attempt=1)}
    coordinator.given(
        submitted("p", kind="plan"),
        started("p", 1, on="w1"),
        submitted("p.old", **old_child),
        started("p.old", 1, on="w1"),
        left("p", 1, "failed"),
        started("p", 2, on="w1"),
        submitted("p.new", **child),
        started("p.new", 1, on="w1"),
    )
    held = tuple(
        Held(job_id=job_id, attempt=attempt, is_running=True)
        for job_id, attempt in (("p", 2), ("p.old", 1), ("p.new", 1))
    )

    for _ in range(3):
        coordinator.worker("w1", held=held)

    assert coordinator.shop.fleet.workers["w1"].running["p"].child_count == 1


def test_a_stranger_cannot_ask_for_a_child(coordinator: CoordinatorBench) -> None:
    worker = coordinator.worker("w1")

    effects = coordinator.receive(
        worker, SpawnChild(job=job("p.1", parent=Parent(job_id="p", attempt=1)))
    )

    answers = told(effects, worker)
    assert isinstance(answers[0], ChildFinished)
    assert answers[0].outcome.status == "failed"
    assert records(effects) == []


def test_a_worker_that_does_not_register_first_is_closed(coordinator: CoordinatorBench) -> None:
    session = coordinator._connect("worker")

    effects = coordinator.receive(session, ended("j1", 1))

    assert effects == [Close(session, 1002, "the first message must be Register")]
    assert result("j1", 1).attempt == 1


@pytest.mark.parametrize(
    ("wanted", "cause", "words"),
    [
        ({"resources": Resources(cpus=4000.0)}, "unplaceable", "no worker could ever run"),
        ({"after": ("other",)}, "dependency", "comes after nothing"),
        ({"retry_of": "other"}, "start", "must have an id as other.r1"),
    ],
)
def test_a_child_goes_through_the_checks_of_a_submit(
    coordinator: CoordinatorBench, wanted: dict[str, object], cause: str, words: str
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=2))
    coordinator.live(10.0, worker)
    coordinator.submit(client, "other", priority=-5)
    coordinator.submit(client, "p", kind="plan")
    child = job("p.1", parent=Parent(job_id="p", attempt=1), **wanted)

    effects = coordinator.receive(worker, SpawnChild(job=child))

    (answer,) = told(effects, worker)
    assert isinstance(answer, ChildFinished)
    assert answer.outcome.failure is not None
    assert answer.outcome.failure.cause == cause
    assert words in answer.outcome.failure.message
    assert records(effects) == []


def test_a_child_asked_of_a_coordinator_that_stops_is_left_to_the_next_one(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=2))
    coordinator.submit(client, "p", kind="plan")
    coordinator.handle(StopPlacing())
    child = job("p.1", parent=Parent(job_id="p", attempt=1))

    assert coordinator.receive(worker, SpawnChild(job=child)) == []
