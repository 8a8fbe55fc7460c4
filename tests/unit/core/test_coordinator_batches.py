"""What is true of events that the pump gives the core together."""

from collections.abc import Iterator

from tests.unit.core.coordinator_bench import CoordinatorBench, sends
from tests.unit.core.samples import capacity, ended, job, submitted

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.invariants import check
from lineshaft_coordinator.core.io import Event, Received, Send
from lineshaft_protocol.client_messages import Submit
from lineshaft_protocol.ids import JobId, WorkerId
from lineshaft_protocol.jobs import Environment, Payload
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.worker_messages import Assign, Place, Prepared


def test_a_slot_goes_to_the_most_urgent_of_the_jobs_that_came_with_its_end() -> None:
    coordinator = CoordinatorBench()
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=1))
    coordinator.submit(client, "first")
    together: list[Event] = [
        Received(worker, ended("first", 1)),
        Received(client, Submit(job=job("calm"), is_fresh=True)),
        Received(client, Submit(job=job("urgent", priority=5), is_fresh=True)),
    ]

    effects = coordinator.core.handle(together, coordinator.now)

    check(coordinator.shop)
    sent = [effect.message for effect in effects if isinstance(effect, Send)]
    assert [told.job.job_id for told in sent if isinstance(told, Assign)] == ["urgent"]


def test_of_jobs_that_are_prepared_in_one_moment_the_most_urgent_gets_the_slot(
    coordinator: CoordinatorBench,
) -> None:
    environments = {
        name: Environment(requirements=Payload.of_bytes(name.encode()))
        for name in ("calm", "urgent", "late")
    }
    coordinator.given(
        submitted("calm", environment=environments["calm"]),
        submitted("urgent", environment=environments["urgent"], priority=5),
        submitted("late", environment=environments["late"]),
    )
    worker = coordinator.worker("w1", offers=capacity(slots=1))

    # As after a cut, when the worker says again what it has prepared.
    effects = coordinator.handle(
        *(Received(worker, Prepared(job_id=name, attempt=1)) for name in environments)
    )

    assert [m.job_id for _, m in sends(effects) if isinstance(m, Place)] == ["urgent"]
    assert [coordinator.state(name) for name in ("calm", "late")] == ["queued", "queued"]


def test_what_a_worker_gets_at_once_of_two_shapes_is_still_the_oldest(
    coordinator: CoordinatorBench,
) -> None:
    wide = Resources(cpus=1.0)
    coordinator.given(submitted("a1"), submitted("b1", resources=wide), submitted("a2"))

    coordinator.worker("w1", offers=capacity(slots=2))

    assert list(coordinator.shop.fleet.workers[WorkerId("w1")].running) == [
        JobId("a1"),
        JobId("b1"),
    ]


class _Counted(dict[WorkerId, Worker]):
    """Workers, and how often one of them was looked at."""

    looks = 0

    def values(self) -> Iterator[Worker]:  # type: ignore[override]  # what is iterated over
        for worker in super().values():
            self.looks += 1
            yield worker


def test_a_submit_looks_at_no_more_workers_than_could_take_it() -> None:
    coordinator = CoordinatorBench()
    client = coordinator.client()
    for number in range(20):
        coordinator.worker(f"w{number}")
    coordinator.now += 60.0
    fleet = coordinator.shop.fleet
    fleet.known = counted = _Counted(fleet.known)

    coordinator.submit(client, "j1")

    assert counted.looks == 1
