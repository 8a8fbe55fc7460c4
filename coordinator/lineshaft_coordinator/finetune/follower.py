"""Follows all trainings: folds what they say, writes their files, and knows the ended ones.

A training is read from the store once, up to where it is, and then heard from the core, which tells
everything after a given place in order. Files are written by one task, once a second, in a thread:
a slow disk delays the files and nothing else.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.core.views import job_state
from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.finetune.checkpoints import label_of
from lineshaft_coordinator.finetune.following import Following, Story, request_of
from lineshaft_coordinator.finetune.history import history
from lineshaft_coordinator.finetune.line import CLIENT_ID, CoreLine
from lineshaft_coordinator.finetune.points import Point
from lineshaft_coordinator.finetune.scribe import PAGE_BYTES, PAGE_EVENTS, Scribe
from lineshaft_coordinator.finetune.trying import Trying
from lineshaft_coordinator.finetune.views import Request
from lineshaft_coordinator.gateway.payloads import fetched
from lineshaft_coordinator.journal import read_event
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_coordinator.store.errors import UnreadableRecordError
from lineshaft_coordinator.store.interface import JobRow, Store
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Outcome

logger = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 1.0
ENDED_MAX: Final = 256
"""Ended trainings that are kept at hand."""
PAGE_ROWS: Final = 500


class UnknownTrainingError(Exception):
    """Nobody knows the training."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Training job {job_id} not found")
        self.job_id = job_id


@dataclass(frozen=True, slots=True)
class Moved:
    """A training is somewhere else, or has ended; for those who tell others."""

    following: Following
    before: str
    """The status before."""


class Follower:
    """Knows how each training stands.

    Args:
        sessions: Where its session to the core is opened.
        shop: The core's state, for reading.
        store: Where events and records lie.
        blobs: Where long requests lie.
        scribe: Writes the files of trainings.
        on_moved: Told of each change that happens from now on. Must not block.
    """

    def __init__(
        self,
        sessions: Sessions,
        shop: Shop,
        store: Store,
        blobs: BlobStore,
        scribe: Scribe,
        on_moved: Callable[[Moved], None],
    ) -> None:
        self._shop, self._store, self._blobs = shop, store, blobs
        self._scribe = scribe
        self._on_moved = on_moved
        self._live: dict[str, Following] = {}
        self._ended: OrderedDict[str, Following] = OrderedDict()
        self._opening: dict[str, asyncio.Task[Following]] = {}
        self._unreadable: set[str] = set()
        self._trying = Trying()
        self.line = CoreLine(sessions, self._on_told, self._on_open_again)

    async def run(self) -> None:
        """Follow everything that is live, and write files, until cancelled; raises nothing."""
        try:
            await self._trying.until_done("trainings are not followed yet", self.refresh)
            await self._trying.until_done("files of ended trainings are not written", self._mend)
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                await self._write_all()
        finally:
            self.line.close()
            self._trying.close()
            for task in self._opening.values():
                task.cancel()

    async def refresh(self) -> int:
        """Follow live trainings that are not followed yet; returns how many these were.

        Raises:
            StoreError: The store failed; what cannot be read of one training is tried again later.
        """
        before: tuple[float, str] | None = None
        count = 0
        while True:
            rows = await self._store.rows(
                limit=PAGE_ROWS, client_id=CLIENT_ID, is_live=True, before=before
            )
            for row in rows:
                if row.job_id not in self._live:
                    await self._find_some_time(row)
                    count += row.job_id in self._live
            if len(rows) < PAGE_ROWS:
                return count
            before = rows[-1].submitted_at, rows[-1].job_id

    async def of(self, job_id: str) -> Following:
        """Return how a job stands, up to what was committed.

        Raises:
            UnknownTrainingError: Nobody knows it.
            StoreError: It cannot be read.
        """
        found = self._live.get(job_id) or self._ended.get(job_id)
        if found is not None:
            return found
        # Several who ask at once wait for one reading; it goes on if one of them leaves.
        opening = self._opening.get(job_id)
        if opening is None:
            opening = asyncio.create_task(self._open(job_id))
            self._opening[job_id] = opening
            opening.add_done_callback(lambda done: self._opened(job_id, done))
        return await asyncio.shield(opening)

    async def find(self, job_id: str) -> Following | None:
        """Return how a job stands; None if it was just pruned, or its records cannot be read.

        Raises:
            StoreError: It cannot be read now.
        """
        try:
            return await self.of(job_id)
        except UnknownTrainingError:
            return None
        except UnreadableRecordError as error:
            if job_id not in self._unreadable:
                self._unreadable.add(job_id)
                fields = {"job_id": job_id, "why": str(error)}
                logger.warning("a training is left out", extra=fields)
            return None

    async def _find_some_time(self, row: JobRow) -> None:
        find = partial(self.find, row.job_id)
        await self._trying.once("a training is not followed yet", row.job_id, find)

    def folder_of(self, job_id: str) -> Path:
        """Where a training's files lie."""
        return self._scribe.files.logs(job_id)

    async def catch_up(self, following: Following) -> None:
        """Write what was printed and is not in the log yet; of a job that has none, make one."""
        if following.has_files:
            await self._scribe.write_log(following)
        else:
            await self._scribe.make_log(following)

    def points(self, following: Following) -> AsyncIterator[list[Point]]:
        """Read the whole history of a job's metrics."""
        return history(
            self._store, following.job_id, following.story.attempt, following.fold.total_epochs
        )

    def live(self) -> list[Following]:
        """All that are followed and have not ended, in the order in which they were submitted."""
        return sorted(self._live.values(), key=lambda each: each.story.submitted_at)

    # --- reading ---

    def _opened(self, job_id: str, done: asyncio.Task[Following]) -> None:
        del self._opening[job_id]
        if not done.cancelled():
            done.exception()  # Whoever asked has it.

    async def _open(self, job_id: str) -> Following:
        story = Story.of(await self._store.records_of(job_id))
        if story is None:
            raise UnknownTrainingError(job_id)
        row = await self._store.row_of(job_id)
        is_ours = row is not None and row.client_id == CLIENT_ID
        request = await self._request(story.spec.payload) if is_ours else Request()
        following = Following(
            job_id=job_id, story=story, request=request, clock=time.time, has_files=is_ours
        )
        if is_ours:
            await asyncio.to_thread(self._scribe.restore, following)
        await self._read_on(following)
        job = self._shop.ledger.jobs.get(JobId(job_id))
        if job is None:
            if story.outcome is None:  # It ended while we read.
                following.story = Story.of(await self._store.records_of(job_id)) or story
                await self._read_on(following)
            if following.is_news and is_ours:
                await self._scribe.write(following)
            self._keep_ended(following)
            return following
        following.state = job_state(self._shop, JobId(job_id), job)
        self._live[job_id] = following
        self.line.watch(job_id, following.fold.place)
        return following

    async def _request(self, payload: Payload) -> Request:
        try:
            return await asyncio.to_thread(request_of, await fetched(self._blobs, payload))
        except BlobError:  # Collected long after the end.
            return Request()

    async def _read_on(self, following: Following) -> None:
        """Take in what the store has beyond what is known."""
        following.is_behind = True
        while True:
            following.has_missed = False
            rows = await self._store.events_of(
                following.job_id,
                after=following.fold.place,
                limit=PAGE_EVENTS,
                bytes_max=PAGE_BYTES,
            )
            for row in rows:
                following.take(read_event(row))
            await self._scribe.write_log(following)
            if not rows and not following.has_missed:
                following.is_behind = False
                return

    # --- hearing ---

    def _on_told(self, job_id: str, told: JobEvent | StateChanged | Outcome | None) -> None:
        following = self._live.get(job_id)
        if following is None:
            return
        match told:
            case JobEvent() if following.is_behind:
                following.has_missed = True
            case JobEvent():
                following.take(told)
            case None if following.is_behind:
                following.has_missed = True
            case None:
                following.is_behind = True
                read_on = partial(self._read_on, following)
                self._trying.begin("a training's events are not read yet", job_id, read_on)
            case StateChanged(attempt=attempt):
                before = following.status
                job = self._shop.ledger.jobs.get(JobId(job_id))
                checkpoint = job.checkpoint if job is not None and attempt > 1 else None
                resumed_from = label_of(checkpoint) if checkpoint is not None else None
                # As it is told: a job may be queued and assigned at once, and both are seen.
                following.move(told.state, attempt, resumed_from)
                self._tell(following, before)
            case Outcome():
                before = following.status
                del self._live[job_id]
                self._keep_ended(following)
                finish = partial(self._finish, following)
                self._trying.begin("a training's last files are not written yet", job_id, finish)
                following.end(told)
                self._tell(following, before)

    def _on_open_again(self) -> None:
        """The core had ended our session: hear again what goes on, and what was said meanwhile."""
        for following in self._live.values():
            self.line.watch(following.job_id, following.fold.place)
        self._trying.begin("trainings are not followed yet", "", self.refresh)

    def _tell(self, following: Following, before: str) -> None:
        if following.has_files and following.status != before:
            self._on_moved(Moved(following, before))

    async def _finish(self, following: Following) -> None:
        await self._read_on(following)
        await self._scribe.write(following)
        story = Story.of(await self._store.records_of(following.job_id))
        if story is not None:
            self._unpack(following, [*story.checkpoints.values()])

    def _keep_ended(self, following: Following) -> None:
        self._ended[following.job_id] = following
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    # --- writing ---

    async def _mend(self) -> None:
        """Write the files of trainings that ended just before the coordinator did."""
        rows = await self._store.rows(limit=100, client_id=CLIENT_ID, is_live=False)
        for row in rows:
            await self._find_some_time(row)

    async def _write_all(self) -> None:
        for following in tuple(self._live.values()):
            if following.is_news or following.log_pieces:
                write = partial(self._scribe.write, following)
                what = "the files of a training are not written yet"
                await self._trying.once(what, following.job_id, write)
            job = self._shop.ledger.jobs.get(JobId(following.job_id))
            if job is not None and job.files:
                self._unpack(following, job.checkpoints)

    def _unpack(self, following: Following, files: Sequence[KeptFile]) -> None:
        """Begin to lay checkpoints out as folders: they may be large, and nobody waits for that."""
        ids = tuple(file.file_id for file in files)
        if following.has_files and ids != following.unpacked:
            following.unpacked = ids
            unpack = partial(self._scribe.unpack, following.job_id, tuple(files))
            what = "a checkpoint is not laid out as a folder yet"
            self._trying.begin(what, following.job_id, unpack)
