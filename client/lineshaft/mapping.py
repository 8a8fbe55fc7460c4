"""Many calls whose results come back in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Protocol, TypeVar

WINDOW_JOBS = 4096
"""Jobs of one map that are under way at a time; the others are submitted as results are taken."""


class Cancellable(Protocol):
    """A job, or the future of one."""

    def cancel(self) -> object:
        """End it."""
        ...


ItemT = TypeVar("ItemT")
JobT = TypeVar("JobT", bound=Cancellable)


def in_flight(
    start: Callable[[ItemT], JobT], items: Iterable[ItemT], *, window: int = WINDOW_JOBS
) -> Generator[JobT]:
    """Start a job for each item, some ahead, and yield the jobs in the order of the items.

    The first ones are started at once, not when the first is asked for. Jobs that were started are
    cancelled when the generator is closed.
    """
    iterator = iter(items)
    started = deque(start(item) for item in islice(iterator, window))
    return _rest(start, iterator, started)


def _rest(
    start: Callable[[ItemT], JobT], items: Iterable[ItemT], started: deque[JobT]
) -> Generator[JobT]:
    try:
        while started:
            yield started.popleft()
            started.extend(start(item) for item in islice(items, 1))
    finally:
        for job in started:
            job.cancel()
