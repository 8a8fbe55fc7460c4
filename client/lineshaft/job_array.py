"""A job array, as its user sees it: many jobs of the same files, one for each set of parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence
from typing import TypeAlias

from pydantic import JsonValue

from lineshaft.blocking_job import Job
from lineshaft.errors import JobRefusedError, LineshaftError
from lineshaft.job import AsyncJob
from lineshaft.loop_thread import HeldThread
from lineshaft.shell import Shell
from lineshaft_protocol.client_messages import Query
from lineshaft_protocol.ids import JobId

PAGE_ITEMS = 1000

Counts: TypeAlias = dict[str, int]
"""How many items are where, as `{"succeeded": 7, "running": 2}`."""


class AsyncJobArray:
    """The items of an array, as jobs; `client.find_array(id)` finds it again, from anywhere.

    An item that was done again is the job that did it last.
    """

    def __init__(self, shell: Shell, array_id: str, jobs: Sequence[AsyncJob[object]]) -> None:
        self._shell, self._array_id = shell, array_id
        self._jobs = list(jobs)

    @property
    def id(self) -> str:
        """Its name for the coordinator."""
        return self._array_id

    @property
    def jobs(self) -> tuple[AsyncJob[object], ...]:
        """Its items, in order."""
        return tuple(self._jobs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {len(self)} items>"

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, item: int) -> AsyncJob[object]:
        return self._jobs[item]

    def __iter__(self) -> Iterator[AsyncJob[object]]:
        return iter(self._jobs)

    def __await__(self) -> Generator[object, None, list[object]]:
        """Wait for all results."""
        return self.results().__await__()

    async def results(self, timeout: float | None = None) -> list[object]:  # noqa: ASYNC109 - as of a job
        """Wait for what all items return, in order.

        Raises:
            TimeoutError: They have not ended in time; they go on.
            Exception: Whatever the first item that failed raised; `wait` only counts.
        """
        async with asyncio.timeout(timeout):
            return list(await asyncio.gather(*(each.result() for each in self._jobs)))

    async def wait(self, timeout: float | None = None) -> Counts:  # noqa: ASYNC109 - as of a job
        """Wait until all items have ended, however; return how many ended how.

        Raises:
            TimeoutError: They have not ended in time; they go on.
            LineshaftError: An item is not known, was not kept, or the client was closed.
        """
        async with asyncio.timeout(timeout):
            endings = await asyncio.gather(
                *(each.settled(None, with_data=False) for each in self._jobs)
            )
        counts: Counts = {}
        for ending, _ in endings:
            if isinstance(ending, LineshaftError):
                raise ending
            counts[ending.status] = counts.get(ending.status, 0) + 1
        return counts

    async def status(self) -> Counts:
        """Return how many items are where now.

        Raises:
            QueryError: The coordinator does not know the array.
        """
        await self._kept()
        return counts_of(await ask_array(self._shell, self._array_id, limit=1))

    async def items(self, *, status: str | None = None) -> list[dict[str, JsonValue]]:
        """Return what the coordinator knows of each item, as `client.jobs` does of jobs.

        Args:
            status: Only those that are there: "failed", "running", "live" and so on.

        Raises:
            QueryError: The coordinator does not know the array.
        """
        await self._kept()
        return await items_of(self._shell, self._array_id, status=status)

    def cancel(self, reason: str = "cancelled by its user") -> None:
        """End all items, whatever they are doing."""
        # The last ones first: those that wait must not begin because of those that end.
        for each in reversed(self._jobs):
            each.cancel(reason)

    async def retry(self, *, cancelled: bool = False) -> int:
        """Do all items again that failed; return how many those are.

        Each of them is a new job then, which takes the old one's place in this array.

        Args:
            cancelled: Do those again as well that were cancelled.

        Raises:
            PayloadLostError: What an item was submitted with is gone.
        """
        count, wanted = 0, ("failed", "cancelled") if cancelled else ("failed",)
        for item in await self.items():
            number = item["item"]
            if isinstance(number, int) and item["status"] in wanted:
                self._jobs[number] = await self._jobs[number].retry()
                count += 1
        return count

    async def _kept(self) -> None:
        for each in self._jobs:
            await self._shell.jobs.kept(JobId(each.id))


class JobArray:
    """The items of an array, as jobs; `AsyncJobArray` is the same for event loops."""

    def __init__(self, array: AsyncJobArray, thread: HeldThread) -> None:
        self._array, self._thread = array, thread

    @property
    def id(self) -> str:
        """Its name for the coordinator; `client.find_array(id)` finds it again, from anywhere."""
        return self._array.id

    @property
    def jobs(self) -> tuple[Job[object], ...]:
        """Its items, in order."""
        return tuple(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, {len(self)} items>"

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, item: int) -> Job[object]:
        return Job(self._array[item], self._thread)

    def __iter__(self) -> Iterator[Job[object]]:
        return (Job(each, self._thread) for each in self._array)

    def results(self, timeout: float | None = None) -> list[object]:
        """Wait for what all items return, in order.

        Raises:
            TimeoutError: They have not ended in time; they go on.
            Exception: Whatever the first item that failed raised; `wait` only counts.
        """
        return self._thread.run(self._array.results(timeout))

    def wait(self, timeout: float | None = None) -> Counts:
        """Wait until all items have ended, however; return how many ended how.

        Raises:
            TimeoutError: They have not ended in time; they go on.
            LineshaftError: An item is not known, was not kept, or the client was closed.
        """
        return self._thread.run(self._array.wait(timeout))

    @property
    def status(self) -> Counts:
        """How many items are where now.

        Raises:
            QueryError: The coordinator does not know the array.
        """
        return self._thread.run(self._array.status())

    def items(self, *, status: str | None = None) -> list[dict[str, JsonValue]]:
        """Return what the coordinator knows of each item, as `client.jobs` does of jobs.

        Raises:
            QueryError: The coordinator does not know the array.
        """
        return self._thread.run(self._array.items(status=status))

    def cancel(self, reason: str = "cancelled by its user") -> None:
        """End all items, whatever they are doing."""
        self._thread.post(lambda: self._array.cancel(reason))

    def retry(self, *, cancelled: bool = False) -> int:
        """Do all items again that failed; return how many those are.

        Args:
            cancelled: Do those again as well that were cancelled.

        Raises:
            PayloadLostError: What an item was submitted with is gone.
        """
        return self._thread.run(self._array.retry(cancelled=cancelled))


async def find_array(shell: Shell, array_id: str) -> AsyncJobArray:
    """Return an array that was submitted earlier, by whomever.

    Raises:
        QueryError: The coordinator does not know it.
        JobRefusedError: Not all of its items were submitted.
    """
    known = await items_of(shell, array_id)
    first = await ask_array(shell, array_id, limit=1)
    count = first.get("count")
    if count != len(known):
        text = f"only {len(known)} of the {count} items of this array were submitted"
        raise JobRefusedError(array_id, "invalid", text)
    return AsyncJobArray(shell, array_id, [AsyncJob(shell, str(each["job_id"])) for each in known])


async def items_of(
    shell: Shell, array_id: str, *, status: str | None = None
) -> list[dict[str, JsonValue]]:
    """Return what the coordinator knows of each item.

    Raises:
        QueryError: It does not know the array.
    """
    found: list[dict[str, JsonValue]] = []
    while True:
        page = await ask_array(shell, array_id, status=status, offset=len(found), limit=PAGE_ITEMS)
        items = page.get("items")
        new = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
        found += new
        if len(new) < PAGE_ITEMS:
            return found


async def ask_array(
    shell: Shell, array_id: str, *, status: str | None = None, offset: int = 0, limit: int
) -> dict[str, JsonValue]:
    """Return what the coordinator knows of an array, and some of its items.

    Raises:
        QueryError: It does not know the array.
    """
    query = Query(
        request_id=0, what="array", job_id=array_id, status=status, offset=offset, limit=limit
    )
    found = await shell.questions.ask(query)
    return found if isinstance(found, dict) else {}


def counts_of(found: dict[str, JsonValue]) -> Counts:
    """Return how many items are where, of what the coordinator said about an array."""
    counts = found.get("counts")
    if not isinstance(counts, dict):
        return {}
    return {key: value for key, value in counts.items() if isinstance(value, int)}
