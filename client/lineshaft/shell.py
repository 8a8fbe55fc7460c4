"""The client's shell: runs the core, moves blobs, and tells those who wait."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence

from lineshaft.core.io import (
    Answered,
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
    Tick,
    Welcomed,
)
from lineshaft.core.machine import ClientCore, CoreSettings
from lineshaft.errors import (
    ClientClosedError,
    CoordinatorUnreachableError,
)
from lineshaft.job_desk import JobDesk
from lineshaft.link import Link, LinkEvents
from lineshaft.questions import Questions
from lineshaft.shipping import PYTHON, Blob
from lineshaft.storing import store
from lineshaft.streams import Streams
from lineshaft_protocol.ids import ClientId, Session
from lineshaft_protocol.version import __version__
from lineshaft_protocol.versions import Versions
from lineshaft_runtime.locating import Whereabouts
from lineshaft_runtime.packing import BytesLike
from lineshaft_runtime.same_host import SameHostFiles
from lineshaft_runtime.stream_feed import StreamFeed
from lineshaft_runtime.transfers import BlobTransfers
from lineshaft_runtime.turns import Turns

logger = logging.getLogger(__name__)


class Shell:
    """One client's side of the coordinator. All of it belongs to the loop it was made on."""

    def __init__(
        self, where: Whereabouts, *, client_id: ClientId, settings: CoreSettings, rng: random.Random
    ) -> None:
        loop = asyncio.get_running_loop()
        versions = Versions(lineshaft=__version__, python=PYTHON)
        core = ClientCore(settings, client_id=client_id, versions=versions, now=loop.time())
        self._turns: Turns[Event, Effect] = Turns(core, self._perform, tick=Tick())
        self.where = where
        """Where the coordinator is."""
        self._url = where.url
        self._streams = Streams()
        events = LinkEvents(
            on_open=lambda session: self._turns.post(Connected(session)),
            on_gone=self._on_gone,
            on_message=lambda session, message: self._turns.put(Received(session, message)),
            on_all=self._turns.turn,
            on_stream=self._streams.on_frame,
        )
        self._link = Link(where, events, rng)
        self.questions = Questions(self._turns.post)
        self.jobs = JobDesk(self._turns.post, self.questions, spawn=self.spawn, store=self._store)
        self._epoch: int | None = None
        self._welcome: asyncio.Future[None] = loop.create_future()
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
        self._running = asyncio.create_task(self._turns.run())
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
        self._streams.close(self.jobs.cancel)
        self._turns.turn()  # Sends what this asks for.
        self._is_closed = True
        self.jobs.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._link.close()
        self._abandon()

    def together(self, work: Callable[[], None]) -> None:
        """Do something that asks for much at once; what it asks for leaves together."""
        self._turns.together(work)

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

    async def _store(self, blob: Blob) -> None:
        await store(blob, self._link.transfers, self._link.files)

    # --- what the core wants ---

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(session=session, message=message):
                    self._link.send(session, message)
                case JobFinished(outcome=outcome):
                    self.jobs.finished(outcome)
                case JobAccepted(job_id=job_id):
                    self.jobs.accepted(job_id)
                    self._streams.accepted(job_id)
                case JobSpoke():
                    self.jobs.spoke(effect)
                case JobMoved():
                    self.jobs.moved(effect)
                case JobRefused(job_id=job_id, code=code, message=text):
                    self.jobs.refused(job_id, code, text)
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
            self.jobs.forget_stored()
        self._epoch = epoch
        self._link.welcomed()
        self._streams.attach_all()
        if not self._welcome.done():
            self._welcome.set_result(None)
        logger.info("connected", extra={"url": self._url, "epoch": epoch})

    def _on_gone(self, session: Session | None, reason: str) -> None:
        self._turns.post(Disconnected(session, reason))
        if self._link.is_hopeless and not self._welcome.done():
            self._welcome.set_result(None)

    def _on_stopped(self, running: asyncio.Task[None]) -> None:
        """We closed it, or there is a bug of ours, which must leave nobody waiting."""
        if running.cancelled():
            return
        logger.error("the client stopped working", exc_info=running.exception())
        self._is_closed = True
        self.jobs.close()
        self._abandon()

    def _abandon(self) -> None:
        if not self._welcome.done():
            self._welcome.set_result(None)
        self.jobs.abandon()
        self.questions.close()
        self._link.transfers.abandon(ClientClosedError())
