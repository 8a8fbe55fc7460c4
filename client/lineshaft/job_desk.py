"""The jobs that somebody in this process waits for, or has submitted."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol

from lineshaft.core.io import (
    CancelAsked,
    Event,
    JobMoved,
    JobSpoke,
    SubmitAsked,
    UnwatchAsked,
    WatchAsked,
)
from lineshaft.endings import Ending, refusal
from lineshaft.errors import ClientClosedError, LineshaftError
from lineshaft.job_events import EventFeed
from lineshaft.questions import Questions
from lineshaft.shipping import Blob, Prepared
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import BlobId, JobId
from lineshaft_protocol.outcomes import Outcome

STORED_MAX = 10_000
"""Blobs of code remembered as being with the coordinator."""
LEFT_MAX = 10_000
"""Jobs remembered whose events were listened to and then were not."""

Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]

OnEnd = Callable[[Ending], None]


class Waiter(Protocol):
    """Who waits for a job's end; for thousands of jobs cheaper than a bound method for each."""

    def on_end(self, ending: Ending) -> None:
        """The job has ended, or will not be heard of."""
        ...


@dataclass(slots=True)
class _Watched:
    """A job somebody here waits for."""

    on_end: tuple[OnEnd, ...] = ()
    waiter: Waiter | None = None
    """Who submitted it, if that is not in `on_end`."""
    feeds: tuple[EventFeed, ...] = ()
    has_events: bool = False
    """Whether its events were asked for."""
    prepared: Prepared | None = None
    """What to send, until the coordinator has it."""
    upload: asyncio.Task[None] | None = None
    """Brings its blobs; the core does not know the job before it is done."""
    was_resent: bool = False
    settled: asyncio.Event | None = None
    """Set once the coordinator has the job, or will not have it; None if nobody asked."""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody here waits for anything of it."""
        return self.waiter is not None or bool(self.on_end or self.feeds)


class JobDesk:
    """Submits and watches jobs, and tells those who wait; lets go of what nobody waits for.

    Args:
        post: Gives the core an event.
        questions: To the coordinator.
        spawn: Does something beside; it is cancelled when the client is closed.
        store: Brings a blob to the coordinator; may raise LineshaftError.
    """

    def __init__(
        self,
        post: Callable[[Event], None],
        questions: Questions,
        *,
        spawn: Spawn,
        store: Callable[[Blob], Coroutine[None, None, None]],
    ) -> None:
        self._post, self._questions, self._spawn, self._store = post, questions, spawn, store
        self._jobs: dict[JobId, _Watched] = {}
        self._left: dict[JobId, None] = {}
        """Jobs of whose events some may still be on their way here."""
        self._stored: dict[BlobId, None] = {}
        self._unsent_count = 0
        self._all_sent = asyncio.Event()
        self._is_closed = False

    def close(self) -> None:
        """Take nothing more; what waits here goes on waiting until `abandon`."""
        self._is_closed = True

    def abandon(self) -> None:
        """Tell all who wait that the client was closed."""
        for job_id in tuple(self._jobs):
            self._end(job_id, ClientClosedError(job_id))

    def submit(self, prepared: Prepared, on_end: OnEnd) -> None:
        """Have a job kept and run; `on_end` is called once."""
        if self._is_closed:
            on_end(ClientClosedError())
        else:
            self._submit(prepared, _Watched((on_end,), prepared=prepared))

    def submit_for(self, prepared: Prepared, waiter: Waiter) -> None:
        """Have a job kept and run; the waiter is told of its end once, unless it is forgotten."""
        if self._is_closed:
            waiter.on_end(ClientClosedError())
        else:
            self._submit(prepared, _Watched(waiter=waiter, prepared=prepared))

    def _submit(self, prepared: Prepared, watched: _Watched) -> None:
        job_id = JobId(prepared.spec.job_id)
        self._jobs[job_id] = watched
        self._unsent_count += 1
        self._send_job(job_id, watched)

    def watch(self, job_id: JobId, on_end: OnEnd) -> None:
        """Call `on_end` once, with how the job ends or ended, whoever submitted it."""
        if self._is_closed:
            on_end(ClientClosedError())
        elif (watched := self._jobs.get(job_id)) is not None:
            was_wanted = watched.is_wanted
            watched.on_end += (on_end,)
            if not was_wanted and watched.upload is None:
                # Whoever waited before has left, and the core was told so.
                self._post(WatchAsked(job_id))
        else:
            self._jobs[job_id] = _Watched((on_end,))
            self._post(WatchAsked(job_id))

    def cancel(self, job_id: JobId, reason: str) -> None:
        """End a job."""
        watched = self._jobs.get(job_id)
        if self._is_closed:
            return
        if watched is not None and watched.upload is not None:
            watched.upload.cancel()
            self._end(job_id, Outcome(job_id=job_id, status="cancelled", attempt=0, reason=reason))
        else:
            self._post(CancelAsked(job_id, reason))

    def feed(self, job_id: JobId, after: tuple[int, int] = (0, 0)) -> EventFeed:
        """Return a job's events behind (attempt, seq); give it back with `leave`.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._is_closed:
            raise ClientClosedError
        watched = self._jobs.setdefault(job_id, _Watched())

        async def pages(after: tuple[int, int]) -> list[JobEvent]:
            return await self._questions.page(job_id, after)

        # The core asks for each event once: who comes later reads the beginning by himself.
        is_behind = watched.has_events or job_id in self._left or after > (0, 0)
        feed = EventFeed(pages, is_behind=is_behind, after=after)
        watched.feeds += (feed,)
        if not watched.has_events:
            watched.has_events = True
            if watched.upload is None:
                self._post(WatchAsked(job_id, events=True))
        return feed

    def leave(self, job_id: JobId, feed: EventFeed) -> None:
        """Nobody reads the feed any more."""
        watched = self._jobs.get(job_id)
        if watched is None:
            return
        watched.feeds = tuple(each for each in watched.feeds if each is not feed)
        if watched.has_events and not watched.feeds:
            watched.has_events = False
            self._note_left(job_id)
            self._let_go(job_id, watched)
            if watched.is_wanted and watched.upload is None:
                # Its end is still waited for, its events are not.
                self._post(WatchAsked(job_id))

    def forget(self, job_id: JobId, waiter: Waiter) -> None:
        """Who waited is not to be told any more how the job ends; it goes on."""
        watched = self._jobs.get(job_id)
        if watched is None or watched.waiter is not waiter:
            return
        watched.waiter = None
        if not watched.is_wanted:
            self._let_go(job_id, watched)

    def _let_go(self, job_id: JobId, watched: _Watched) -> None:
        if watched.upload is not None:
            return  # The core does not know it yet, and is told by who brings its blobs.
        self._post(UnwatchAsked(job_id))
        if not watched.is_wanted and watched.prepared is None:
            del self._jobs[job_id]

    def _note_left(self, job_id: JobId) -> None:
        if len(self._left) >= LEFT_MAX:
            del self._left[next(iter(self._left))]
        self._left[job_id] = None

    async def kept(self, job_id: JobId) -> None:
        """Wait until the coordinator has a job that was submitted here, or will not have it."""
        watched = self._jobs.get(job_id)
        if watched is not None and watched.prepared is not None:
            watched.settled = watched.settled or asyncio.Event()
            await watched.settled.wait()

    async def sent(self, timeout_s: float) -> bool:
        """Wait until the coordinator has all jobs submitted by now; False if time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._unsent_count and not self._is_closed:
                    self._all_sent.clear()
                    await self._all_sent.wait()
        except TimeoutError:
            return False
        return True

    # --- what the coordinator says ---

    def accepted(self, job_id: JobId) -> None:
        """The coordinator has the job."""
        watched = self._jobs.get(job_id)
        if watched is not None and watched.prepared is not None:
            self._count_sent(watched)
            if not watched.is_wanted:
                del self._jobs[job_id]

    def finished(self, outcome: Outcome) -> None:
        """A job has ended."""
        self._end(JobId(outcome.job_id), outcome)

    def spoke(self, told: JobSpoke) -> None:
        """A job has new events."""
        if watched := self._jobs.get(told.job_id):
            for feed in watched.feeds:
                feed.spoke(told.events, is_behind=told.is_behind)

    def moved(self, moved: JobMoved) -> None:
        """A job is in another state."""
        if watched := self._jobs.get(JobId(moved.change.job_id)):
            for feed in watched.feeds:
                feed.moved(moved.change)

    def forget_stored(self) -> None:
        """It is another coordinator: what the one before had counts no more."""
        self._stored.clear()

    def _send_job(self, job_id: JobId, watched: _Watched) -> None:
        assert watched.prepared is not None, "only what was submitted here is sent"
        missing = [each for each in watched.prepared.blobs if each.id not in self._stored]
        # The coordinator refuses what comes after a job that it does not have yet.
        before: list[asyncio.Task[None]] = []
        if after := watched.prepared.spec.after:
            others = (self._jobs.get(JobId(name)) for name in after)
            uploads = [each.upload for each in others if each is not None]
            before = [each for each in uploads if each is not None]
        if missing or before:
            watched.upload = self._spawn(self._upload(job_id, watched, missing, before))
        else:
            self._ask_core(job_id, watched)

    async def _upload(
        self,
        job_id: JobId,
        watched: _Watched,
        blobs: list[Blob],
        before: list[asyncio.Task[None]],
    ) -> None:
        try:
            if len(blobs) == 1:
                await self._upload_one(blobs[0])
            else:
                await asyncio.gather(*map(self._upload_one, blobs))
            if before:
                await asyncio.wait(before)
        except LineshaftError as error:
            watched.upload = None
            self._end(job_id, error)
            return
        watched.upload = None
        self._ask_core(job_id, watched)

    def _ask_core(self, job_id: JobId, watched: _Watched) -> None:
        assert watched.prepared is not None, "kept until the job is accepted"
        self._post(SubmitAsked(watched.prepared.spec))
        if watched.has_events:
            self._post(WatchAsked(job_id, events=True))
        elif not watched.is_wanted:
            self._post(UnwatchAsked(job_id))

    async def _upload_one(self, blob: Blob) -> None:
        await self._store(blob)
        if blob.is_code:
            self._remember(blob.id)

    def _remember(self, blob_id: BlobId) -> None:
        if len(self._stored) >= STORED_MAX:
            self._stored.clear()
        self._stored[blob_id] = None

    def refused(self, job_id: JobId, code: str, message: str) -> None:
        """The coordinator will not have the job, or does not know it."""
        watched = self._jobs.get(job_id)
        if watched is None:
            return
        if code == "blob_missing" and watched.prepared is not None and not watched.was_resent:
            # The coordinator has forgotten what it had: another data folder, or it was tidied up.
            for blob in watched.prepared.blobs:
                self._stored.pop(blob.id, None)
            watched.was_resent = True
            self._send_job(job_id, watched)
            return
        self._end(job_id, refusal(job_id, code, message))

    def _end(self, job_id: JobId, ending: Ending) -> None:
        watched = self._jobs.pop(job_id, None)
        if watched is None:
            return
        if watched.prepared is not None:
            self._count_sent(watched)
        for feed in watched.feeds:
            feed.end(ending)
        for on_end in watched.on_end:
            on_end(ending)
        if watched.waiter is not None:
            watched.waiter.on_end(ending)

    def _count_sent(self, watched: _Watched) -> None:
        watched.prepared = None
        if watched.settled is not None:
            watched.settled.set()
        self._unsent_count -= 1
        if not self._unsent_count:
            self._all_sent.set()
