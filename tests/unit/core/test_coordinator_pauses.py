"""Pausing, resuming, preempting, and the files from which jobs go on."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, records, told
from tests.unit.core.samples import capacity, ended, started, submitted

from lineshaft_coordinator.core.io import ResumeAsked
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    FileKept,
    JobFinished,
    JobResumed,
    PauseRequested,
    PauseWithdrawn,
)
from lineshaft_coordinator.core.views import why
from lineshaft_protocol.client_messages import Answer, Cancel, Pause, Resume
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.worker_messages import (
    Assign,
    Began,
    Held,
    Kept,
    KeptAck,
    PauseTold,
    Returned,
    SetPause,
    Stop,
)

WHY = "paused by its user"


@pytest.fixture
def coordinator() -> CoordinatorBench:
    return CoordinatorBench()


def saved(number: int, *, attempt: int = 1, step: int = 300) -> KeptFile:
    return KeptFile(
        file_id=f"{attempt}.{number}",
        kind="checkpoint",
        name="model.pt",
        attempt=attempt,
        at=0.0,
        blob=f"{number:064x}",
        step=step,
    )


def running(coordinator: CoordinatorBench, **wanted: object) -> tuple[Session, Session]:
    """One worker that runs attempt 1 of j1, and a client."""
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1", kind="pipeline", **wanted)
    coordinator.receive(worker, Began(job_id="j1", attempt=1))
    return client, worker


def pause(number: int = 1, **more: object) -> Pause:
    return Pause.model_validate({"request_id": number, "job_id": "j1", **more})


def test_a_running_job_is_asked_and_its_user_waits(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)

    effects = coordinator.receive(client, pause())

    assert records(effects) == [PauseRequested(job_id="j1", reason=WHY)]
    assert told(effects, worker) == [SetPause(job_id="j1", attempt=1, mode="checkpoint")]
    assert told(effects, client) == []


def test_a_job_that_saved_and_ended_is_paused_and_frees_its_slot(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    coordinator.receive(worker, Kept(job_id="j1", file=saved(1)))

    effects = coordinator.receive(worker, ended("j1", 1, "paused"))

    assert coordinator.state("j1") == "paused"
    assert records(effects) == [AttemptLeft(job_id="j1", attempt=1, cause="paused", reason=WHY)]
    data = {"job_id": "j1", "status": "paused", "step": 300}
    assert told(effects, client) == [Answer(request_id=1, data=data)]
    assert assigned(coordinator.submit(client, "j2")) == [("j2", 1)]


def test_a_resumed_job_goes_on_from_its_last_checkpoint_with_the_next_attempt(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    for number in (1, 2):
        coordinator.receive(worker, Kept(job_id="j1", file=saved(number)))
    coordinator.receive(worker, ended("j1", 1, "paused"))

    effects = coordinator.receive(client, Resume(request_id=2, job_id="j1"))

    assert records(effects)[0] == JobResumed(job_id="j1")
    (assign,) = [m for m in told(effects, worker) if isinstance(m, Assign)]
    assert (assign.attempt, assign.checkpoint) == (2, saved(2))
    assert coordinator.shop.job(JobId("j1")).failed_count == 0


@pytest.mark.parametrize(("chosen", "goes_on_from"), [("1.1", 1), ("9.9", 2), (None, 2)])
def test_a_resumed_job_goes_on_from_the_checkpoint_that_is_chosen_until_it_saves_another(
    coordinator: CoordinatorBench, chosen: str | None, goes_on_from: int
) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    for number in (1, 2):
        coordinator.receive(worker, Kept(job_id="j1", file=saved(number)))
    coordinator.receive(worker, ended("j1", 1, "paused"))

    effects = coordinator.handle(ResumeAsked(JobId("j1"), chosen))
    (assign,) = [m for m in told(effects, worker) if isinstance(m, Assign)]
    coordinator.restart()
    found = coordinator.shop.job(JobId("j1")).checkpoint
    worker = coordinator.worker(held=(Held(job_id="j1", attempt=2, is_running=True),))
    coordinator.receive(worker, Kept(job_id="j1", file=saved(3, attempt=2)))

    assert assign.checkpoint == found == saved(goes_on_from)
    assert coordinator.shop.job(JobId("j1")).checkpoint == saved(3, attempt=2)


def test_a_paused_job_waits_through_a_restart(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    coordinator.receive(worker, ended("j1", 1, "paused"))

    coordinator.restart()
    worker = coordinator.worker()

    assert coordinator.state("j1") == "paused"
    coordinator.live(60, worker)
    assert coordinator.state("j1") == "paused"


def test_a_queued_job_is_held_at_once(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.submit(client, "j1")

    effects = coordinator.receive(client, pause())

    data = {"job_id": "j1", "status": "paused", "step": None}
    assert told(effects, client) == [Answer(request_id=1, data=data)]
    assert coordinator.state("j1") == "paused"
    _, effects = coordinator.register("w1")
    assert assigned(effects) == []
    effects = coordinator.receive(client, Resume(request_id=2, job_id="j1"))
    assert assigned(effects) == [("j1", 1)]


def test_a_job_that_waits_for_another_is_held_when_that_has_ended(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = running(coordinator)
    coordinator.submit(client, "j2", after=("j1",))
    coordinator.receive(client, Pause(request_id=1, job_id="j2"))

    effects = coordinator.receive(worker, ended("j1", 1))

    assert assigned(effects) == []
    effects = coordinator.receive(client, Resume(request_id=2, job_id="j2"))
    assert assigned(effects) == [("j2", 1)]


def test_a_job_that_does_not_react_goes_on_and_says_why(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause(grace_s=3.0))

    effects = coordinator.after(3.0)

    (withdrawn,) = records(effects)
    assert isinstance(withdrawn, PauseWithdrawn)
    assert "run.should_pause()" in withdrawn.reason
    assert told(effects, worker) == [SetPause(job_id="j1", attempt=1, mode="none")]
    (answer,) = [m for m in told(effects, client) if isinstance(m, Answer)]
    assert answer.error == f"job j1 did not pause: {withdrawn.reason}"
    assert coordinator.state("j1") == "leased"


def test_a_failed_save_leaves_the_job_running(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())

    effects = coordinator.receive(
        worker, PauseTold(job_id="j1", attempt=1, problem="the disk is full")
    )

    assert records(effects) == [PauseWithdrawn(job_id="j1", reason="the disk is full")]
    (answer,) = [m for m in told(effects, client) if isinstance(m, Answer)]
    assert answer.error == "job j1 did not pause: the disk is full"


def test_a_job_that_ends_before_it_could_pause_has_ended(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())

    effects = coordinator.receive(worker, ended("j1", 1))

    assert [type(r) for r in records(effects)] == [JobFinished]
    (answer,) = [m for m in told(effects, client) if isinstance(m, Answer)]
    assert answer.error is not None
    assert "ended as succeeded" in answer.error


def test_a_job_whose_worker_is_lost_while_it_pauses_is_paused(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause(grace_s=10_000.0))
    coordinator.disconnect(worker)

    coordinator.live(700)

    assert coordinator.state("j1") == "paused"


def test_what_has_not_begun_is_handed_back_and_held(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    coordinator.receive(client, pause())

    effects = coordinator.receive(worker, Returned(job_id="j1", attempt=1))

    assert coordinator.state("j1") == "paused"
    assert [m for m in told(effects, client) if isinstance(m, Answer)]


@pytest.mark.parametrize("was_paused", [False, True])
def test_a_paused_or_pausing_job_can_be_cancelled(
    coordinator: CoordinatorBench, was_paused: bool
) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    if was_paused:
        coordinator.receive(worker, ended("j1", 1, "paused"))

    effects = coordinator.receive(client, Cancel(job_id="j1", reason="enough"))

    if not was_paused:
        assert told(effects, worker) == [Stop(job_id="j1", attempt=1, reason="enough")]
        effects = coordinator.receive(worker, ended("j1", 1, "paused"))
    (finished,) = records(effects)
    assert isinstance(finished, JobFinished)
    assert finished.outcome.status == "cancelled"


def test_a_frozen_job_keeps_its_slot_until_it_is_resumed(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)
    effects = coordinator.receive(client, pause(freeze=True))
    assert told(effects, worker) == [SetPause(job_id="j1", attempt=1, mode="freeze")]

    effects = coordinator.receive(worker, PauseTold(job_id="j1", attempt=1, is_frozen=True))

    data = {"job_id": "j1", "status": "frozen", "step": None}
    assert told(effects, client) == [Answer(request_id=1, data=data)]
    assert assigned(coordinator.submit(client, "j2")) == []
    effects = coordinator.receive(client, Resume(request_id=2, job_id="j1"))
    assert told(effects, worker) == [SetPause(job_id="j1", attempt=1, mode="none")]


@pytest.mark.parametrize(
    ("held", "expected"),
    [("none", ["checkpoint"]), ("checkpoint", []), ("unknown", ["checkpoint"])],
)
def test_a_worker_that_comes_back_is_told_what_it_may_have_missed(
    coordinator: CoordinatorBench, held: str, expected: list[str]
) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    coordinator.disconnect(worker)
    holds = Held.model_validate({"job_id": "j1", "attempt": 1, "is_running": True, "pause": held})

    session, effects = coordinator.register("w1", held=(holds,))

    assert [m.mode for m in told(effects, session) if isinstance(m, SetPause)] == expected


def test_only_the_last_checkpoints_are_kept(coordinator: CoordinatorBench) -> None:
    _, worker = running(coordinator, checkpoints_kept=2)
    kept = [coordinator.receive(worker, Kept(job_id="j1", file=saved(n))) for n in (1, 2, 3)]

    again = coordinator.receive(worker, Kept(job_id="j1", file=saved(3)))

    assert records(kept[2]) == [FileKept(job_id="j1", file=saved(3), dropped=("1.1",))]
    assert records(again) == []
    assert told(again, worker) == [KeptAck(job_id="j1", attempt=1, file_id="1.3")]


def test_a_retry_goes_on_from_the_last_checkpoint(coordinator: CoordinatorBench) -> None:
    _, worker = running(coordinator, retries=1)
    coordinator.receive(worker, Kept(job_id="j1", file=saved(1)))
    coordinator.receive(worker, ended("j1", 1, "failed"))

    effects = coordinator.after(2.0)

    (assign,) = [m for m in told(effects, worker) if isinstance(m, Assign)]
    assert assign.checkpoint == saved(1)


def test_a_file_of_an_attempt_that_was_given_up_is_not_kept(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j1"), started("j1", 1, on="w1"))
    worker = coordinator.worker(held=(Held(job_id="j1", attempt=1, is_running=True),))

    effects = coordinator.receive(worker, Kept(job_id="j1", file=saved(1, attempt=2)))

    assert records(effects) == []


def test_an_urgent_job_has_a_lower_one_pause_and_that_comes_back(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = running(coordinator, preemptible=True)
    coordinator.submit(client, "urgent", kind="pipeline", priority=5)

    effects = coordinator.after(6.0)
    assert told(effects, worker) == [SetPause(job_id="j1", attempt=1, mode="checkpoint")]
    left = coordinator.receive(worker, ended("j1", 1, "paused"))

    assert [r.cause for r in records(left) if isinstance(r, AttemptLeft)] == ["preempted"]
    assert assigned(left) == [("urgent", 1)]
    assert assigned(coordinator.receive(worker, ended("urgent", 1))) == [("j1", 2)]


@pytest.mark.parametrize(
    "wanted",
    [{"resources": Resources(cpus=1.0)}, {"worker_id": "w1"}, {"resources": Resources(gpus=1)}],
)
def test_room_that_was_made_is_for_whom_it_was_made_also_if_that_is_of_another_shape(
    coordinator: CoordinatorBench, wanted: dict[str, object]
) -> None:
    client, worker = coordinator.client(), coordinator.worker(offers=capacity(gpus=1))
    coordinator.submit(client, "j1", kind="pipeline", preemptible=True)
    coordinator.receive(worker, Began(job_id="j1", attempt=1))
    coordinator.submit(client, "urgent", kind="pipeline", priority=5, **wanted)
    coordinator.after(6.0)

    left = coordinator.receive(worker, ended("j1", 1, "paused"))

    assert assigned(left) == [("urgent", 1)]
    assert assigned(coordinator.receive(worker, ended("urgent", 1))) == [("j1", 2)]


@pytest.mark.parametrize("wanted", [{"preemptible": False}, {"preemptible": True, "priority": 5}])
def test_nobody_else_makes_room(coordinator: CoordinatorBench, wanted: dict[str, object]) -> None:
    client, worker = running(coordinator, **wanted)
    coordinator.submit(client, "urgent", kind="pipeline", priority=5)

    effects = coordinator.after(12.0)

    assert not [m for m in told(effects, worker) if isinstance(m, SetPause)]


def test_only_as_many_make_room_as_are_needed(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker(offers=capacity(slots=3))
    for number, priority in ((1, -5), (2, 0), (3, -5)):
        coordinator.submit(client, f"j{number}", preemptible=True, priority=priority)
        coordinator.receive(worker, Began(job_id=f"j{number}", attempt=1))
    coordinator.submit(client, "urgent", priority=5)

    effects = coordinator.after(12.0)

    asked = [m for m in told(effects, worker) if isinstance(m, SetPause)]
    assert [m.job_id for m in asked] == ["j3"]


def test_why_tells_where_a_paused_job_would_go_on(coordinator: CoordinatorBench) -> None:
    client, worker = running(coordinator)
    coordinator.receive(client, pause())
    coordinator.receive(worker, Kept(job_id="j1", file=saved(1)))
    coordinator.receive(worker, ended("j1", 1, "paused"))

    found = why(coordinator.shop, JobId("j1"))

    assert found is not None
    assert found["reasons"] == [
        "it was paused by its user; it goes on from checkpoint model.pt at step 300 once "
        "'lineshaft resume j1' says so"
    ]
