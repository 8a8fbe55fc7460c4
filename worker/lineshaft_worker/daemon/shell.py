"""The worker daemon: one connection, one execution layer, one core between them."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

from lineshaft_protocol.blob_messages import BlobAck, BlobMissing, BlobRefused, BlobStatus
from lineshaft_protocol.codec import TO_WORKER, Codec
from lineshaft_protocol.errors import LineshaftError, ProtocolError
from lineshaft_protocol.frames import decode_chunk
from lineshaft_protocol.ids import BlobId, JobId, Session
from lineshaft_protocol.jobs import INLINE_BYTES_MAX, Payload
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign
from lineshaft_runtime.connection import Connection
from lineshaft_runtime.pump import Pump
from lineshaft_runtime.transfers import BlobTransfers
from lineshaft_worker.core import io
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.core.machine import Identity, WorkerCore
from lineshaft_worker.core.settings import CoreSettings
from lineshaft_worker.daemon.assigns import Assigns
from lineshaft_worker.daemon.cache import BlobCache
from lineshaft_worker.daemon.machine_room import MachineRoom
from lineshaft_worker.daemon.translation import (
    child_failure,
    child_spec,
    events_of,
    order_of,
    request_of,
    result_of,
)
from lineshaft_worker.execution import reports
from lineshaft_worker.execution.orders import AttemptKey as OrderKey
from lineshaft_worker.execution.pool import Execution

logger = logging.getLogger(__name__)

Dial = Callable[["Link"], Coroutine[None, None, Connection]]


class WorkerShell:
    """Carries out what the core wants, and tells it what happens.

    Args:
        dial: Opens a connection to the coordinator with this listener.
        state: Folder of runners and blobs; kept between the daemon's lives.
        grace_s: Between SIGTERM and SIGKILL when an attempt is ended, in seconds.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        room: MachineRoom,
        dial: Dial,
        state: Path,
        cache_bytes_max: int,
        grace_s: float,
    ) -> None:
        self._identity, self._room, self._dial = identity, room, dial
        self._grace_s = grace_s
        self._cache = BlobCache(state / "blobs", bytes_max=cache_bytes_max)
        self._assigns = Assigns(state / "assigns")
        self._execution = Execution(state / "execution", report=self._on_report)
        self._links: dict[Session, Connection] = {}
        self._session_count = 0
        self._dialing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[AttemptKey, tuple[BlobId, ...]] = {}
        self._result_files: dict[AttemptKey, reports.ResultFile] = {}
        self._transfers = BlobTransfers(self._send_now, self._send_binary, self._is_writable)
        self._left = asyncio.Event()
        self._pump: Pump[io.Event, io.Effect] | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop and everything is finished or handed back.

        Raises:
            OSError: The state folder cannot be used.
            LineshaftError: Likewise.
        """
        adopted = await self._execution.open()
        loop = asyncio.get_running_loop()
        core = WorkerCore(
            CoreSettings(),
            identity=self._identity,
            capacity=self._room.offer.capacity,
            now=loop.time(),
            adopted=tuple(
                (self._assigns.read(AttemptKey(JobId(key.job_id), key.attempt)), lane)
                for key, lane, _ in adopted
            ),
        )
        if adopted:
            logger.info("took over what runs already", extra={"attempts": len(adopted)})
        self._pump = Pump(core, self._perform, tick=io.Tick())
        self._execution.prepare(0)
        work = [
            asyncio.create_task(self._pump.run(), name="pump"),
            asyncio.create_task(self._watch_machine(), name="machine"),
            asyncio.create_task(self._leave_when(stopping), name="leave"),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._end(work)

    async def _leave_when(self, stopping: asyncio.Event) -> None:
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self._left.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self._left.is_set():
                self._post(io.DrainAsked())
                await self._left.wait()
        finally:
            for wait in waits:
                wait.cancel()

    async def _end(self, work: list[asyncio.Task[None]]) -> None:
        for task in (*work, *self._tasks, *((self._dialing,) if self._dialing else ())):
            task.cancel()
        await asyncio.gather(*work, *self._tasks, return_exceptions=True)
        for connection in tuple(self._links.values()):
            connection.close(1001, "the worker stops")
        await self._execution.close(keep_running=True)
        self._room.close()

    async def _watch_machine(self) -> None:
        while True:
            load, capacity = await self._room.sample()
            self._post(io.LoadSampled(load, capacity))
            await asyncio.sleep(5.0)

    def _post(self, event: io.Event) -> None:
        assert self._pump is not None, "nothing happens before run"
        self._pump.post(event)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what the core wants ---

    async def _perform(self, effects: list[io.Effect]) -> None:
        outgoing: dict[Session, list[Wire]] = {}
        for effect in effects:
            match effect:
                case io.Send(session=session, message=message):
                    outgoing.setdefault(session, []).append(message)
                case io.StartAttempt(key=key, assign=assign, lane=lane):
                    self._start(key, assign, lane)
                case io.ForgetAttempt(key=key):
                    self._forget(key)
                case io.StopAttempt(key=key):
                    self._execution.stop(_order_key(key), self._grace_s)
                case io.RevokeAttempt(key=key):
                    self._execution.revoke(_order_key(key))
                case io.FetchBlobs(key=key, blob_ids=blob_ids):
                    self._fetch(key, blob_ids)
                case io.StoreResult(key=key):
                    self._spawn(self._store_result(key))
                case io.AnswerChild(key=key, outcome=outcome):
                    self._spawn(self._answer_child(key, outcome))
                case io.Connect():
                    self._connect()
                case io.Close(session=session, reason=reason):
                    logger.warning("connection given up", extra={"why": reason})
                    if (connection := self._links.pop(session, None)) is not None:
                        connection.close(1001, reason)
                case io.Leave():
                    self._left.set()
        for session, messages in outgoing.items():
            if (connection := self._links.get(session)) is not None:
                for frame in Codec.encode_batches(map(Codec.encode, messages)):
                    connection.send_text(frame)

    def _start(self, key: AttemptKey, assign: Assign, lane: int) -> None:
        try:
            order = order_of(assign, self._cache)
        except (OSError, KeyError) as error:
            failure = Failure(cause="blob_missing", message=f"its payload is gone here: {error}")
            result = AttemptResult(
                job_id=key.job_id, attempt=key.attempt, status="failed", failure=failure
            )
            self._post(io.AttemptEnded(key, result))
            return
        if assign.job.kind != "function" or assign.job.resources is not None:
            self._assigns.write(key, assign)
        self._execution.start(order, lane)

    def _forget(self, key: AttemptKey) -> None:
        self._execution.settled(_order_key(key))
        self._assigns.remove(key)
        self._result_files.pop(key, None)
        for blob_id in self._held.pop(key, ()):
            for gone in self._cache.release(blob_id):
                self._post(io.BlobGone(gone))

    # --- blobs ---

    def _fetch(self, key: AttemptKey, blob_ids: tuple[BlobId, ...]) -> None:
        self._held.setdefault(key, ())
        for blob_id in blob_ids:
            if blob_id not in self._held[key]:
                self._held[key] += (blob_id,)
                self._cache.hold(blob_id)
        missing = [blob_id for blob_id in blob_ids if blob_id not in self._cache]
        if missing:
            self._spawn(self._fetch_missing(key, missing))
        else:
            self._post(io.BlobsArrived(key))

    async def _fetch_missing(self, key: AttemptKey, missing: list[BlobId]) -> None:
        try:
            for blob_id in missing:
                await self._download(blob_id)
        except (LineshaftError, OSError) as error:
            self._post(io.BlobsFailed(key, f"its payload cannot be had: {error}"))
        else:
            self._post(io.BlobsArrived(key))

    async def _download(self, blob_id: BlobId) -> None:
        if blob_id in self._cache:
            return
        draft = self._cache.draft(blob_id).with_suffix(f".{id(object())}.part")
        try:
            with draft.open("wb", buffering=0) as file:

                def take(offset: int, data: bytes | memoryview) -> None:
                    file.seek(offset)
                    file.write(data)

                await self._transfers.download(blob_id, take)
            if blob_id not in self._cache:
                draft.replace(self._cache.draft(blob_id))
                self._cache.keep(blob_id)
        finally:
            draft.unlink(missing_ok=True)

    async def _store_result(self, key: AttemptKey) -> None:
        file = self._result_files.get(key)
        if file is None:
            return
        try:
            await self._upload(file.path, BlobId(file.sha256), file.size_bytes)
        except (LineshaftError, OSError) as error:
            self._post(io.ResultRefused(key, f"its result cannot be stored: {error}"))
        else:
            payload = Payload(blob=file.sha256, size_bytes=file.size_bytes)
            self._post(io.ResultStored(key, payload))

    async def _upload(self, path: Path, blob_id: BlobId, size_bytes: int) -> None:
        with path.open("rb", buffering=0) as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            await self._transfers.upload(blob_id, size_bytes, read)

    # --- what attempts do ---

    def _on_report(self, report: reports.Report) -> None:
        key = AttemptKey(JobId(report.key.job_id), report.key.attempt)
        match report:
            case reports.AttemptEnded():
                result, file = result_of(report)
                if file is not None:
                    self._result_files[key] = file
                if not report.processes_gone:
                    logger.error("processes of an attempt cannot be ended", extra={"key": key})
                self._post(io.AttemptEnded(key, result, must_store=file is not None))
            case reports.AttemptEvents():
                self._post(io.AttemptSpoke(key, events_of(report)))
            case reports.AttemptBegan():
                self._post(io.AttemptBegan(key))
            case reports.AttemptReturned():
                self._post(io.AttemptReturned(key))
            case reports.ChildRequested():
                self._spawn(self._ask_child(key, report))

    async def _ask_child(self, key: AttemptKey, asked: reports.ChildRequested) -> None:
        data = asked.payload
        if isinstance(data, Path) and data.stat().st_size <= INLINE_BYTES_MAX:
            data = data.read_bytes()
        try:
            if isinstance(data, bytes) and len(data) <= INLINE_BYTES_MAX:
                payload = Payload.of_bytes(data)
            elif isinstance(data, Path):
                digest = await asyncio.to_thread(_digest_of, data)
                await self._upload(data, digest, data.stat().st_size)
                payload = Payload(blob=digest, size_bytes=data.stat().st_size)
            else:
                blob_id = BlobId(hashlib.sha256(data).hexdigest())
                view = memoryview(data)
                await self._transfers.upload(
                    blob_id, len(data), lambda offset, length: view[offset : offset + length]
                )
                payload = Payload(blob=blob_id, size_bytes=len(data))
        except (LineshaftError, OSError) as error:
            failure = reports.Failure(
                cause="exception", type_name="OSError", message=f"cannot send the node: {error}"
            )
            self._execution.answer_child(_order_key(key), asked.request, failure)
            return
        parent = self._assigns.known(key)
        self._post(io.ChildAsked(key, child_spec(asked, payload, parent)))

    async def _answer_child(self, key: AttemptKey, outcome: Outcome) -> None:
        request = request_of(key, outcome.job_id)
        if request is None:
            return
        answer: bytes | Path | reports.Failure
        if outcome.status != "succeeded" or outcome.result is None:
            answer = child_failure(outcome)
        elif outcome.result.blob is None:
            answer = outcome.result.inline_bytes()
        else:
            blob_id = BlobId(outcome.result.blob)
            self._held[key] = (*self._held.get(key, ()), blob_id)
            self._cache.hold(blob_id)
            try:
                await self._download(blob_id)
                answer = self._cache.path(blob_id)
            except (LineshaftError, OSError) as error:
                answer = reports.Failure(
                    cause="exception", type_name="OSError", message=f"result lost: {error}"
                )
        self._execution.answer_child(_order_key(key), request, answer)

    # --- the connection ---

    def _connect(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
        self._dialing = asyncio.create_task(self._dial_once())

    async def _dial_once(self) -> None:
        self._session_count += 1
        session = Session(self._session_count)
        try:
            await self._dial(Link(self, session))
        except LineshaftError as error:
            logger.warning("cannot connect", extra={"why": str(error)})
            self._post(io.Disconnected(None))

    def opened(self, session: Session, connection: Connection) -> None:
        """A connection is open."""
        self._links[session] = connection
        self._transfers.on_connected()
        self._post(io.Connected(session))

    def closed(self, session: Session, code: int | None, reason: str) -> None:
        """A connection is gone."""
        if self._links.pop(session, None) is not None and not self._links:
            self._transfers.on_disconnected()
        logger.info("disconnected", extra={"code": code, "why": reason})
        self._post(io.Disconnected(session))

    def text(self, session: Session, connection: Connection, data: bytes) -> None:
        """A frame of control messages arrived."""
        try:
            messages = TO_WORKER.decode(data)
        except ProtocolError as error:
            logger.warning("the coordinator broke the protocol", extra={"why": error.reason})
            connection.close(1002, error.reason[:100])
            return
        for message in messages:
            if isinstance(message, BlobStatus | BlobAck | BlobRefused | BlobMissing):
                self._transfers.on_message(message)
            else:
                self._post(io.Received(session, message))

    def binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """A frame of bulk data arrived."""
        try:
            self._transfers.on_chunk(decode_chunk(data))
        except ProtocolError as error:
            connection.close(1002, error.reason[:100])

    def writable(self) -> None:
        """The coordinator caught up."""
        self._transfers.on_writable()

    @property
    def _current(self) -> Connection | None:
        return self._links[max(self._links)] if self._links else None

    def _send_now(self, message: Wire) -> None:
        if (connection := self._current) is not None:
            connection.send_text(Codec.encode(message))

    def _send_binary(self, buffers: list[bytes | memoryview]) -> None:
        if (connection := self._current) is not None:
            connection.send_binary(buffers)

    def _is_writable(self) -> bool:
        connection = self._current
        return connection is not None and connection.is_writable


class Link:
    """Hears one connection to the coordinator."""

    def __init__(self, shell: WorkerShell, session: Session) -> None:
        self._shell, self._session = shell, session

    def on_open(self, connection: Connection) -> None:
        """The handshake is done."""
        self._shell.opened(self._session, connection)

    def on_text(self, connection: Connection, data: bytes) -> None:
        """Control messages."""
        self._shell.text(self._session, connection, data)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """Bulk data."""
        self._shell.binary(connection, data)

    def on_writable(self, connection: Connection) -> None:
        """There is room to send again."""
        del connection
        self._shell.writable()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """The connection is gone."""
        del connection
        with contextlib.suppress(AssertionError):
            self._shell.closed(self._session, code, reason)


def _order_key(key: AttemptKey) -> OrderKey:
    return OrderKey(key.job_id, key.attempt)


def _digest_of(path: Path) -> BlobId:
    with path.open("rb") as file:
        return BlobId(hashlib.file_digest(file, "sha256").hexdigest())
