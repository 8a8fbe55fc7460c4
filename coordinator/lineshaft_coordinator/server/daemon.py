"""The coordinator process: a store, sockets and files around a CoordinatorCore."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from lineshaft_coordinator.core.io import (
    PROTOCOL_FAULT,
    Append,
    AppendEvents,
    CancelAsked,
    Close,
    Disconnected,
    Effect,
    Event,
    Found,
    Lookup,
    Received,
    Replay,
    Send,
    StopPlacing,
    Tick,
)
from lineshaft_coordinator.core.ledger import Leased, Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.handover import Porch
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.data.secrets import SecretBox, SecretsDamagedError
from lineshaft_coordinator.data.stream_relay import StreamRelay
from lineshaft_coordinator.data.transfers import Transfers
from lineshaft_coordinator.feeds.hub import Hub
from lineshaft_coordinator.feeds.job_source import JobSource
from lineshaft_coordinator.journal import UNREADABLE, read_record
from lineshaft_coordinator.metrics.meter import Meter
from lineshaft_coordinator.server.attendance import Attendance
from lineshaft_coordinator.server.disk_room import DiskRoom
from lineshaft_coordinator.server.facts import Facts, without_result
from lineshaft_coordinator.server.families import Known
from lineshaft_coordinator.server.outgoing import Outgoing
from lineshaft_coordinator.server.questions import Questions
from lineshaft_coordinator.server.referring import Referring
from lineshaft_coordinator.server.replies import Replies
from lineshaft_coordinator.server.retrying import Retries
from lineshaft_coordinator.server.sessions import Outlet, Sessions
from lineshaft_coordinator.store.interface import Store
from lineshaft_protocol.client_messages import (
    Answer,
    Cancel,
    KeepSecret,
    Query,
    Refused,
    Retry,
    Submit,
)
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import BlobId, JobId, Session
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import (
    Assign,
    ChildFinished,
    Ended,
    Registered,
    SpawnChild,
)
from lineshaft_runtime.pump import Pump

logger = logging.getLogger(__name__)

Tap: TypeAlias = Callable[[Sequence[Effect]], None]
"""Hears what was committed, and all else but Sends. Must not block or raise, nor do much."""


class Daemon:
    """Runs one core on one store; sessions come and go.

    Args:
        store: Opened already.
        epoch: What opening it returned.
        blobs: Where payloads, results and code lie.
        secrets: What jobs may have in their environment.
        porch: Where peers of this machine lay blobs down; None if all go over connections.
        mover: To and from the object store; None if there is none.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        secrets: SecretBox,
        *,
        epoch: int,
        settings: CoreSettings,
        porch: Porch | None = None,
        mover: ObjectMover | None = None,
    ) -> None:
        self._porch, self._mover = porch, mover
        self._store, self._blobs, self._secrets = store, blobs, secrets
        self.room = DiskRoom()
        started = time.monotonic()
        ledger = Ledger.replay(map(read_record, store.live_records()))
        self._facts = Facts(ledger.jobs)
        self.meter = Meter.of_jobs(ledger.jobs.items())
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self.core = CoordinatorCore(settings, ledger=ledger, epoch=epoch, now=now)
        self._attendance = Attendance(self.core.shop.fleet.by_session, self._loop.call_later)
        self._referring = Referring(blobs, lambda: self.core.shop.now)
        self._pump: Pump[Event, Effect] = Pump(self.core, self._perform, tick=Tick())
        self.streams = StreamRelay(self)
        self.sessions = Sessions(self, self._make_transfers, self.streams)
        self.questions = Questions(self.core.shop, store, secrets, mover)
        self.job_source = JobSource(self.sessions, store)
        self.feeds = Hub(self.job_source)
        self.taps: list[Tap] = [self.questions.history.kept]
        """Told of each batch once it is on disk, before anybody else hears of it."""
        self.retries = Retries(self.questions.families, self.sessions, self.submit)
        self._replies = Replies(self.questions, self.retries, secrets)
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken = asyncio.Event()
        self._failure: BaseException | None = None
        took_s = round(time.monotonic() - started, 3)
        fields = {"epoch": epoch, "live_jobs": len(ledger.jobs), "seconds": took_s}
        logger.info("journal replayed", extra=fields)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            StoreError: The store failed: nothing is promised any more.
        """
        pump = asyncio.create_task(self._pump.run())
        broken = asyncio.create_task(self._broken.wait())
        try:
            await asyncio.wait((pump, broken), return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            if pump.done():
                pump.result()
        finally:
            pump.cancel()
            broken.cancel()
            self.streams.close()
            await asyncio.gather(pump, broken, return_exceptions=True)

    @property
    def store(self) -> Store:
        """The durable state, for reading."""
        return self._store

    @property
    def shop(self) -> Shop:
        """The core's state, for reading."""
        return self.core.shop

    def stop_placing(self) -> None:
        """Start nothing more; what runs goes on without us."""
        self._pump.post(StopPlacing())

    # --- what sessions need ---

    def post(self, event: Event, *, is_urgent: bool = False) -> None:
        """Give the core an event; an urgent one overtakes those that are not."""
        self._pump.post(event, is_urgent=is_urgent)
        if type(event) is Disconnected:
            self._attendance.left(event.session)

    def cancel(self, cancel: Cancel) -> None:
        """Ask for the end of a job, on nobody's behalf in particular."""
        self._pump.post(CancelAsked(JobId(cancel.job_id), cancel.reason))

    def is_leased(self, session: Session, job_id: str, attempt: int) -> bool:
        """Whether the worker of this session has this attempt."""
        worker = self.core.shop.fleet.by_session.get(session)
        job = self.core.shop.ledger.jobs.get(JobId(job_id))
        match job.state if job is not None and worker is not None else None:
            case Leased(attempt=leased, worker_id=worker_id):
                return worker is not None and (leased, worker_id) == (attempt, worker.worker_id)
            case _:
                return False

    def is_live_stream(self, job_id: str) -> bool:
        """Whether there is a job of kind ``stream`` that has not ended."""
        job = self.core.shop.ledger.jobs.get(JobId(job_id))
        return job is not None and job.spec.kind == "stream"

    def abandon(self, job_id: str, reason: str) -> None:
        """Cancel a job that nobody waits for."""
        self._pump.post(CancelAsked(JobId(job_id), reason))

    def blob_file(self, blob_id: str) -> Path | None:
        """Where a blob lies, brought here first if need be; None if it is gone.

        Blocks: never called in the thread of the loop.

        Raises:
            BlobElsewhereError: It is in the object store and cannot be had now.
        """
        try:
            if self._mover is not None and self._mover.is_away(blob_id):
                # By the loop: a store that hangs would hold one more thread for ever.
                bringing = self._mover.bring(blob_id)
                asyncio.run_coroutine_threadsafe(bringing, self._loop).result()
            return self._blobs.open(BlobId(blob_id)).path
        except BlobElsewhereError:
            raise
        except BlobError:
            return None

    def waiting(self) -> int:
        """How many events the core has not seen yet."""
        return self._pump.waiting

    def ask(self, session: Session, query: Query, asker: str | None) -> None:
        """Answer a question of who has the token of this id, some time."""
        if self._has_introduced_itself(session):
            self._spawn(self._reply(session, self._replies.to_query(query, asker)))

    def _has_introduced_itself(self, session: Session) -> bool:
        client = self.core.shop.clients.get(session)
        if client is not None and client.client_id is None and not self._pump.waiting:
            self.sessions.close(session, PROTOCOL_FAULT, "the first message must be ClientHello")
            return False
        return True

    def keep_secret(self, session: Session, message: KeepSecret) -> None:
        """Keep or forget a secret, some time."""
        if self._has_introduced_itself(session):
            self._spawn(self._reply(session, self._replies.to_secret(message)))

    def retry(self, session: Session, message: Retry, owner: str | None) -> None:
        """Do an ended job again, for the token of this id, some time."""
        if self._has_introduced_itself(session):
            client = self.core.shop.clients.get(session)
            client_id = (client.client_id if client is not None else None) or "unnamed"
            self._spawn(self._reply(session, self._replies.to_retry(message, client_id, owner)))

    async def _reply(self, session: Session, answering: Awaitable[Answer]) -> None:
        self.sessions.send(session, [await answering])

    def _with_secrets(self, message: Wire) -> Wire:
        """Add what neither the core nor the journal may know, or need to."""
        if isinstance(message, Registered) and self._mover is not None:
            return message.model_copy(update={"blob_store": self._mover.notice})
        if not isinstance(message, Assign) or not message.job.secrets:
            return message
        try:
            values = self._secrets.values(message.job.secrets)
        except LineshaftError as error:
            # The worker fails the attempt for want of it.
            logger.error("a secret cannot be read", extra={"why": str(error)})  # noqa: TRY400 - no bug
            return message
        return message.model_copy(update={"secrets": values})

    def submit(self, session: Session, submit: Submit) -> None:
        """Give the core a job whose blobs are here; a job that was accepted before needs none."""
        job = submit.job
        text = self._secret_missing(job) if job.secrets else None
        if text is not None and not submit.is_repeat:
            refused = Refused(job_id=job.job_id, code="invalid", message=text)
            self.sessions.send(session, [refused])
            return
        missing = self._referring.missing(job)
        may_be_known = submit.is_repeat or not submit.is_fresh
        if missing is None or (may_be_known and self._is_at_hand(JobId(job.job_id))):
            self._pump.post(Received(session, submit))
        elif may_be_known:
            self._spawn(self._submit_again(session, submit, missing))
        else:
            self._refuse(session, submit, missing)

    def _secret_missing(self, job: JobSpec) -> str | None:
        try:
            gone = self._secrets.missing(job.secrets)
        except SecretsDamagedError as error:
            return str(error)
        if gone is None:
            return None
        return f"no secret {gone} is kept; 'lineshaft secret set {gone}' keeps one"

    def told_by_worker(self, session: Session, message: Ended | SpawnChild) -> None:
        """Give the core an end or a child, with what it names looked for as for a client's job."""
        match message:
            case Ended(result=result):
                value = result.result
                blob = value.blob if value is not None else None
                if blob and result.status == "succeeded" and not self._blobs.refer(blob):
                    message = without_result(message, blob)
            case SpawnChild(job=job, is_repeat=is_repeat):
                missing = self._referring.missing(job)
                if (
                    missing is not None
                    and not is_repeat
                    and not self._is_at_hand(JobId(job.job_id))
                ):
                    text = f"blob {missing}, which this part of a plan needs, is not stored here"
                    failure = Failure(cause="blob_missing", message=text)
                    outcome = Outcome(
                        job_id=job.job_id, status="failed", attempt=0, failure=failure
                    )
                    self.sessions.send(session, [ChildFinished(outcome=outcome)])
                    return
        self._pump.post(Received(session, message), is_urgent=True)

    def _is_at_hand(self, job_id: JobId) -> bool:
        ledger = self.core.shop.ledger
        return job_id in ledger.jobs or job_id in ledger.recent

    async def _submit_again(self, session: Session, submit: Submit, missing: str) -> None:
        # Its blob may have been collected since it was accepted: the journal is asked first.
        job_id = JobId(submit.job.job_id)
        row = await self.room.wait_for(partial(self._store.row_of, job_id))
        if row is not None or self._is_at_hand(job_id):
            self._pump.post(Received(session, submit))
        else:
            self._refuse(session, submit, missing)

    def _refuse(self, session: Session, submit: Submit, missing: str) -> None:
        text = f"blob {missing} is not stored here; upload it first"
        refused = Refused(job_id=submit.job.job_id, code="blob_missing", message=text)
        self.sessions.send(session, [refused])

    def _make_transfers(self, outlet: Outlet) -> Transfers:
        return Transfers(self._blobs, outlet, self._porch, self._mover)

    # --- what the core wants ---

    async def _perform(self, effects: list[Effect]) -> None:
        others = [effect for effect in effects if type(effect) is not Send]
        batch = self._facts.batch(others, time.time())
        if batch is not None:
            started = time.monotonic()
            # All or nothing: while there is no room, nobody hears anything of it.
            await self.room.wait_for(partial(self._store.append, batch))
            now = time.monotonic()
            self.meter.commits.observe(now - started)
            self.meter.on_commit(others, now)
            for tap in self.taps:
                tap(others)
        outgoing = Outgoing(self._with_secrets)
        for effect in effects:
            if type(effect) is Send:
                outgoing.add(effect.session, effect.message)
                if type(effect.message) is Registered:
                    host = self.sessions.host_of(effect.session)
                    self._attendance.joined(effect.session, host)
                continue
            match effect:
                case Send() | Append() | AppendEvents():
                    pass
                case Close(session=session, code=code, reason=reason):
                    self.sessions.send(session, outgoing.take(session))
                    self.sessions.close(session, code, reason)
                    logger.info("session ended", extra={"session": session, "why": reason})
                case Lookup(job_id=job_id):
                    self._spawn(self._look_up(job_id))
                case Replay():
                    after = effect.after_attempt, effect.after_seq
                    read = partial(self.questions.history.replay, effect.job_id, after)
                    kept = await self.room.wait_for(read)
                    outgoing.extend(effect.session, kept)
        for session, messages in outgoing.by_session.items():
            self.sessions.send(session, messages)
            if session in outgoing.with_work:
                self.meter.dispatches.observe(self._loop.time() - self.core.shop.now)

    async def _look_up(self, job_id: JobId) -> None:
        known: Known | None = None
        problem: str | None = None
        try:
            known = await self.room.wait_for(partial(self.questions.families.known, job_id))
        except UNREADABLE as error:
            problem = str(error)
            logger.warning("a job cannot be looked up", extra={"job_id": job_id, "why": problem})
        if known is None:
            self.post(Found(job_id, None, None, problem))
        else:
            self.post(Found(job_id, known.spec, known.outcome))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours, or a store that failed: end; the next start replays the journal.
            self._failure = error
            self._broken.set()
