"""Who runs what, when: every decision to give work away or to call it back.

The rule that makes a decision cheap: *no shape waits while a worker in ``fleet.open`` could take
its head*. So only two things can need a decision: a shape that had nothing waiting, and a worker
that changed. The first asks the open workers, the second asks the shapes; jobs are never scanned.

A worker that has to make a job's environment first gets the job without a place (see `leasing`);
it could take a job, in the rule above, also if it could only prepare it for the room it has.

A worker gets brief jobs ahead of time (its backlog), as many as it should finish within
``horizon_s`` judging by how long such code took; a worker that is idle gets from another's
backlog what has waited there too long.
"""

import itertools

from lineshaft_coordinator.core.ahead import AheadDesk
from lineshaft_coordinator.core.fleet import Lease, Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.leasing import LeaseDesk
from lineshaft_coordinator.core.placement import (
    can_take,
    gang_workers,
    has_room,
    may_ever,
    may_prepare,
    must_prepare,
    pick_devices,
    suits,
)
from lineshaft_coordinator.core.queues import Rank, ShapeQueue
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId, WorkerId
from lineshaft_protocol.worker_messages import GangSeat, Recall

LOOKS_MAX = 32
"""How many workers with room are compared before the least busy of them is taken."""

RESERVE = ("reserve", "")
RECALL = ("recall", "")


class Scheduler:
    """Gives waiting jobs to workers."""

    def __init__(self, shop: Shop, flow: JobFlow, leases: LeaseDesk) -> None:
        self._shop, self._flow, self._leases = shop, flow, leases
        self._ahead = AheadDesk(shop, flow)
        self._gang_hold: tuple[Shape, float] | None = None
        """The gang for which workers are set aside, and since when."""
        self._rests: dict[Shape, float] = {}
        """Gangs for which none are set aside now, and until when."""

    def settle(self) -> None:
        """Bring the rule above back after an event."""
        flow = self._flow
        if self._shop.is_stopping:
            flow.arrived.clear()
            flow.freed.clear()
            flow.prepared.clear()  # Its worker says it again to the next coordinator.
            return
        prepared, flow.prepared = flow.prepared, {}
        for job_id, (worker, attempt) in sorted(prepared.items(), key=self._urgency):
            lease = worker.preparing.get(job_id)
            # It may be over, or its worker away, by what else came in the same moment.
            if lease is not None and lease.attempt == attempt and worker.is_here:
                self._place(job_id, worker)
        while flow.arrived or flow.freed:
            for worker in flow.freed.values():
                self._promote_backlog(worker)
            # Before the workers: what one of them gave back should go to another that is idle.
            while flow.arrived:
                if (queue := self._shop.queues.by_shape.get(flow.arrived.pop())) is not None:
                    self._spread(queue)
            while flow.freed:
                _, worker = flow.freed.popitem()
                self._fill(worker)

    def _urgency(self, prepared: tuple[JobId, object]) -> int:
        job = self._shop.ledger.jobs.get(prepared[0])
        return -job.spec.priority if job is not None else 0

    # --- a shape looks for workers ---

    def _spread(self, queue: ShapeQueue) -> None:
        shop = self._shop
        while queue.size:
            rank, job_id = shop.queues.head(queue)
            if queue.shape.nodes > 1 and self._start_gang(job_id, queue.shape, -rank[0]):
                continue
            worker = self._best_worker(queue, job_id, priority=-rank[0])
            if worker is None:
                if RESERVE not in shop.deadlines:
                    shop.deadlines.set(RESERVE, shop.now + shop.settings.reserve_after_s)
                return
            self._give(job_id, worker, queue.shape)
            if len(shop.fleet.open) == 1 and job_id in worker.backlog and not worker.reserved_for:
                # Nobody else is there to be compared with.
                self._ahead.fill(worker, queue, -rank[0])

    def _best_worker(self, queue: ShapeQueue, job_id: JobId, *, priority: int) -> Worker | None:
        shape = queue.shape
        if shape.nodes > 1:
            return None
        return self._least_busy(shape, priority) or self._least_behind(shape, job_id, priority)

    def _least_busy(self, shape: Shape, priority: int) -> Worker | None:
        """Find a worker with room; whoever has no free slot is looked at once until it changes."""
        free = self._shop.fleet.free
        best: Worker | None = None
        best_load = 2.0
        looks = 0
        full: list[WorkerId] = []
        for worker in free.values():
            assert worker.capacity is not None, "an open worker is here"
            if worker.used_slots >= worker.capacity.slots:
                full.append(worker.worker_id)
                continue
            if not self._admits(worker, shape, priority) or not self._can_take(worker, shape):
                continue
            if self._is_wanted(worker, above=priority):
                continue
            load = worker.used_slots / worker.capacity.slots
            if shape.environment is not None and must_prepare(worker, shape):
                load += 1.0  # Rather where its environment is.
            if load < best_load:
                best, best_load = worker, load
            looks += 1
            if load == 0.0 or looks >= LOOKS_MAX:
                break
        for worker_id in full:
            del free[worker_id]
        return best

    def _least_behind(self, shape: Shape, job_id: JobId, priority: int) -> Worker | None:
        """Find a busy worker that may have brief work waiting, with the least of it."""
        if not self._ahead.depth(shape, self._shop.job(job_id).spec):
            return None
        able = (
            worker
            for worker in self._shop.fleet.open.values()
            if self._admits(worker, shape, priority)
            and self._ahead.may_queue(worker, shape, job_id)
        )
        looked_at = itertools.islice(able, LOOKS_MAX)
        return min(looked_at, key=lambda worker: len(worker.backlog), default=None)

    # --- a worker looks for shapes ---

    def _fill(self, worker: Worker) -> None:
        self._promote_backlog(worker)
        while worker.worker_id in self._shop.fleet.open:
            heads = self._shop.queues.heads()
            if not any(self._try(worker, rank, job_id, queue) for rank, job_id, queue in heads):
                break

    def _promote_backlog(self, worker: Worker) -> None:
        # What the worker has waiting takes its free slot before anything new: it decides that
        # itself, and our count follows.
        while worker.backlog and worker.capacity is not None:
            job_id, lease = next(iter(worker.backlog.items()))
            if not has_room(worker, lease.shape):
                return
            worker.promote(job_id)

    def _try(self, worker: Worker, rank: Rank, job_id: JobId, queue: ShapeQueue) -> bool:
        if not self._admits(worker, queue.shape, -rank[0]):
            return False
        if queue.shape.nodes > 1:
            return has_room(worker, queue.shape) and self._start_gang(job_id, queue.shape, -rank[0])
        if not self._may_give(worker, job_id, queue.shape):
            return False
        self._give(job_id, worker, queue.shape)
        # While no other shape waits its heads follow each other, and are not looked for anew.
        if job_id in worker.backlog and worker.reserved_for is None:
            self._ahead.fill(worker, queue, -rank[0])
        return True

    def _may_give(self, worker: Worker, job_id: JobId, shape: Shape) -> bool:
        return self._can_take(worker, shape) or self._ahead.may_queue(worker, shape, job_id)

    def _admits(self, worker: Worker, shape: Shape, priority: int) -> bool:
        if not worker.is_here or worker.is_draining or not suits(worker, shape):
            return False
        if self._shop.now - worker.heard_at > self._shop.settings.suspect_s:
            return False
        return (
            worker.reserved_for is None
            or worker.reserved_for == shape
            or priority > worker.reserved_priority
        )

    def _can_take(self, worker: Worker, shape: Shape) -> bool:
        if shape.environment is None:
            return has_room(worker, shape)
        return can_take(worker, shape, self._shop.settings.preparing_max)

    def _give(self, job_id: JobId, worker: Worker, shape: Shape) -> None:
        shop = self._shop
        if shape.environment is not None and must_prepare(worker, shape):
            self._flow.lease(job_id, worker, devices=(), is_backlog=False, is_unplaced=True)
        elif has_room(worker, shape):
            devices: tuple[str, ...] = ()
            if shape.resources.gpus:
                picked = pick_devices(worker, shape.resources)
                assert picked is not None, "has_room found devices"
                devices = picked
            self._flow.lease(job_id, worker, devices=devices, is_backlog=False)
        else:
            self._flow.lease(job_id, worker, devices=(), is_backlog=True)
            if RECALL not in shop.deadlines:
                shop.deadlines.set(RECALL, shop.now + shop.settings.recall_after_s)
        if worker.reserved_for == shape:
            self._release(worker)

    def _place(self, job_id: JobId, worker: Worker) -> None:
        """Let a job that is prepared begin, if there is room by its priority."""
        job, shape = self._shop.job(job_id), worker.preparing[job_id].shape
        if job.cancel_reason is not None or job.pause is not None:
            return  # Its worker was told to end it, or to hand it back.
        devices: tuple[str, ...] | None = None
        priority = job.spec.priority
        if (
            self._admits(worker, shape, priority)
            and has_room(worker, shape)
            and not self._is_wanted(worker, above=priority)
        ):
            devices = pick_devices(worker, shape.resources)
        if devices is not None:
            self._leases.place(job_id, worker, devices)
        else:
            reason = "it is prepared, and others have the room"
            self._leases.send_back(job_id, worker, reason=reason)

    def _is_wanted(self, worker: Worker, *, above: int) -> bool:
        """Whether room of this moment should be a more urgent job's that waits: `_fill` is next."""
        return worker.worker_id in self._flow.freed and any(
            (priority := max(queue.lines)) > above
            and queue.shape.nodes == 1
            and self._admits(worker, queue.shape, priority)
            and has_room(worker, queue.shape)
            and not must_prepare(worker, queue.shape)
            for queue in self._shop.queues.by_shape.values()
        )

    def _release(self, worker: Worker) -> None:
        worker.reserved_for = None
        self._flow.freed[worker.worker_id] = worker

    def _start_gang(self, lead_id: JobId, shape: Shape, priority: int) -> bool:
        """Start all parts of a gang on as many workers, if there are enough; says whether."""
        workers = gang_workers(
            [
                worker
                for worker in self._shop.fleet.open.values()
                if self._admits(worker, shape, priority)
                and has_room(worker, shape)
                and not self._is_wanted(worker, above=priority)
            ],
            shape.nodes,
        )
        if workers is None:
            return False
        meeting = workers[0].free_meeting
        assert meeting is not None, "the first was chosen for it"
        members = self._shop.gangs[lead_id].members
        for rank, (job_id, worker) in enumerate(zip(members, workers, strict=True)):
            devices = pick_devices(worker, shape.resources)
            assert devices is not None, "has_room found devices"
            seat = GangSeat(rank=rank, nodes=shape.nodes, meeting=meeting)
            self._flow.lease(job_id, worker, devices=devices, is_backlog=False, seat=seat)
            if rank == 0:
                worker.running[job_id].port = meeting.port
        for worker in self._shop.fleet.workers.values():
            if worker.reserved_for == shape:
                self._release(worker)
        return True

    # --- deadlines ---

    def reserve(self) -> None:
        """Set a worker aside for each shape that has waited too long for room."""
        shop = self._shop
        waiting = [
            queue
            for _, _, queue in shop.queues.heads()
            if queue.shape.resources.cpus or _is_large(queue.shape) or queue.shape.nodes > 1
        ]
        shapes = {queue.shape for queue in waiting}
        for worker in shop.fleet.workers.values():
            if worker.reserved_for is not None and worker.reserved_for not in shapes:
                self._release(worker)
        self._end_gang_hold(shapes)
        for queue in waiting:
            if shop.now - queue.since >= shop.settings.reserve_after_s:
                if queue.shape.nodes > 1:
                    self._set_several_aside(queue)
                else:
                    self._set_aside(queue)
        if len(shop.queues):
            shop.deadlines.set(RESERVE, shop.now + shop.settings.reserve_after_s)

    def _set_aside(self, queue: ShapeQueue) -> None:
        candidates: list[Worker] = []
        for worker in self._shop.fleet.workers.values():
            if worker.reserved_for == queue.shape:
                return
            if (
                worker.is_here
                and worker.reserved_for is None
                and not worker.is_draining
                and may_ever(worker, queue.shape)
            ):
                candidates.append(worker)
        if candidates:
            shape = queue.shape
            rank, job_id = self._shop.queues.head(queue)
            chosen = min(candidates, key=lambda w: (must_prepare(w, shape), len(w.running)))
            if not must_prepare(chosen, shape):
                chosen.reserved_for, chosen.reserved_priority = shape, -rank[0]
            elif may_prepare(chosen, shape, self._shop.settings.preparing_max):
                # First, so that what is set aside does not idle, or go to others, meanwhile.
                self._give(job_id, chosen, shape)

    # Workers are set aside for one gang at a time: two that hold half of what they need each would
    # wait for each other. And not for ever: a gang that never gets enough must not idle the rest.

    def _end_gang_hold(self, shapes: set[Shape]) -> None:
        shop, hold_s = self._shop, self._shop.settings.gang_hold_s
        self._rests = {s: until for s, until in self._rests.items() if shop.now < until}
        shape, since = self._gang_hold or (None, 0.0)
        if shape is None or (shape in shapes and shop.now < since + hold_s):
            return
        self._gang_hold = None
        self._rests[shape] = shop.now + hold_s
        for worker in shop.fleet.workers.values():
            if worker.reserved_for == shape:
                self._release(worker)

    def _set_several_aside(self, queue: ShapeQueue) -> None:
        shop, shape = self._shop, queue.shape
        if shape in self._rests or (self._gang_hold is not None and self._gang_hold[0] != shape):
            return
        if self._gang_hold is None:
            self._gang_hold = shape, shop.now
        workers = [w for w in shop.fleet.workers.values() if w.is_here and not w.is_draining]
        missing = shape.nodes - sum(worker.reserved_for == shape for worker in workers)
        free = [w for w in workers if w.reserved_for is None and may_ever(w, shape)]
        free.sort(key=lambda worker: len(worker.running))
        for worker in free[: max(0, missing)]:
            worker.reserved_for = shape
            worker.reserved_priority = -shop.queues.head(queue)[0][0]

    def recall(self) -> None:
        """Offer what waits too long behind a busy slot to workers that are idle."""
        shop = self._shop
        holders = [worker for worker in shop.fleet.workers.values() if worker.backlog]
        if not holders:
            return
        shop.deadlines.set(RECALL, shop.now + shop.settings.recall_after_s)
        idle = [worker for worker in shop.fleet.open.values() if _free_slots(worker) > 0]
        if not idle:
            return
        for holder in holders:
            if holder.session is None or shop.now - holder.ended_at < shop.settings.recall_after_s:
                continue
            wanted = sum(_free_slots(worker) for worker in idle if worker is not holder)
            for job_id, lease in tuple(reversed(holder.backlog.items()))[:wanted]:
                if lease.is_recalled or not self._fits_one_of(idle, lease):
                    continue
                lease.is_recalled = True
                shop.send(holder.session, Recall(job_id=job_id, attempt=lease.attempt))

    def _fits_one_of(self, workers: list[Worker], lease: Lease) -> bool:
        return any(
            self._admits(worker, lease.shape, 1001) and self._can_take(worker, lease.shape)
            for worker in workers
        )


def _free_slots(worker: Worker) -> int:
    return worker.capacity.slots - worker.used_slots if worker.capacity is not None else 0


def _is_large(shape: Shape) -> bool:
    return bool(shape.resources.memory_bytes or shape.resources.gpus)
