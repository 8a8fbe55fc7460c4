"""Room that a job made for a more urgent one goes to nobody who is less urgent."""

from collections.abc import Iterable

from tests.simulation.world import SimulationError, World

from lineshaft_coordinator.core.ledger import Leased, Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.placement import has_room, must_prepare
from lineshaft_coordinator.core.preemption import _books
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptPlaced,
    AttemptStarted,
    Record,
)
from lineshaft_protocol.ids import JobId


def check_rooms(
    world: World, core: CoordinatorCore, before: Ledger, records: Iterable[Record]
) -> None:
    """Look at who began where somebody was preempted, all in one moment.

    Args:
        world: Told of what was seen.
        core: After these records.
        before: The jobs before them.
        records: Of one batch.
    """
    made, begun = set[str](), dict[str, None]()
    for record in records:
        if isinstance(record, AttemptLeft) and record.cause == "preempted":
            state = before.jobs[JobId(record.job_id)].state
            assert isinstance(state, Leased), "what left was leased"
            made.add(state.worker_id)
        elif isinstance(record, AttemptStarted | AttemptPlaced):
            begun[record.job_id] = None
    for worker_id in made:
        worker = core.shop.fleet.workers.get(worker_id)
        for job_id in begun if worker is not None else ():
            _check_room(world, core, worker_id, JobId(job_id))


def _check_room(world: World, core: CoordinatorCore, worker_id: str, job_id: JobId) -> None:
    shop = core.shop
    worker = next(w for w in shop.fleet.workers.values() if w.worker_id == worker_id)
    if job_id not in worker.running:
        return  # It begins elsewhere, or is only prepared, or waits there.
    world.mark("room_made")
    copy = _books(worker)
    copy.vacate(job_id)
    priority = shop.job(job_id).spec.priority
    for rank, waiting_id, queue in shop.queues.heads():
        if (
            -rank[0] > priority
            and queue.shape.nodes == 1
            and core._scheduler._admits(worker, queue.shape, -rank[0])
            and not must_prepare(worker, queue.shape)
            and has_room(copy, queue.shape)
        ):
            raise SimulationError(f"{job_id} has room that was made, and {waiting_id} waits for it")
