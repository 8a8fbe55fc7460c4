"""Jobs that wait for a worker, grouped by shape, fair between clients.

Within a shape a higher priority goes first, then the client that was served least, then the
older job. Serving a client moves its ``pass`` on by one; a client that was idle starts at the
pass served last, so that idling saves up nothing (stride scheduling).
"""

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field

from lineshaft_coordinator.core.shapes import Shape
from lineshaft_protocol.ids import ClientId, JobId

Rank = tuple[int, float, int]
"""Smaller goes first: negated priority, pass of the client, age."""


def _rank(head: "tuple[Rank, JobId, ShapeQueue]") -> Rank:
    return head[0]


@dataclass(slots=True)
class _Line:
    """The jobs of one client, one priority and one shape, oldest first."""

    queue: "ShapeQueue"
    priority: int
    client_id: ClientId
    jobs: OrderedDict[JobId, int] = field(default_factory=OrderedDict[JobId, int])


@dataclass(slots=True)
class ShapeQueue:
    """All waiting jobs of one shape."""

    shape: Shape
    lines: dict[int, dict[ClientId, _Line]] = field(default_factory=dict)
    """By priority, then by client; neither is ever empty."""
    since: float = 0.0
    """When its head last changed."""
    size: int = 0


class Queues:
    """Every waiting job, in exactly one line."""

    def __init__(self) -> None:
        self.by_shape: dict[Shape, ShapeQueue] = {}
        self._places: dict[JobId, _Line] = {}
        self._last: _Line | None = None
        """Where the last job was put: the next one often belongs there, too."""
        self._passes: dict[ClientId, float] = {}
        self._served = 0.0
        self._ages = 0
        self._fronts = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._places

    def add(
        self,
        job_id: JobId,
        shape: Shape,
        *,
        client_id: ClientId,
        priority: int,
        now: float,
        is_first: bool = False,
    ) -> bool:
        """Put a job in its line, at the end or, ``is_first``, in front.

        Returns:
            Whether the shape had nothing as urgent waiting before.
        """
        assert job_id not in self._places, "a job waits once"
        line = self._last
        if (
            line is None
            or not line.jobs  # It may have been taken out of its queue.
            or line.queue.shape is not shape
            or line.client_id != client_id
            or line.priority != priority
        ):
            line = self._last = self._line(shape, priority, client_id, now)
        queue = line.queue
        if is_first:
            self._fronts -= 1
            line.jobs[job_id] = self._fronts
            line.jobs.move_to_end(job_id, last=False)
        else:
            self._ages += 1
            line.jobs[job_id] = self._ages
        queue.size += 1
        self._places[job_id] = line
        return (
            len(line.jobs) == 1 and len(queue.lines[priority]) == 1 and priority == max(queue.lines)
        )

    def _line(self, shape: Shape, priority: int, client_id: ClientId, now: float) -> _Line:
        if (queue := self.by_shape.get(shape)) is None:
            queue = self.by_shape[shape] = ShapeQueue(shape, since=now)
        clients = queue.lines.setdefault(priority, {})
        if (line := clients.get(client_id)) is None:
            line = clients[client_id] = _Line(queue, priority, client_id)
        return line

    def head(self, queue: ShapeQueue) -> tuple[Rank, JobId]:
        """The job of this shape that goes first."""
        lines = queue.lines
        priority = max(lines) if len(lines) > 1 else next(iter(lines))
        best: tuple[Rank, JobId] | None = None
        for client_id, line in lines[priority].items():
            job_id, age = next(iter(line.jobs.items()))
            rank = (-priority, max(self._passes.get(client_id, 0.0), self._served), age)
            if best is None or rank < best[0]:
                best = (rank, job_id)
        assert best is not None, "an empty line is removed"
        return best

    def remove(self, job_id: JobId, *, now: float, is_served: bool) -> Shape:
        """Take a job out; ``is_served`` counts it against its client's share."""
        line = self._places.pop(job_id)
        queue, jobs = line.queue, line.jobs
        del jobs[job_id]
        queue.size -= 1
        queue.since = now
        if is_served:
            client_id, passes = line.client_id, self._passes
            share = max(passes.get(client_id, 0.0), self._served)
            self._served = share
            passes[client_id] = share + 1.0
        if not jobs:
            self._close(line)
        return queue.shape

    def _close(self, line: _Line) -> None:
        """Take out a line that is empty, and its queue if it was the last one."""
        queue = line.queue
        clients = queue.lines[line.priority]
        del clients[line.client_id]
        if not clients:
            del queue.lines[line.priority]
            if not queue.lines:
                del self.by_shape[queue.shape]

    def give_back(self, client_id: ClientId) -> None:
        """A job that was counted as served had nothing of it: it comes again, and counts then."""
        if client_id in self._passes:
            self._passes[client_id] -= 1.0

    def forget_client(self, client_id: ClientId) -> None:
        """The client is gone and nothing of it waits: its share starts anew."""
        if self._passes.get(client_id, 0.0) <= self._served:
            self._passes.pop(client_id, None)

    def heads(self) -> list[tuple[Rank, JobId, ShapeQueue]]:
        """The head of each shape with waiting jobs, the one that goes first in front."""
        heads = [(*self.head(queue), queue) for queue in self.by_shape.values()]
        if len(heads) > 1:
            heads.sort(key=_rank)
        return heads

    def ahead_of(self, job_id: JobId) -> int:
        """How many jobs of its shape go before it, as far as is known now: O(their number)."""
        place = self._places[job_id]
        lines = place.queue.lines
        higher = sum(
            len(line.jobs)
            for priority, clients in lines.items()
            if priority > place.priority
            for line in clients.values()
        )
        own = lines[place.priority][place.client_id].jobs
        before = sum(1 for _ in itertools.takewhile(lambda other: other != job_id, own))
        others = sum(
            min(before, len(line.jobs))
            for client_id, line in lines[place.priority].items()
            if client_id != place.client_id
        )
        return higher + before + others

    def shape_of(self, job_id: JobId) -> Shape:
        """What the waiting job asks for."""
        return self._places[job_id].queue.shape
