"""How many items of a job array may be under way.

An item takes one of its array's places when it enters the line for a worker, and gives it back
when it leaves the shop or stands aside: while it is paused, or waits before it is repeated. All
other items wait here, in order, so that the line never holds more of an array than may run, and
the scheduler needs to know nothing of arrays. Nothing of this is durable: after a restart the
leased items take their places first, and the others come as they were submitted.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import ArrayItem, JobSpec


@dataclass(slots=True)
class _Array:
    under_way: dict[JobId, None] = field(default_factory=dict)
    waiting: OrderedDict[JobId, ArrayItem] = field(default_factory=OrderedDict[JobId, ArrayItem])


class Arrays:
    """The places of all arrays that say ``at_most``."""

    def __init__(self) -> None:
        self._arrays: dict[str, _Array] = {}
        self._waiting: dict[JobId, str] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, job_id: JobId) -> bool:
        """Whether the job waits for others of its array."""
        return job_id in self._waiting

    def enter(self, job_id: JobId, item: ArrayItem, *, is_first: bool = False) -> bool:
        """Give the item a place, or let it wait for one; True if it has one."""
        array = self._arrays.setdefault(item.array_id, _Array())
        if job_id in array.under_way or _has_place(array, item):
            array.under_way[job_id] = None
            return True
        array.waiting[job_id] = item
        self._waiting[job_id] = item.array_id
        if is_first:
            array.waiting.move_to_end(job_id, last=False)
        return False

    def restore(self, job_id: JobId, item: ArrayItem) -> None:
        """After our restart: a worker has it, so it has its place."""
        self._arrays.setdefault(item.array_id, _Array()).under_way[job_id] = None

    def leave(self, job_id: JobId, item: ArrayItem) -> list[JobId]:
        """Take an item out, wherever it is; returns who has a place now and must enter the line."""
        if (array := self._arrays.get(item.array_id)) is None:
            return []
        array.under_way.pop(job_id, None)
        if self._waiting.pop(job_id, None) is not None:
            del array.waiting[job_id]
        let_in: list[JobId] = []
        while array.waiting:
            other, wanted = next(iter(array.waiting.items()))
            if not _has_place(array, wanted):
                break
            del array.waiting[other], self._waiting[other]
            array.under_way[other] = None
            let_in.append(other)
        if not array.under_way and not array.waiting:
            del self._arrays[item.array_id]
        return let_in

    def under_way(self, array_id: str) -> tuple[JobId, ...]:
        """Items that have a place."""
        array = self._arrays.get(array_id)
        return tuple(array.under_way) if array is not None else ()

    def waiting(self, array_id: str) -> tuple[JobId, ...]:
        """Items that wait for one, the next first."""
        array = self._arrays.get(array_id)
        return tuple(array.waiting) if array is not None else ()

    def ids(self) -> tuple[str, ...]:
        """All arrays of which an item is here."""
        return tuple(self._arrays)


def limited_item(spec: JobSpec) -> ArrayItem | None:
    """Which item of an array the job is, if only so many of that may be under way."""
    item = spec.array
    return item if item is not None and item.at_most is not None else None


def _has_place(array: _Array, item: ArrayItem) -> bool:
    return item.at_most is None or len(array.under_way) < item.at_most
