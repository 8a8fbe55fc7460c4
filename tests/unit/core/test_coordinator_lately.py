"""What is still known in memory of jobs that ended, and how much of it."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, told
from tests.unit.core.samples import cancelled, capacity, ended, job, succeeded

from lineshaft_coordinator.core import lately
from lineshaft_coordinator.core.io import Found, Lookup, Send
from lineshaft_coordinator.core.lately import Done, Lately
from lineshaft_protocol.client_messages import (
    Accepted,
    Cancel,
    Finished,
    Refused,
    Submit,
    Watch,
)
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.jobs import Parent, Payload
from lineshaft_protocol.worker_messages import ChildFinished, SpawnChild


def done(job_id: str, **wanted: object) -> Done:
    return Done(job(job_id, **wanted), cancelled(job_id, 0))


def whole(kept: Lately) -> list[str]:
    return [job_id for job_id in kept if kept.get(job_id) is not None]


def test_the_last_jobs_are_kept_whole_and_how_more_of_them_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 2)
    monkeypatch.setattr(lately, "ENDED_MAX", 4)
    kept = Lately()

    for number in range(6):
        kept.add(JobId(f"j{number}"), done(f"j{number}"))

    assert whole(kept) == ["j4", "j5"]
    assert list(kept) == ["j2", "j3", "j4", "j5"]
    assert kept.status(JobId("j2")) == "cancelled"
    assert kept.status(JobId("j1")) is None


def test_a_job_that_is_told_again_counts_once_and_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 2)
    monkeypatch.setattr(lately, "ENDED_MAX", 2)
    kept = Lately()

    for job_id in ("a", "b", "a", "c"):
        kept.add(JobId(job_id), done(job_id))

    assert whole(kept) == list(kept) == ["a", "c"]


@pytest.mark.parametrize(
    "large",
    [
        {"payload": Payload(inline="e" * 400)},
        {"params": "1" * 400},
        {"variables": {"A": "a" * 400}},
        {"files": ["0" * 64] * 5},
        {"after": ["first", "second", "third", "fourth", "fifth"]},
        {"environment": {"requirements": {"inline": "e" * 400}}},
    ],
    ids=["payload", "params", "variables", "files", "after", "requirements"],
)
def test_jobs_that_carry_much_are_fewer(
    large: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lately, "CHARACTERS_MAX", 1_000)
    kept = Lately()

    for number in range(6):
        kept.add(JobId(f"j{number}"), done(f"j{number}", **large))
    assert whole(kept) == ["j4", "j5"]

    kept.add(JobId("huge"), done("huge", params="1" * 2_000))
    assert whole(kept) == ["huge"]
    kept.add(JobId("small"), done("small"))
    assert whole(kept) == ["small"]


def test_a_job_that_is_only_known_to_have_ended_is_looked_up_before_anything_is_said(
    coordinator: CoordinatorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 1)
    client = coordinator.client()
    for job_id in ("j1", "j2"):
        coordinator.submit(client, job_id)
        coordinator.receive(client, Cancel(job_id=job_id, reason="enough"))

    asked = coordinator.receive(client, Submit(job=job("j1"), is_fresh=True))
    effects = coordinator.handle(Found(JobId("j1"), job("j1"), cancelled("j1", 0)))

    assert asked == [Lookup(JobId("j1"))]
    assert told(effects, client) == [Accepted(job_id="j1"), Finished(outcome=cancelled("j1", 0))]


@pytest.fixture
def forgetful(
    coordinator: CoordinatorBench, monkeypatch: pytest.MonkeyPatch
) -> tuple[CoordinatorBench, Session]:
    """With a client; of job j1 it is only known that it ended."""
    monkeypatch.setattr(lately, "WHOLE_MAX", 1)
    client = coordinator.client()
    for job_id in ("j1", "j2"):
        coordinator.submit(client, job_id)
        coordinator.receive(client, Cancel(job_id=job_id, reason="enough"))
    return coordinator, client


@pytest.mark.parametrize(
    "message", [Watch(job_id="j1"), Cancel(job_id="j1", reason="enough")], ids=["watch", "cancel"]
)
def test_a_job_that_ended_and_was_pruned_is_looked_up_once_and_unknown(
    forgetful: tuple[CoordinatorBench, Session], message: Watch | Cancel
) -> None:
    coordinator, client = forgetful

    asked = coordinator.receive(client, message)
    effects = coordinator.handle(Found(JobId("j1"), None, None))

    assert asked == [Lookup(JobId("j1"))]
    assert [(type(each), each.code) for each in told(effects, client)] == [(Refused, "unknown_job")]
    assert not any(isinstance(each, Lookup) for each in effects)


def test_the_id_of_a_job_that_was_pruned_can_be_used_again(
    forgetful: tuple[CoordinatorBench, Session],
) -> None:
    coordinator, client = forgetful

    asked = coordinator.submit(client, "j1")
    effects = coordinator.handle(Found(JobId("j1"), None, None))

    assert asked == [Lookup(JobId("j1"))]
    assert told(effects, client) == [Accepted(job_id="j1")]
    assert coordinator.state("j1") == "queued"


def test_a_job_that_ends_while_it_is_looked_up_is_looked_up_again_and_not_done_again(
    coordinator: CoordinatorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 1)
    client, other = coordinator.client(), coordinator.client("other")
    coordinator.receive(client, Submit(job=job("j1"), is_repeat=True))
    for job_id in ("j1", "j2"):
        coordinator.submit(other, job_id)
        coordinator.receive(other, Cancel(job_id=job_id, reason="enough"))

    again = coordinator.handle(Found(JobId("j1"), None, None))
    effects = coordinator.handle(Found(JobId("j1"), job("j1"), cancelled("j1", 0)))

    assert again == [Lookup(JobId("j1"))]
    assert told(effects, client) == [Accepted(job_id="j1"), Finished(outcome=cancelled("j1", 0))]


@pytest.mark.parametrize(
    "message",
    [Watch(job_id="j1"), Cancel(job_id="j1", reason="enough"), Submit(job=job("j1"))],
    ids=["watch", "cancel", "submit"],
)
def test_an_ended_job_whose_records_cannot_be_read_is_refused_with_the_reason(
    forgetful: tuple[CoordinatorBench, Session], message: Watch | Cancel | Submit
) -> None:
    coordinator, client = forgetful

    coordinator.receive(client, message)
    effects = coordinator.handle(Found(JobId("j1"), None, None, problem="its records are odd"))

    refused = Refused(job_id="j1", code="invalid", message="its records are odd")
    assert effects == [Send(client, refused)]


def test_what_comes_after_a_job_that_is_only_known_to_have_failed_does_not_run(
    forgetful: tuple[CoordinatorBench, Session],
) -> None:
    coordinator, client = forgetful

    effects = coordinator.submit(client, "j3", after=("j1",))

    (end,) = [each.outcome for each in told(effects, client) if isinstance(each, Finished)]
    assert (end.job_id, end.status) == ("j3", "failed")
    assert end.failure is not None
    assert end.failure.message == "job j1, which it comes after, ended as cancelled"


def test_a_part_of_a_plan_that_is_only_known_to_have_ended_is_not_done_again(
    coordinator: CoordinatorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 1)
    worker = coordinator.worker(offers=capacity(slots=3))
    coordinator.submit(coordinator.client(), "p", kind="plan")
    first, second = (job(name, parent=Parent(job_id="p", attempt=1)) for name in ("p.1", "p.2"))
    for part in (first, second):
        coordinator.receive(worker, SpawnChild(job=part))
        coordinator.receive(worker, ended(part.job_id, 1))

    asked = coordinator.receive(worker, SpawnChild(job=first))
    done = succeeded("p.1", 1, on="w1")
    effects = coordinator.handle(Found(JobId("p.1"), first, done))

    assert asked == [Lookup(JobId("p.1"))]
    assert told(effects, worker) == [ChildFinished(outcome=done)]


def test_a_job_comes_after_more_jobs_than_are_kept_whole(
    coordinator: CoordinatorBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lately, "WHOLE_MAX", 1)
    client = coordinator.client()
    before = ("a", "b", "c")

    effects = coordinator.submit(client, "j", after=before)
    for job_id in before:
        assert effects == [Lookup(JobId(job_id))]
        outcome = succeeded(job_id, 1, on="w1")
        effects = coordinator.handle(Found(JobId(job_id), job(job_id), outcome))

    assert told(effects, client) == [Accepted(job_id="j")]
    assert coordinator.state("j") == "queued"
