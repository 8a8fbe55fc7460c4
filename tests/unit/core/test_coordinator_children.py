"""Who may ask for the child of a plan, and what becomes of one that was asked for before."""

from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, records, told
from tests.unit.core.samples import capacity, ended, job, succeeded

from lineshaft_coordinator.core.io import Found, Lookup, Send
from lineshaft_coordinator.core.records import CancelRequested
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.jobs import JobSpec, Parent
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.worker_messages import ChildFinished, Ended, SpawnChild, Stop


def _child(attempt: int = 1, **wanted: object) -> JobSpec:
    return job("p.1", parent=Parent(job_id="p", attempt=attempt), **wanted)


def _planning(coordinator: CoordinatorBench) -> Session:
    """A plan p that runs on w1, with room for more."""
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=3))
    coordinator.submit(client, "p", kind="plan")
    return worker


def _refused(message: str) -> ChildFinished:
    failure = Failure(cause="dependency", message=message)
    return ChildFinished(outcome=Outcome(job_id="p.1", status="failed", attempt=0, failure=failure))


def test_only_the_worker_that_has_the_plan_asks_for_its_child(
    coordinator: CoordinatorBench,
) -> None:
    _planning(coordinator)
    stranger = coordinator.worker("w2")

    effects = coordinator.receive(stranger, SpawnChild(job=_child()))

    assert told(effects, stranger) == [_refused("its plan no longer runs here")]
    assert records(effects) == []


def test_only_the_attempt_that_runs_asks_for_its_child(coordinator: CoordinatorBench) -> None:
    worker = _planning(coordinator)

    effects = coordinator.receive(worker, SpawnChild(job=_child(attempt=2)))

    assert told(effects, worker) == [_refused("its plan no longer runs here")]
    assert records(effects) == []


def test_a_job_of_a_client_is_not_taken_for_a_child_of_the_same_id(
    coordinator: CoordinatorBench,
) -> None:
    worker = _planning(coordinator)
    coordinator.submit(coordinator.client("d"), "p.1")

    live = coordinator.receive(worker, SpawnChild(job=_child()))
    coordinator.receive(worker, ended("p.1", 1))
    over = coordinator.receive(worker, SpawnChild(job=_child()))

    refused = [_refused("another job has the id of this node")]
    assert told(live, worker) == told(over, worker) == refused
    assert records(live) == records(over) == []


def test_a_child_that_has_ended_is_answered_and_not_run_again(
    coordinator: CoordinatorBench,
) -> None:
    worker = _planning(coordinator)
    coordinator.receive(worker, SpawnChild(job=_child()))
    coordinator.receive(worker, ended("p.1", 1))

    effects = coordinator.receive(worker, SpawnChild(job=_child(), is_repeat=True))

    assert told(effects, worker) == [ChildFinished(outcome=succeeded("p.1", 1, on="w1"))]
    assert assigned(effects) == []


def test_a_child_that_waits_is_not_accepted_again(coordinator: CoordinatorBench) -> None:
    worker = _planning(coordinator)
    coordinator.receive(worker, SpawnChild(job=_child()))

    effects = coordinator.receive(worker, SpawnChild(job=_child()))

    assert effects == []


def test_why_a_plan_failed_is_no_part_of_the_reason_for_which_its_children_end(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker(offers=capacity(slots=3))
    coordinator.submit(client, "p", kind="plan", retries=1)
    coordinator.receive(worker, SpawnChild(job=_child()))
    failure = Failure(cause="exception", message="s3cr3t", type_name="ValueError")

    result = AttemptResult(job_id="p", attempt=1, status="failed", failure=failure, run_s=1.0)
    effects = coordinator.receive(worker, Ended(result=result))

    (asked,) = [each for each in records(effects) if isinstance(each, CancelRequested)]
    assert (asked.job_id, asked.reason) == ("p.1", "attempt 1 of p ended: failed")
    assert [each.reason for each in told(effects, worker) if isinstance(each, Stop)] == [
        asked.reason
    ]


def test_a_child_that_cannot_be_looked_up_fails_and_is_not_run_again(
    coordinator: CoordinatorBench,
) -> None:
    worker = _planning(coordinator)

    asked = coordinator.receive(worker, SpawnChild(job=_child(), is_repeat=True))
    effects = coordinator.handle(Found(JobId("p.1"), None, None, problem="its records are odd"))

    assert asked == [Lookup(JobId("p.1"))]
    assert effects == [Send(worker, _refused("its records are odd"))]
