"""Jobs that belong together: the items of an array, and a job with what ran it again."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import JsonValue

from lineshaft_coordinator.core.records import JobFinished, JobSubmitted
from lineshaft_coordinator.journal import read_record
from lineshaft_coordinator.store.interface import JobRow, Store
from lineshaft_protocol.families import first_of, retry_number
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome

PAGE_ROWS = 1000
LISTING_S = 30.0
"""How long the items of an array are kept for who asks for them page by page."""
_ITEM = re.compile(r"(0|[1-9][0-9]*)(\.r[1-9][0-9]*)?")


class UnknownArrayError(Exception):
    """Nobody knows the array."""

    def __init__(self, array_id: str) -> None:
        super().__init__(f"no array {array_id} is known; it may have been pruned with the history")


@dataclass(frozen=True, slots=True)
class Known:
    """A job as the journal has it."""

    spec: JobSpec
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class _Listing:
    array_id: str
    status: str | None
    facts: dict[str, JsonValue]
    rows: list[tuple[int, JobRow]]


class Families:
    """Finds relatives by how their ids begin; reads, and changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listing: _Listing | None = None

    async def known(self, job_id: str) -> Known | None:
        """What a job was submitted as, and how it ended; None if nobody knows it.

        Raises:
            UnreadableRecordError: A record of it is none that this version knows.
        """
        records = [read_record(data) for _, _, data in await self._store.records_of(job_id)]
        spec = next((each.job for each in records if isinstance(each, JobSubmitted)), None)
        outcome = next((each.outcome for each in records if isinstance(each, JobFinished)), None)
        return None if spec is None else Known(spec, outcome)

    async def retries(self, job_id: str) -> list[JobRow]:
        """Every job that runs the first of this one's family again, the oldest first."""
        first = first_of(job_id)
        found = [
            row
            async for row in self._rows(f"{first}.r")
            if first_of(row.job_id) == first and retry_number(row.job_id)
        ]
        return sorted(found, key=lambda row: retry_number(row.job_id))

    async def retries_of(self, job_id: str) -> list[JobRow]:
        """Those that run just this job again."""
        found: list[JobRow] = []
        for row in await self.retries(job_id):
            known = await self.known(row.job_id)
            if known is not None and known.spec.retry_of == job_id:
                found.append(row)
        return found

    async def items(self, array_id: str) -> dict[int, JobRow]:
        """The items of an array by number, each as the last job that ran it.

        Raises:
            UnknownArrayError: Nobody knows it.
        """
        last: dict[int, JobRow] = {}
        async with aclosing(self._rows(f"{array_id}.")) as rows:
            async for row in rows:
                found = _ITEM.fullmatch(row.job_id[len(array_id) + 1 :])
                if found is None:
                    continue
                number, before = int(found[1]), last.get(int(found[1]))
                if before is None or retry_number(row.job_id) > retry_number(before.job_id):
                    last[number] = row
        if not last:
            raise UnknownArrayError(array_id)
        return dict(sorted(last.items()))

    async def array(
        self,
        array_id: str,
        merged: Callable[[JobRow], dict[str, JsonValue]],
        *,
        status: str | None,
        offset: int,
        limit: int,
    ) -> dict[str, JsonValue]:
        """An array: how many of its items are where, and some of them.

        Args:
            array_id: Its id.
            merged: Tells a job as it is now.
            status: Only these items are listed, or those of "live" ones; None for all.
            offset: How many of them are left out.
            limit: How many are listed at most.

        All pages that are asked for one after the other are of the moment of the first: an array
        that is listed anew for each page costs the square of its items.

        Raises:
            UnknownArrayError: Nobody knows it.
        """
        listing = self._listing if offset else None
        if listing is None or (listing.array_id, listing.status) != (array_id, status):
            listing = await self._listed(array_id, merged, status)
            if 1 < limit < len(listing.rows):  # One is asked for by who wants the numbers alone.
                self._keep(listing)
        page = listing.rows[offset : offset + limit]
        if offset + limit >= len(listing.rows):
            self._drop(listing)
        items: list[JsonValue] = [{"item": number, **merged(row)} for number, row in page]
        return {**listing.facts, "items": items}

    async def _listed(
        self, array_id: str, merged: Callable[[JobRow], dict[str, JsonValue]], status: str | None
    ) -> _Listing:
        rows = await self.items(array_id)
        counts: dict[str, JsonValue] = {}
        wanted: list[tuple[int, JobRow]] = []
        for number, row in rows.items():
            now = str(merged(row)["status"])
            before = counts.get(now, 0)
            counts[now] = before + 1 if isinstance(before, int) else 1
            is_live = now not in ("succeeded", "failed", "cancelled")
            if status in (None, now) or (status == "live" and is_live):
                wanted.append((number, row))
        first = next(iter(rows.values()))
        known = await self.known(first.job_id)
        place = known.spec.array if known is not None else None
        facts: dict[str, JsonValue] = {
            "array_id": array_id,
            "name": first.name or None,
            "count": place.count if place is not None else len(rows),
            "at_most": place.at_most if place is not None else None,
            "submitted": len(rows),
            "counts": counts,
        }
        return _Listing(array_id, status, facts, wanted)

    def _keep(self, listing: _Listing) -> None:
        self._listing = listing
        asyncio.get_running_loop().call_later(LISTING_S, self._drop, listing)

    def _drop(self, listing: _Listing) -> None:
        if self._listing is listing:
            self._listing = None

    async def _rows(self, prefix: str) -> AsyncGenerator[JobRow]:
        after = ""
        while rows := await self._store.rows_beginning(prefix, after=after, limit=PAGE_ROWS):
            for row in rows:
                yield row
            after = rows[-1].job_id


def next_number(retries: list[JobRow]) -> int:
    """Which repeat of a job comes next, from those there are; one that is under way is it."""
    if not retries:
        return 1
    return retry_number(retries[-1].job_id) + (not retries[-1].is_live)
