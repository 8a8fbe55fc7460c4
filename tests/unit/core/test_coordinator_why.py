"""For each state in which a job can be: what 'why' says of it."""

from collections.abc import Callable
from typing import get_args

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.samples import capacity, ended

from lineshaft_coordinator.core import views
from lineshaft_coordinator.core.io import StopPlacing
from lineshaft_protocol.client_messages import Cancel, Drain, JobStateName, Pause
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import ArrayItem, Backoff
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.worker_messages import Began, PauseTold, Preparing

State = Callable[[CoordinatorBench], None]


def nobody_here(bench: CoordinatorBench) -> None:
    bench.submit(bench.client(), "j")


def busy(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.worker("w1")
    bench.submit(client, "first")
    bench.submit(client, "j")


def behind(bench: CoordinatorBench) -> None:
    busy(bench)
    bench.submit(bench.client("d"), "j0", priority=9)


def too_large(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.submit(client, "j", resources=Resources(cpus=99))
    bench.worker("w1")


def wrong_tag(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.submit(client, "j", tags=("big",))
    bench.worker("w1")


def draining(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.worker("w1")
    bench.receive(client, Drain(request_id=1, worker_id="w1"))
    bench.submit(client, "j")


def after_another(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.submit(client, "first")
    bench.submit(client, "j", after=("first",))


def delayed(bench: CoordinatorBench) -> None:
    client, worker = bench.client(), bench.worker("w1")
    bench.submit(client, "j", retries=2, backoff=Backoff(first_s=30.0))
    bench.receive(worker, ended("j", 1, "failed"))


def in_an_array(bench: CoordinatorBench) -> None:
    client = bench.client()
    for number in range(2):
        item = ArrayItem(array_id="a", item=number, count=2, at_most=1)
        bench.submit(client, f"a.{number}", array=item)


def paused(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.submit(client, "j")
    bench.receive(client, Pause(request_id=1, job_id="j"))


def assigned(bench: CoordinatorBench) -> None:
    bench.worker("w1")
    bench.submit(bench.client(), "j")


def preparing(bench: CoordinatorBench) -> None:
    worker = bench.worker("w1")
    bench.submit(bench.client(), "j")
    bench.receive(worker, Preparing(job_id="j", attempt=1, doing="installing numpy"))


def running(bench: CoordinatorBench) -> None:
    worker = bench.worker("w1")
    bench.submit(bench.client(), "j")
    bench.receive(worker, Began(job_id="j", attempt=1))


def away(bench: CoordinatorBench) -> None:
    worker = bench.worker("w1")
    bench.submit(bench.client(), "j", kind="pipeline")
    bench.disconnect(worker)


def cancelling(bench: CoordinatorBench) -> None:
    client = bench.client()
    bench.worker("w1")
    bench.submit(client, "j")
    bench.receive(client, Cancel(job_id="j", reason="no longer wanted"))


def pausing(bench: CoordinatorBench) -> None:
    running(bench)
    bench.receive(bench.client("d"), Pause(request_id=1, job_id="j", reason="lunch"))


def frozen(bench: CoordinatorBench) -> None:
    worker = bench.worker("w1", offers=capacity())
    bench.submit(bench.client(), "j")
    bench.receive(worker, Began(job_id="j", attempt=1))
    bench.receive(bench.client("d"), Pause(request_id=1, job_id="j", freeze=True, reason="lunch"))
    bench.receive(worker, PauseTold(job_id="j", attempt=1, is_frozen=True))


def away_and_cancelled(bench: CoordinatorBench) -> None:
    away(bench)
    bench.receive(bench.client("d"), Cancel(job_id="j", reason="no longer wanted"))


def to_freeze(bench: CoordinatorBench) -> None:
    running(bench)
    bench.receive(bench.client("d"), Pause(request_id=1, job_id="j", freeze=True, reason="lunch"))


def stopping(bench: CoordinatorBench) -> None:
    busy(bench)
    bench.handle(StopPlacing())


def a_part(bench: CoordinatorBench) -> None:
    bench.submit(bench.client(), "lead", kind="pipeline", nodes=2)


ROWS: list[tuple[State, str, str, str]] = [
    (nobody_here, "queued", "no worker is connected", "'lineshaft-worker' on a machine"),
    (busy, "queued", "worker w1: all its 1 slots are taken", "'lineshaft workers'"),
    (behind, "queued", "1 job that asks for the same goes before it", "a higher priority"),
    (too_large, "queued", "no connected worker could ever run it", "'lineshaft cancel j'"),
    (too_large, "queued", "it has 8 CPUs, the job asks for 99", "connect one that can"),
    (wrong_tag, "queued", "it lacks the tag big", "connect one that can"),
    (draining, "queued", "worker w1: it is draining", "'lineshaft workers'"),
    (stopping, "queued", "the coordinator is being stopped", "when it is back"),
    (after_another, "waiting", "after job first, which is queued", "'lineshaft why first'"),
    (delayed, "waiting", "1 of its attempts failed, 2 may", "may begin in 30.0 s"),
    (delayed, "waiting", "1 of its attempts failed, 2 may", "'lineshaft story j'"),
    (in_an_array, "waiting", "at most 1 items of array a may", "'lineshaft jobs --array a'"),
    (a_part, "queued", "it is a part of job lead", "'lineshaft why lead'"),
    (paused, "paused", "it was paused by its user", "'lineshaft resume j' says so"),
    (assigned, "assigned", "worker w1 was given attempt 1", "the job starts elsewhere"),
    (preparing, "preparing", "its environment (installing numpy)", "'lineshaft logs j'"),
    (running, "running", "worker w1 runs attempt 1", ""),
    (away, "assigned", "worker w1 has it and is not connected", "starts elsewhere when that"),
    (away_and_cancelled, "cancelling", "w1 has it and is not connected", "longer than 600 s"),
    (cancelling, "cancelling", "it was cancelled (no longer wanted)", "worker w1 is ending it"),
    (pausing, "pausing", "to save a checkpoint and end (lunch)", "'lineshaft resume j'"),
    (to_freeze, "pausing", "worker w1 is to freeze it (lunch)", "'lineshaft resume j'"),
    (frozen, "frozen", "it is frozen on worker w1 (lunch)", "'lineshaft resume j'"),
]
"""A state, its name, what 'why' says of it, and the way out it names."""
OTHERS = {in_an_array: "a.1", a_part: "lead.rank1"}
"""Whose 'why' is asked where it is not j's."""


def test_every_state_of_a_live_job_has_a_row() -> None:
    # Preparing is told by 'why' and in lists only, see views.job_state.
    assert {status for _, status, _, _ in ROWS} == {*get_args(JobStateName), "preparing"}


@pytest.mark.parametrize(("given", "status", "words", "way_out"), ROWS)
def test_why_names_the_cause_of_each_state_and_a_way_out(
    coordinator: CoordinatorBench, given: State, status: str, words: str, way_out: str
) -> None:
    given(coordinator)

    why = views.why(coordinator.shop, JobId(OTHERS.get(given, "j")))

    assert why is not None
    assert why["status"] == status
    assert words in str(why["reasons"])
    assert way_out in str(why["reasons"])


def test_a_chain_of_jobs_ends_with_the_one_that_did_not_succeed(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    coordinator.submit(client, "first")
    for number in range(1, 200):
        before = "first" if number == 1 else f"j{number - 1}"
        coordinator.submit(client, f"j{number}", after=(before,))

    coordinator.receive(client, Cancel(job_id="first"))

    recent = coordinator.shop.ledger.recent
    jobs = [recent.get(JobId(f"j{n}")) for n in range(1, 200)]
    causes = [job.outcome.failure for job in jobs if job is not None]
    assert len(causes) == 199
    assert {cause.cause for cause in causes if cause is not None} == {"dependency"}
    assert causes[0] is not None
    assert causes[0].message == "job first, which it comes after, ended as cancelled"
    assert causes[-1] is not None
    assert causes[-1].message == "job j198, which it comes after, ended as failed"
    assert not coordinator.shop.blocked


def test_a_job_that_comes_after_one_that_failed_before_ends_at_once(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "first")
    coordinator.receive(worker, ended("first", 1, "failed"))

    coordinator.submit(client, "j", after=("first",))

    assert coordinator.state("j") == "gone"
    assert coordinator.shop.ledger.recent.status(JobId("j")) == "failed"
