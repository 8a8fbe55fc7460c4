"""What is true of events that the pump gives the core together."""

from tests.unit.core.coordinator_bench import CoordinatorBench
from tests.unit.core.samples import capacity, ended, job

from lineshaft_coordinator.core.invariants import check
from lineshaft_coordinator.core.io import Event, Received, Send
from lineshaft_protocol.client_messages import Submit
from lineshaft_protocol.worker_messages import Assign


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
