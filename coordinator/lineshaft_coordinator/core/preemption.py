"""Room for what is urgent: jobs that may be interrupted are asked to pause.

Only jobs that said ``preemptible``, of a lower priority, that run and have not refused lately, and
only as many as the waiting job needs on one worker. They pause as for a user, and come back by
themselves: to the front of their line, from their checkpoint, with no retry counted.
"""

from copy import deepcopy

from lineshaft_coordinator.core.fleet import Lease, Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.pausing import PauseDesk
from lineshaft_coordinator.core.placement import has_room, may_ever, may_prepare, must_prepare
from lineshaft_coordinator.core.queues import Rank
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId

PREEMPT = ("preempt", "")


class Preemption:
    """Looks now and then whether somebody should make room."""

    def __init__(self, shop: Shop, flow: JobFlow, pauses: PauseDesk) -> None:
        self._shop, self._flow, self._pauses = shop, flow, pauses

    def watch(self) -> None:
        """See to it that somebody looks, while a job waits and others could make room."""
        shop = self._shop
        if shop.preemptible and len(shop.queues) and PREEMPT not in shop.deadlines:
            shop.deadlines.set(PREEMPT, shop.now + shop.settings.preempt_after_s)

    def preempt(self) -> None:
        """Ask jobs to pause for the first waiting job that this would help."""
        if self._shop.is_stopping:
            return
        for rank, job_id, queue in self._shop.queues.heads():
            if queue.shape.nodes > 1:
                continue  # Room on one worker would not help it.
            if self._shop.now - queue.since >= self._shop.settings.preempt_after_s:
                self._make_room(rank, job_id, queue.shape)

    def _make_room(self, rank: Rank, waiting_id: JobId, shape: Shape) -> None:
        shop, priority = self._shop, -rank[0]
        best: tuple[tuple[bool, int], Worker, list[JobId]] | None = None
        for worker in shop.fleet.workers.values():
            if not worker.is_here or worker.is_draining or not may_ever(worker, shape):
                continue
            chosen = self._chosen(worker, shape, priority)
            if chosen is None:
                continue
            if not chosen:
                return  # Room is on its way here already.
            cost = (must_prepare(worker, shape), len(chosen))
            if best is None or cost < best[0]:
                best = (cost, worker, chosen)
        if best is None:
            return
        if best[0][0]:
            # Nobody makes room before the environment is there for which it is made.
            if may_prepare(best[1], shape, shop.settings.preparing_max):
                self._flow.lease(
                    waiting_id, best[1], devices=(), is_backlog=False, is_unplaced=True
                )
            return
        for job_id in best[2]:
            reason = f"job {waiting_id} of a higher priority needs the room"
            self._pauses.ask(job_id, reason, mode="checkpoint", cause="preempted", grace_s=None)

    def _chosen(self, worker: Worker, shape: Shape, priority: int) -> list[JobId] | None:
        """Whom to ask on this worker so that the shape fits; None when that is of no use."""
        copy = _books(worker)
        for job_id in tuple(worker.running):
            if self._is_leaving(job_id):
                copy.vacate(job_id)
        if has_room(copy, shape):
            return []
        candidates = [
            (self._shop.job(job_id).spec.priority, -position, job_id)
            for position, (job_id, lease) in enumerate(worker.running.items())
            if self._may_ask(worker, job_id, lease, priority)
        ]
        chosen: list[JobId] = []
        # The least urgent first, and of those the one that has run the least.
        for _, _, job_id in sorted(candidates):
            copy.vacate(job_id)
            chosen.append(job_id)
            if has_room(copy, shape):
                return chosen
        return None

    def _is_leaving(self, job_id: JobId) -> bool:
        job = self._shop.job(job_id)
        is_pausing = job.pause is not None and job.pause.mode == "checkpoint"
        return is_pausing or job.cancel_reason is not None

    def _may_ask(self, worker: Worker, job_id: JobId, lease: Lease, priority: int) -> bool:
        job = self._shop.job(job_id)
        register = worker.register
        return (
            job_id in self._shop.preemptible
            and job.spec.priority < priority
            and job.pause is None
            and job.cancel_reason is None
            and lease.is_started
            and self._shop.now >= lease.spared_until
            and register is not None
            and "pause" in register.versions.features
        )


def _books(worker: Worker) -> Worker:
    """A copy of what the worker has given away, to try things out on."""
    copy = Worker(worker.worker_id, capacity=worker.capacity, session=worker.session)
    copy.tags, copy.pythons = worker.tags, worker.pythons
    copy.running = dict(worker.running)
    copy.used_slots, copy.used_cpus = worker.used_slots, worker.used_cpus
    copy.used_memory_bytes, copy.devices = worker.used_memory_bytes, deepcopy(worker.devices)
    return copy
