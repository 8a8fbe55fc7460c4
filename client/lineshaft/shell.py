"""The client's shell: runs the core, moves blobs, and tells those who wait."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from lineshaft.core.io import (
    Answered,
    CancelAsked,
    Close,
    Connect,
    Connected,
    Disconnected,
    Effect,
    Event,
    JobAccepted,
    JobFinished,
    JobMoved,
    JobRefused,
    JobSpoke,
    Received,
    Send,
    SubmitAsked,
    Tick,
    WatchAsked,
    Welcomed,
)
from lineshaft.core.machine import ClientCore, CoreSettings
from lineshaft.endings import Ending, refusal
from lineshaft.errors import (
    ClientClosedError,
    CoordinatorUnreachableError,
    LineshaftError,
)
from lineshaft.job_events import EventFeed
from lineshaft.link import Link, LinkEvents
from lineshaft.questions import Questions
from lineshaft.shipping import PYTHON, Blob, Prepared
from lineshaft.storing import store
from lineshaft.streams import Streams
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import BlobId, ClientId, JobId, Session
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.version import __version__
from lineshaft_protocol.versions import Versions
from lineshaft_runtime.locating import Whereabouts
from lineshaft_runtime.packing import BytesLike
from lineshaft_runtime.pump import Pump
from lineshaft_runtime.same_host import SameHostFiles
from lineshaft_runtime.stream_feed import StreamFeed
from lineshaft_runtime.transfers import BlobTransfers

logger = logging.getLogger(__name__)

STORED_MAX = 10_000
"""Blobs of code remembered as being with the coordinator."""

OnEnd = Callable[[Ending], None]


@dataclass(slots=True)
class _Watched:
    """A job somebody here waits for."""

    on_end: tuple[OnEnd, ...] = ()
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


class Shell:
    """One client's side of the coordinator. All of it belongs to the loop it was made on."""

    def __init__(
        self, where: Whereabouts, *, client_id: ClientId, settings: CoreSettings, rng: random.Random
    ) -> None:
        loop = asyncio.get_running_loop()
        versions = Versions(lineshaft=__version__, python=PYTHON)
        core = ClientCore(settings, client_id=client_id, versions=versions, now=loop.time())
        self._pump: Pump[Event, Effect] = Pump(core, self._perform, tick=Tick())
        self._url = where.url
        self._streams = Streams()
        events = LinkEvents(
            on_open=lambda session: self._pump.post(Connected(session)),
            on_gone=self._on_gone,
            on_message=lambda session, message: self._pump.post(Received(session, message)),
            on_stream=self._streams.on_frame,
        )
        self._link = Link(where, events, rng)
        self._jobs: dict[JobId, _Watched] = {}
        self.questions = Questions(self._pump.post)
        self._stored: dict[BlobId, None] = {}
        self._epoch: int | None = None
        self._welcome: asyncio.Future[None] = loop.create_future()
        self._unsent_count = 0
        self._all_sent = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self, timeout_s: float) -> None:
        """Connect; the coordinator may still be starting.

        Raises:
            CoordinatorUnreachableError: It is not there within the time.
            AccessDeniedError: It does not accept our token.
            WrongCertificateError: It is another one than the token is for.
            IncompatibleVersionError: It is too old or too new.
        """
        self._running = asyncio.create_task(self._pump.run())
        self._running.add_done_callback(self._on_stopped)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait([self._welcome])
        except TimeoutError as error:
            cause = str(self._link.problem or f"no answer within {timeout_s:g} s")
            await self.close()
            raise CoordinatorUnreachableError(self._url, cause) from error
        if self._link.is_hopeless and self._epoch is None:
            await self.close()
            assert self._link.problem is not None, "hopeless because of a problem"
            raise self._link.problem

    async def close(self) -> None:
        """End the connection; who still waits gets a ClientClosedError, the jobs go on."""
        self._streams.close(self.cancel)
        await asyncio.sleep(0)  # The pump sends what this asks for.
        self._is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._link.close()
        self._abandon()

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

    # --- jobs ---

    def submit(self, prepared: Prepared, on_end: OnEnd) -> None:
        """Have a job kept and run; `on_end` is called once."""
        job_id = JobId(prepared.spec.job_id)
        if self._is_closed:
            on_end(ClientClosedError())
            return
        self._jobs[job_id] = watched = _Watched((on_end,), prepared=prepared)
        self._unsent_count += 1
        self._send_job(job_id, watched)

    def watch(self, job_id: JobId, on_end: OnEnd) -> None:
        """Call `on_end` once, with how the job ends or ended, whoever submitted it."""
        if self._is_closed:
            on_end(ClientClosedError())
        elif (watched := self._jobs.get(job_id)) is not None:
            watched.on_end += (on_end,)
        else:
            self._jobs[job_id] = _Watched((on_end,))
            self._pump.post(WatchAsked(job_id))

    def cancel(self, job_id: JobId, reason: str) -> None:
        """End a job."""
        watched = self._jobs.get(job_id)
        if self._is_closed:
            return
        if watched is not None and watched.upload is not None:
            watched.upload.cancel()
            self._end(job_id, Outcome(job_id=job_id, status="cancelled", attempt=0, reason=reason))
        else:
            self._pump.post(CancelAsked(job_id, reason))

    def feed(self, job_id: JobId, after: tuple[int, int] = (0, 0)) -> EventFeed:
        """Return a job's events behind (attempt, seq); give it back with `leave`.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._is_closed:
            raise ClientClosedError
        watched = self._jobs.setdefault(job_id, _Watched())

        async def pages(after: tuple[int, int]) -> list[JobEvent]:
            return await self.questions.page(job_id, after)

        # The core asks for each event once: who comes later reads the beginning by himself.
        feed = EventFeed(pages, is_behind=watched.has_events or after > (0, 0), after=after)
        watched.feeds += (feed,)
        if not watched.has_events:
            watched.has_events = True
            if watched.upload is None:
                self._pump.post(WatchAsked(job_id, events=True))
        return feed

    def leave(self, job_id: JobId, feed: EventFeed) -> None:
        """Nobody reads the feed any more."""
        watched = self._jobs.get(job_id)
        if watched is not None:
            watched.feeds = tuple(each for each in watched.feeds if each is not feed)

    async def kept(self, job_id: JobId) -> None:
        """Wait until the coordinator has a job that was submitted here, or will not have it."""
        watched = self._jobs.get(job_id)
        if watched is not None and watched.prepared is not None:
            watched.settled = watched.settled or asyncio.Event()
            await watched.settled.wait()

    # --- data ---

    @property
    def transfers(self) -> BlobTransfers:
        """What brings blobs here.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._is_closed:
            raise ClientClosedError
        return self._link.transfers

    @property
    def files(self) -> SameHostFiles:
        """What brings them as files, if the coordinator is on this machine."""
        return self._link.files

    # --- streams ---

    def open_stream(self, feed: StreamFeed) -> None:
        """Take a stream whose job is about to be submitted."""
        self._streams.add(feed)

    def close_stream(self, stream_id: str) -> None:
        """Forget a stream that has ended."""
        self._streams.remove(stream_id)

    def send_frame(self, stream_id: str, buffers: Sequence[BytesLike]) -> None:
        """Send a frame of a stream in its turn; nothing happens without a connection."""
        if self._link.is_open:
            self._link.streams.put(stream_id, buffers)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do something beside; it is cancelled when the shell is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- sending jobs ---

    def _send_job(self, job_id: JobId, watched: _Watched) -> None:
        assert watched.prepared is not None, "only what was submitted here is sent"
        missing = [each for each in watched.prepared.blobs if each.id not in self._stored]
        if missing:
            watched.upload = self.spawn(self._upload(job_id, watched, missing))
        else:
            self._pump.post(SubmitAsked(watched.prepared.spec))
            if watched.has_events:
                self._pump.post(WatchAsked(job_id, events=True))

    async def _upload(self, job_id: JobId, watched: _Watched, blobs: list[Blob]) -> None:
        try:
            await asyncio.gather(*map(self._upload_one, blobs))
        except LineshaftError as error:
            watched.upload = None
            self._end(job_id, error)
            return
        watched.upload = None
        assert watched.prepared is not None, "kept until the job is accepted"
        self._pump.post(SubmitAsked(watched.prepared.spec))
        if watched.has_events:
            self._pump.post(WatchAsked(job_id, events=True))

    async def _upload_one(self, blob: Blob) -> None:
        await store(blob, self._link.transfers, self._link.files)
        if blob.is_code:
            self._remember(blob.id)

    def _remember(self, blob_id: BlobId) -> None:
        if len(self._stored) >= STORED_MAX:
            self._stored.clear()
        self._stored[blob_id] = None

    def _on_refused(self, job_id: JobId, code: str, message: str) -> None:
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

    def _on_accepted(self, job_id: JobId) -> None:
        watched = self._jobs.get(job_id)
        if watched is not None and watched.prepared is not None:
            self._count_sent(watched)
        self._streams.accepted(job_id)

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

    def _count_sent(self, watched: _Watched) -> None:
        watched.prepared = None
        if watched.settled is not None:
            watched.settled.set()
        self._unsent_count -= 1
        if not self._unsent_count:
            self._all_sent.set()

    # --- what the core wants ---

    async def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(session=session, message=message):
                    self._link.send(session, message)
                case JobFinished(outcome=outcome):
                    self._end(JobId(outcome.job_id), outcome)
                case JobAccepted(job_id=job_id):
                    self._on_accepted(job_id)
                case JobSpoke(job_id=job_id):
                    if watched := self._jobs.get(job_id):
                        for feed in watched.feeds:
                            feed.spoke(effect.events, is_behind=effect.is_behind)
                case JobMoved(change=change):
                    if watched := self._jobs.get(JobId(change.job_id)):
                        for feed in watched.feeds:
                            feed.moved(change)
                case JobRefused(job_id=job_id, code=code, message=text):
                    self._on_refused(job_id, code, text)
                case Answered():
                    self.questions.answered(effect)
                case Welcomed(epoch=epoch):
                    self._on_welcomed(epoch)
                case Connect():
                    self._link.dial()
                case Close(session=session, reason=reason):
                    self._link.end(session, reason)
        self._link.flush()

    def _on_welcomed(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._stored.clear()
        self._epoch = epoch
        self._link.welcomed()
        self._streams.attach_all()
        if not self._welcome.done():
            self._welcome.set_result(None)
        logger.info("connected", extra={"url": self._url, "epoch": epoch})

    def _on_gone(self, session: Session | None, reason: str) -> None:
        self._pump.post(Disconnected(session, reason))
        if self._link.is_hopeless and not self._welcome.done():
            self._welcome.set_result(None)

    def _on_stopped(self, running: asyncio.Task[None]) -> None:
        """We closed it, or there is a bug of ours, which must leave nobody waiting."""
        if running.cancelled():
            return
        logger.error("the client stopped working", exc_info=running.exception())
        self._is_closed = True
        self._abandon()

    def _abandon(self) -> None:
        if not self._welcome.done():
            self._welcome.set_result(None)
        for job_id in tuple(self._jobs):
            self._end(job_id, ClientClosedError(job_id))
        self.questions.close()
        self._link.transfers.abandon(ClientClosedError())
