"""How many items of a job array, or jobs of a line, may be under way.

What is said of arrays and items here holds for lines and their jobs, too.

An item takes one of its array's places when it enters the line for a worker, and gives it back
when it leaves the shop or stands aside: while it is paused, or waits before it is repeated. All
other items wait here, in order, so that the line never holds more of an array than may run, and
the scheduler needs to know nothing of arrays. Nothing of this is durable: after a restart the
leased items take their places first, and the others come as they were submitted.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec


class Limit(NamedTuple):
    """Of how many others a job must wait for."""

    array_id: str
    """Of the array, or of the line: no array has such an id."""
    at_most: int


@dataclass(slots=True)
class _Array:
    under_way: dict[JobId, None] = field(default_factory=dict)
    waiting: OrderedDict[JobId, Limit] = field(default_factory=OrderedDict[JobId, Limit])


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

    def enter(self, job_id: JobId, item: Limit, *, is_first: bool = False) -> bool:
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

    def restore(self, job_id: JobId, item: Limit) -> None:
        """After our restart: a worker has it, so it has its place."""
        self._arrays.setdefault(item.array_id, _Array()).under_way[job_id] = None

    def leave(self, job_id: JobId, item: Limit) -> list[JobId]:
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


def limited_item(spec: JobSpec) -> Limit | None:
    """Which array or line the job is of, if only so many of that may be under way."""
    item, line = spec.array, spec.line
    if line is not None:
        return Limit(f"line/{line.name}", line.at_most)
    if item is None or item.at_most is None:
        return None
    return Limit(item.array_id, item.at_most)


def _has_place(array: _Array, item: Limit) -> bool:
    return len(array.under_way) < item.at_most
