"""For each state in which a job can be: what 'why' says of it."""

from collections.abc import Callable

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.samples import capacity, ended

from lineshaft_coordinator.core import views
from lineshaft_protocol.client_messages import Cancel, Drain, Pause
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


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (nobody_here, "queued", "no worker is connected"),
        (busy, "queued", "worker w1: all its 1 slots are taken"),
        (behind, "queued", "1 jobs that ask for the same go before it"),
        (too_large, "queued", "no connected worker could ever run it"),
        (too_large, "queued", "it has 8 CPUs, the job asks for 99"),
        (wrong_tag, "queued", "it lacks the tag big"),
        (draining, "queued", "worker w1: it is draining"),
        (after_another, "waiting", "it comes after job first, which is queued"),
        (delayed, "waiting", "1 of its attempts failed, 2 may; the next one may begin in 30.0 s"),
        (in_an_array, "waiting", "at most 1 items of array a may be under way, and 1 are"),
        (paused, "paused", "'lineshaft resume j' says so"),
        (assigned, "assigned", "worker w1 runs attempt 1"),
        (preparing, "preparing", "prepares its environment (installing numpy)"),
        (running, "running", "worker w1 runs attempt 1"),
        (away, "assigned", "is not connected; the job starts elsewhere when that lasts longer"),
        (cancelling, "cancelling", "it was cancelled (no longer wanted); worker w1 is ending it"),
        (pausing, "pausing", "it is asked to save a checkpoint and end (lunch)"),
        (frozen, "frozen", "it is frozen on worker w1 (lunch) and keeps its memory and GPUs"),
    ],
)
def test_why_names_the_cause_of_each_state(
    coordinator: CoordinatorBench, given: State, status: str, words: str
) -> None:
    given(coordinator)

    why = views.why(coordinator.shop, JobId("a.1" if given is in_an_array else "j"))

    assert why is not None
    assert why["status"] == status
    assert words in str(why["reasons"])


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
    causes = [recent[JobId(f"j{n}")].outcome.failure for n in range(1, 200)]
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
    assert coordinator.shop.ledger.recent[JobId("j")].outcome.status == "failed"
