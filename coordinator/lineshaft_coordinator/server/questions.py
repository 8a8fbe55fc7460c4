"""Answers to what clients ask about jobs and workers, from the core and from the store."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.core import views
from lineshaft_coordinator.core.records import FILE_KEPT, FileKept, JobFinished, Record
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.core.ways_out import way_out
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.data.secrets import SecretBox
from lineshaft_coordinator.journal import read_record
from lineshaft_coordinator.server.families import Families, next_number
from lineshaft_coordinator.server.health import health_view
from lineshaft_coordinator.server.history import History, LogsAsked, Place
from lineshaft_coordinator.server.viewing import ending_text
from lineshaft_coordinator.store.interface import JobRow, Sought, Store
from lineshaft_protocol.client_messages import Query
from lineshaft_protocol.families import retry_number
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.version import __version__

PAGE_ROWS = 1000
NOBODY: Final = "nobody"
"""Id of no token: none may be named so."""

Logs = dict[str, JsonValue]
"""Pieces of output, `after_attempt` and `after_seq` for the next page, whether it `has_more` now,
and whether it `is_complete`: nothing will follow."""


class UnknownJobError(Exception):
    """Nobody knows the job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id} is known; it may have been pruned with the history")


class Questions:
    """Reads, and changes nothing."""

    def __init__(
        self, shop: Shop, store: Store, secrets: SecretBox, objects: ObjectMover | None = None
    ) -> None:
        self._shop, self._store, self._secrets = shop, store, secrets
        self.objects = objects
        """To and from the object store; None if there is none."""
        self.history = History(store)
        self.families = Families(store)

    async def answer(self, query: Query, asker: str | None = None) -> JsonValue:
        """Answer a query.

        Args:
            query: What is asked.
            asker: Id of the token of who asks; None if nobody knows.

        Raises:
            UnknownJobError: It is about a job that nobody knows.
            UnknownArrayError: Likewise, of an array.
            UnreadableRecordError: It is about a job of which a record cannot be read.
        """
        job_id = JobId(query.job_id or "")
        match query.what:
            case "jobs":
                before = JobId(query.before) if query.before is not None else None
                sought = Sought(owner=owner_of(query.owner, asker))
                return await self.jobs(
                    status=query.status, limit=query.limit, before=before, sought=sought
                )
            case "job":
                return await self.job(job_id)
            case "why":
                return await self.why(job_id)
            case "story":
                return await self.story(job_id)
            case "workers":
                return self.workers()
            case "events":
                after = query.after_attempt, query.after_seq
                return await self.history.events(job_id, after, query.limit)
            case "logs":
                return await self.logs(job_id, _logs_asked(query))
            case "info":
                return await self.info()
            case "files":
                return await self.files(job_id)
            case "secrets":
                return dict(self._secrets.names())
            case "array":
                return await self.array(
                    job_id, status=query.status, offset=query.offset, limit=query.limit
                )

    async def jobs(
        self,
        *,
        status: str | None = None,
        limit: int = 100,
        before: JobId | None = None,
        kind: str | None = None,
        sought: Sought | None = None,
    ) -> list[JsonValue]:
        """Jobs, the last submitted first; live ones as they are now.

        Args:
            status: Only those.
            limit: The most.
            before: Only those that are listed behind this one.
            kind: Only those of this kind.
            sought: What else they have in common.

        Raises:
            UnknownJobError: Nobody knows that one.
        """
        place: tuple[float, str] | None = None
        if before is not None:
            if (row := await self._store.row_of(before)) is None:
                raise UnknownJobError(before)
            place = row.submitted_at, row.job_id
        if status in (None, "succeeded", "failed", "cancelled"):
            rows = await self._store.rows(
                limit=limit, status=status, before=place, kind=kind, sought=sought
            )
            return [self._merged(row) for row in rows]
        # The store knows who is live, only the core where each is: so page until there are enough.
        found: list[JsonValue] = []
        while rows := await self._store.rows(
            limit=PAGE_ROWS, is_live=True, before=place, kind=kind, sought=sought
        ):
            # Some ended since they were read.
            live = [row for row in rows if JobId(row.job_id) in self._shop.ledger.jobs]
            jobs = [self._merged(row) for row in live]
            found += [job for job in jobs if status == "live" or job["status"] == status]
            if len(found) >= limit:
                break
            place = rows[-1].submitted_at, rows[-1].job_id
        return found[:limit]

    async def job(self, job_id: JobId) -> dict[str, JsonValue]:
        """One job."""
        row = await self._store.row_of(job_id)
        if row is None:
            raise UnknownJobError(job_id)
        facts = self._merged(row) | await self._related(job_id)
        return facts if row.is_live else facts | await self._measured(job_id)

    def owner_of(self, job_id: JobId) -> str | None:
        """By which token a job was submitted, at once; empty if unknown, None if there is no job.

        Raises:
            StoreError: It cannot be read.
        """
        live = self._shop.ledger.jobs.get(job_id)
        return (live.owner or "") if live is not None else self._store.owner_of(job_id)

    async def owner(self, job_id: JobId) -> str | None:
        """The same as `owner_of`, without holding up the loop by a read."""
        live = self._shop.ledger.jobs.get(job_id)
        if live is not None:
            return live.owner or ""
        row = await self._store.row_of(job_id)
        return row.owner if row is not None else None

    async def _related(self, job_id: JobId) -> dict[str, JsonValue]:
        """The job's array, and what runs it again or was run by it again."""
        known = await self.families.known(job_id)
        retries = await self.families.retries(job_id)
        item, own = known.spec.array if known is not None else None, retry_number(job_id)
        return {
            "retry_of": known.spec.retry_of if known is not None else None,
            "next_retry": next_number(retries),
            "retried_as": [row.job_id for row in retries if retry_number(row.job_id) > own],
            "array_id": item.array_id if item is not None else None,
            "item": item.item if item is not None else None,
        }

    async def array(
        self, array_id: str, *, status: str | None = None, offset: int = 0, limit: int = 100
    ) -> dict[str, JsonValue]:
        """How many items of an array are where, and some of them.

        Raises:
            UnknownArrayError: Nobody knows the array.
        """
        return await self.families.array(
            array_id, self._merged, status=status, offset=offset, limit=limit
        )

    async def _measured(self, job_id: JobId) -> dict[str, JsonValue]:
        """What the last attempt of an ended job took."""
        outcome = await self._outcome(job_id)
        names = ("run_s", "peak_memory_bytes", "peak_gpu_memory_bytes")
        return {} if outcome is None else {name: getattr(outcome, name) for name in names}

    async def _outcome(self, job_id: JobId) -> Outcome | None:
        """How a job ended, as long as its records are kept."""
        records = await self._store.records_of(job_id)
        last = read_record(records[-1][2]) if records else None
        return last.outcome if isinstance(last, JobFinished) else None

    def _merged(self, row: JobRow) -> dict[str, JsonValue]:
        facts: dict[str, JsonValue] = {
            "job_id": row.job_id,
            "name": row.name or None,
            "kind": row.kind,
            "client_id": row.client_id,
            "owner": row.owner or None,
            "status": row.status,
            "attempt": row.attempt,
            "worker_id": row.worker_id,
            "submitted_at": row.submitted_at,
            "finished_at": row.finished_at,
            "tags": [*(row.tags.split(",") if row.tags else ())],
            "error": row.error,
        }
        return facts | (views.job_view(self._shop, JobId(row.job_id)) or {})

    def workers(self) -> list[JsonValue]:
        """All workers that are here, or that have jobs."""
        return views.workers_view(self._shop)

    async def why(self, job_id: JobId, *, shows_output: bool = True) -> dict[str, JsonValue]:
        """Why a job is where it is, or how it ended.

        Args:
            job_id: The job.
            shows_output: Whether words of the job's code, or of what builds its environment, may
                be among the reasons.
        """
        found = views.why(self._shop, job_id, shows_output=shows_output)
        if found is not None:
            match self._blobs_out_of_reach(job_id), found["reasons"]:
                case str(away), list(told):
                    told.append(away)
                case _:
                    pass
            return found
        job = await self.job(job_id)
        text = "it was cancelled" if job["status"] == "cancelled" else f"it {job['status']}"
        outcome = await self._outcome(job_id) if job["status"] == "failed" else None
        if job["error"] and shows_output:
            text += f": {job['error']}"
        elif job["error"] and outcome is not None and outcome.failure is not None:
            text += f": {ending_text(outcome.failure)}"
        reasons: list[JsonValue] = [text]
        if job["status"] in ("failed", "cancelled") and job["kind"] != "stream":
            again = job["retried_as"]
            reasons.append(
                f"it was done again as {again[-1]}"
                if isinstance(again, list) and again
                else f"'lineshaft retry {job_id}' does it again"
            )
            if not again and outcome is not None and (hint := way_out(outcome)) is not None:
                reasons.append(hint)
        return {"job_id": job_id, "status": job["status"], "reasons": reasons}

    def _blobs_out_of_reach(self, job_id: JobId) -> str | None:
        """What a live job needs and cannot have now, in a sentence; None if it has all."""
        objects, job = self.objects, self._shop.ledger.jobs.get(job_id)
        if objects is None or job is None or objects.problem is None:
            return None
        count = sum(map(objects.is_away, job.spec.blobs))
        text = f"{count} of the blobs that it needs lie in the object store alone"
        return f"{text}, and {objects.problem}" if count else None

    async def story(self, job_id: JobId) -> list[JsonValue]:
        """Every record about a job, in order, with wall times."""
        records = await self._store.records_of(job_id)
        if not records:
            raise UnknownJobError(job_id)
        retries = await self.families.retries_of(job_id)
        again: list[JsonValue] = [
            {"at": row.submitted_at, "type": "JobRetried", "job_id": job_id, "retry": row.job_id}
            for row in retries
        ]
        told: list[JsonValue] = [
            {"seq": seq, "at": at, **told_record(read_record(data))} for seq, at, data in records
        ]
        return told + again

    async def files(self, job_id: JobId) -> list[JsonValue]:
        """Checkpoints and artifacts of a job that are kept, the oldest first."""
        records = await self._store.records_of(job_id)
        if not records:
            raise UnknownJobError(job_id)
        kept: dict[str, JsonValue] = {}
        for _, _, data in records:
            # Most records are of other kinds, and some are long.
            record = read_record(data) if data.startswith(FILE_KEPT) else None
            if isinstance(record, FileKept):
                kept[record.file.file_id] = record.file.model_dump(mode="json", exclude_none=True)
                for file_id in record.dropped:
                    kept.pop(file_id, None)
        return [*kept.values()]

    async def logs(self, job_id: JobId, asked: LogsAsked, *, wait_s: float = 0) -> Logs:
        """A page of what a job printed.

        Args:
            job_id: The job.
            asked: Which page.
            wait_s: How long to wait for it to print something if there is nothing, in seconds.

        Raises:
            UnknownJobError: Nobody knows the job.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        with self.history.news(job_id) as news:
            while True:
                news.clear()
                # Asked first: what an ended job has said is then all there.
                job = await self.job(job_id)
                page = await self.history.logs(job_id, asked)
                is_over = job["finished_at"] is not None or (
                    asked.attempt is not None and asked.attempt < _whole(job["attempt"])
                )
                page["is_complete"] = is_over and not page["has_more"]
                left_s = ends_at - loop.time()
                if page["pieces"] or page["has_more"] or page["is_complete"] or left_s <= 0:
                    return page
                asked = replace(asked, after=_place(page), tail=None)
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), left_s)

    def health(self) -> dict[str, JsonValue]:
        """How the coordinator is, for who brings no token."""
        return health_view(self._shop)

    async def info(self) -> dict[str, JsonValue]:
        """What the coordinator is and how much it has to do."""
        shop, objects = self._shop, self.objects
        return {
            "lineshaft": __version__,
            "epoch": shop.epoch,
            "live_jobs": len(shop.ledger.jobs),
            "queued_jobs": len(shop.queues),
            "workers": len(shop.fleet.by_session),
            "clients": len(shop.clients),
            "jobs": dict(await self._store.counts()),
            "object_store": None
            if objects is None
            else {
                "url": objects.notice.url,
                "problem": objects.problem,
                "waiting": objects.waiting_count,
            },
        }


def owner_of(wanted: str | None, asker: str | None) -> str:
    """By which token the jobs were submitted that are asked for; empty: by any.

    Args:
        wanted: Id of a token, or "me"; None or empty for any.
        asker: Id of the token of who asks.
    """
    return (asker or NOBODY) if wanted == "me" else wanted or ""


def _logs_asked(query: Query) -> LogsAsked:
    return LogsAsked(
        attempt=query.attempt,
        stream=query.stream,
        after=(query.after_attempt, query.after_seq),
        tail=query.tail,
    )


def _whole(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def _place(page: Logs) -> Place:
    return _whole(page["after_attempt"]), _whole(page["after_seq"])


def told_record(record: Record) -> dict[str, JsonValue]:
    """A record for people: what a job carries is not part of its story."""
    told: dict[str, JsonValue] = record.model_dump(mode="json", exclude_none=True)
    job, outcome = told.get("job"), told.get("outcome")
    if isinstance(job, dict):
        left_out = ("payload", "variables")
        told["job"] = {key: value for key, value in job.items() if key not in left_out}
    if isinstance(outcome, dict):
        outcome.pop("result", None)
    for ending in (told, outcome):
        failure = ending.get("failure") if isinstance(ending, dict) else None
        if isinstance(failure, dict):
            failure.pop("pickled", None)
    return told
