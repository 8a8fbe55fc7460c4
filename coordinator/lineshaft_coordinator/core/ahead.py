"""Brief work that a worker gets ahead of time, so that its slots never wait for us.

As many jobs as it should finish within ``horizon_s``, judging by how long such code took; what
waits there too long is offered to others, see `Scheduler.recall`.
"""

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.placement import may_ever, must_prepare
from lineshaft_coordinator.core.queues import ShapeQueue
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec

SHORTEST_S = 2e-5


class AheadDesk:
    """Knows how much a worker may have waiting, and fills that up."""

    def __init__(self, shop: Shop, flow: JobFlow) -> None:
        self._shop, self._flow = shop, flow

    def depth(self, shape: Shape, spec: JobSpec) -> int:
        """How many such jobs may wait for each slot; 0 for work that is not known to be brief."""
        pace = self._shop.pace_of(spec)
        settings = self._shop.settings
        if pace is None or pace > settings.horizon_s or shape.resources.gpus:
            return 0
        return min(settings.backlog_max, int(settings.horizon_s / max(pace, SHORTEST_S)))

    def may_queue(self, worker: Worker, shape: Shape, job_id: JobId) -> bool:
        """Whether the worker should have this job waiting for its next free slot."""
        return self._room(worker, shape, self._shop.job(job_id).spec) > 0 and self._suits(
            worker, shape
        )

    def fill(self, worker: Worker, queue: ShapeQueue, priority: int) -> None:
        """Give a worker without a free slot as many heads of the only line as it may have waiting.

        Stops at a job of another priority. How many there may be is asked once for all jobs of
        the same code that follow each other, since nothing of it changes meanwhile.
        """
        shop, shape = self._shop, queue.shape
        if not self._suits(worker, shape):
            return
        asked_for: JobSpec | None = None
        room = 0
        while queue.size and len(shop.queues.by_shape) == 1:
            rank, job_id = shop.queues.head(queue)
            spec = shop.ledger.jobs[job_id].spec
            if asked_for is None or spec.code != asked_for.code:
                asked_for, room = spec, self._room(worker, shape, spec)
            if room <= 0 or rank[0] != -priority:
                return
            self._flow.lease(job_id, worker, devices=(), is_backlog=True)
            room -= 1

    def _room(self, worker: Worker, shape: Shape, spec: JobSpec) -> int:
        assert worker.capacity is not None, "an open worker is here"
        return self.depth(shape, spec) * worker.capacity.slots - len(worker.backlog)

    @staticmethod
    def _suits(worker: Worker, shape: Shape) -> bool:
        return may_ever(worker, shape) and not must_prepare(worker, shape)
