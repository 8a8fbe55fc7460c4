"""When a job whose own code failed runs again, and how long it may wait for that."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, records
from tests.unit.core.samples import ended, job

from lineshaft_coordinator.core import views
from lineshaft_coordinator.core.retries import retry_delay_s
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import Backoff, Timeouts


@pytest.mark.parametrize(
    ("backoff", "delays_s"),
    [
        (None, [1.0, 2.0, 4.0, 60.0]),
        (Backoff(first_s=5.0), [5.0, 10.0, 20.0, 60.0]),
        (Backoff(first_s=0.0), [0.0, 0.0, 0.0, 0.0]),
        (Backoff(first_s=100.0), [100.0, 100.0, 100.0, 100.0]),
        (Backoff(max_s=3.0), [1.0, 2.0, 3.0, 3.0]),
        (Backoff(first_s=10.0, max_s=3600.0), [10.0, 20.0, 40.0, 3600.0]),
    ],
)
def test_the_wait_before_a_retry_is_doubled_up_to_its_longest(
    backoff: Backoff | None, delays_s: list[float]
) -> None:
    spec = job("j1", backoff=backoff)

    assert [retry_delay_s(CoreSettings(), spec, n) for n in (0, 1, 2, 999)] == delays_s


def test_why_says_when_the_next_attempt_may_begin(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1", retries=2, backoff=Backoff(first_s=30.0))
    coordinator.receive(worker, ended("j1", 1, "failed"))
    coordinator.live(10.0, worker)

    why = views.why(coordinator.core.shop, JobId("j1"))

    assert why is not None
    assert why["reasons"] == [
        "1 of its attempts failed, 2 may; the next one may begin in 20.0 s; "
        "'lineshaft story j1' tells why they failed"
    ]


def test_a_job_has_its_queue_timeout_again_each_time_it_waits(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1", retries=1, timeouts=Timeouts(queue_s=5.0))
    coordinator.live(8.0, worker)

    coordinator.receive(worker, ended("j1", 1, "failed"))
    coordinator.disconnect(worker)
    causes = [
        record.outcome.failure.cause
        for record in records(coordinator.after(7.0))
        if record.type == "JobFinished" and record.outcome.failure is not None
    ]

    assert causes == ["queue_timeout"]


def test_a_job_that_comes_after_another_has_its_whole_queue_timeout_then(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1")
    coordinator.submit(client, "j1")
    coordinator.submit(client, "j2", after=("j1",), timeouts=Timeouts(queue_s=5.0))

    coordinator.live(60.0, worker)
    effects = coordinator.receive(worker, ended("j1", 1))

    assert ("j2", 1) in assigned(effects)
