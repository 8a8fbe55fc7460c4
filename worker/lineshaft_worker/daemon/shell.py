"""The worker daemon: one connection, one execution layer, one core between them."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import BlobId, JobId, Session
from lineshaft_protocol.outcomes import AttemptResult, Failure
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign, EventsAck, PauseMode
from lineshaft_runtime.turns import Turns
from lineshaft_worker.core import io
from lineshaft_worker.core.identity import Identity
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.core.machine import WorkerCore
from lineshaft_worker.core.settings import CoreSettings
from lineshaft_worker.daemon.assigns import Assigns
from lineshaft_worker.daemon.broken import BrokenDaemonError
from lineshaft_worker.daemon.cache import BlobCache
from lineshaft_worker.daemon.children import Children
from lineshaft_worker.daemon.departure import Departure
from lineshaft_worker.daemon.device_desk import DeviceDesk
from lineshaft_worker.daemon.keeper import Keeper, said_not_kept
from lineshaft_worker.daemon.machine_room import MachineRoom
from lineshaft_worker.daemon.preparing import Preparing
from lineshaft_worker.daemon.stream_pipes import StreamPipes
from lineshaft_worker.daemon.supply import Supply
from lineshaft_worker.daemon.translation import (
    SecretGoneError,
    events_of,
    order_key,
    order_of,
    result_of,
)
from lineshaft_worker.daemon.uplink import Dial, Uplink
from lineshaft_worker.environments.provision import Environments
from lineshaft_worker.execution import reports
from lineshaft_worker.execution.leases import LeasePage
from lineshaft_worker.execution.pool import Execution

logger = logging.getLogger(__name__)


class WorkerShell:
    """Carries out what the core wants, and tells it what happens.

    Args:
        dial: Opens a connection to the coordinator with this listener.
        state: Folder of runners and blobs; kept between the daemon's lives.
        grace_s: Between SIGTERM and SIGKILL when an attempt is ended, in seconds.
        drain_s: How long what runs may take to finish once the daemon is told to stop.
        environments: Of this machine.
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
        drain_s: float,
        environments: Environments,
    ) -> None:
        self._identity, self._room, self._state = identity, room, state
        self._grace_s = grace_s
        self._cache = BlobCache(state / "blobs", bytes_max=cache_bytes_max)
        self._assigns = Assigns(state / "assigns")
        self._environments = environments
        self._preparing = Preparing(environments, self._cache, self._post)
        self._execution = Execution(
            state / "execution",
            report=self._on_report,
            interpreter_of=room.limits.on(self._preparing.launch),
            cgroups=room.cgroups,
        )
        self._uplink = Uplink(dial, self._post, state / "execution")
        self._streams = StreamPipes(state / "execution", self._uplink, self._execution)
        self._uplink.streams = self._streams
        self._supply = Supply(self._cache, self._uplink)
        self._keeper = Keeper(state / "kept", self._supply.store_file, self._post)
        self._children = Children(self._supply, self._execution, self._assigns, self._post)
        self._tasks: set[asyncio.Task[None]] = set()
        self._devices = DeviceDesk(
            room, devices=self._execution.devices, post=self._post, spawn=self._spawn
        )
        self._pausing: set[AttemptKey] = set()
        """Attempts that are asked to save and end."""
        self._result_files: dict[AttemptKey, reports.ResultFile] = {}
        self._departure = Departure(self._post, self._spawn, drain_s=drain_s)
        self._broken = asyncio.Event()
        self._leases: LeasePage | None = None
        self._turns: Turns[io.Event, io.Effect] | None = None
        self._early: list[io.Event] = []
        """What happened before there was a core to tell."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop and everything is finished or handed back.

        Raises:
            OSError: The state folder cannot be used.
            LineshaftError: Likewise.
        """
        core = await self._take_over()
        self._turns = Turns(core, self._perform, tick=io.Tick())
        for event in self._early:
            self._turns.post(event)
        self._keeper.take_over()
        self._execution.prepare(0)
        work: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._turns.run(), name="turns"),
            asyncio.create_task(self._watch_machine(), name="machine"),
            asyncio.create_task(self._departure.run(stopping), name="leave"),
            asyncio.create_task(self._broken.wait(), name="broken"),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._broken.is_set():
                raise BrokenDaemonError
        finally:
            await self._end(work)

    async def _take_over(self) -> WorkerCore:
        """Make a core that has what the daemon before us left running."""
        await self._environments.open()
        adopted = await self._execution.open()
        self._leases = LeasePage.open(self._state / "execution")
        await self._streams.open()
        # Looked at before anything is offered: memory on a GPU may be of a job that ended while
        # no daemon was there.
        _, capacity = await self._room.sample(self._execution.devices)
        running = {AttemptKey(JobId(key.job_id), key.attempt): lane for key, lane, _ in adopted}
        self._assigns.keep_only(running)
        ends = (AttemptKey(JobId(k.job_id), k.attempt) for k in self._execution.unsettled())
        found = tuple(key for key in ends if key not in running)
        if running or found:
            fields = {"running": len(running), "ended": len(found)}
            logger.info("took over from the daemon before", extra=fields)
        return WorkerCore(
            CoreSettings(),
            identity=self._identity,
            capacity=capacity,
            now=asyncio.get_running_loop().time(),
            meeting=self._room.meeting.place(),
            adopted=tuple((self._assigns.read(key), lane) for key, lane in running.items()),
            found=found,
            acked_at=self._leases.since(),
        )

    async def _end(self, work: list[asyncio.Task[Any]]) -> None:
        for task in (*work, *self._tasks):
            task.cancel()
        await asyncio.gather(*work, *self._tasks, return_exceptions=True)
        self._devices.close()
        self._keeper.close()
        self._uplink.close()
        self._streams.close()
        await self._preparing.close()
        await self._execution.close(keep_running=True)
        if self._leases is not None:
            self._leases.close()
        self._room.close()

    async def _watch_machine(self) -> None:
        while True:
            await self._look_at_machine()
            await asyncio.sleep(5.0)

    async def _forgive(self, device: str) -> None:
        await self._room.forgive(device)
        await self._look_at_machine()

    async def _look_at_machine(self) -> None:
        load, capacity = await self._room.sample(self._execution.devices)
        figures = self._preparing.hits.figures(spool_bytes=self._execution.spool_bytes())
        self._post(io.LoadSampled(load | self._devices.seen(), capacity, figures))

    def _post(self, event: io.Event) -> None:
        if isinstance(event, io.Received) and isinstance(event.message, EventsAck):
            # On whatever session it was said: what is on disk stays there.
            ack = event.message
            key = order_key(AttemptKey(JobId(ack.job_id), ack.attempt))
            self._execution.events_kept(key, ack.seq)
        if self._turns is None:
            self._early.append(event)
        else:
            self._turns.post(event)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours: end, and let the next daemon take over what runs.
            logger.critical("stopping on a bug", exc_info=error)
            self._broken.set()

    # --- what the core wants ---

    def _perform(self, effects: list[io.Effect]) -> None:  # noqa: PLR0912 - one for each effect
        outgoing: dict[Session, list[Wire]] = {}
        for effect in effects:
            match effect:
                case io.Send(session=session, message=message):
                    outgoing.setdefault(session, []).append(message)
                case io.StartAttempt(key=key, assign=assign, lane=lane):
                    self._start(key, assign, lane)
                case io.ForgetAttempt(key=key):
                    self._forget(key)
                case io.StopAttempt(key=key, grace_s=grace_s):
                    self._stop(key, grace_s)
                case io.RevokeAttempt(key=key):
                    self._execution.revoke(order_key(key))
                case io.FetchBlobs(key=key, blob_ids=blob_ids):
                    if missing := self._supply.hold(key, blob_ids):
                        self._spawn(self._fetch(key, missing))
                    else:
                        self._post(io.BlobsArrived(key))
                case io.CheckDevices(key=key, devices=devices, gone_pid=pid):
                    self._spawn(self._devices.check(key, devices, pid))
                case io.PrepareEnvironment() | io.CancelPreparing():
                    self._preparing.perform(effect)
                case io.StoreResult(key=key):
                    self._spawn(self._store_result(key))
                case io.AskPause() | io.AbandonFiles() | io.ForgetFile() | io.LookAgain():
                    self._stand_aside(effect)
                case io.AnswerChild(key=key, outcome=outcome):
                    self._spawn(self._children.answer(key, outcome))
                case io.KeepLeases(since=since, otherwise_s=otherwise_s):
                    assert self._leases is not None, "there is a core once there is a page"
                    self._leases.renew(since, otherwise_s)
                    self._execution.feed.heard(since)
                case io.Connect():
                    self._uplink.connect()
                case io.Close(session=session, reason=reason):
                    self._uplink.hang_up(session, reason)
                case io.Leave():
                    self._departure.left.set()
        self._uplink.send(outgoing)

    def _fail_start(self, key: AttemptKey, failure: Failure) -> None:
        result = AttemptResult(
            job_id=key.job_id, attempt=key.attempt, status="failed", failure=failure
        )
        self._post(io.AttemptEnded(key, result))

    def _start(self, key: AttemptKey, assign: Assign, lane: int) -> None:
        try:
            order = order_of(
                assign,
                self._cache,
                environment=self._preparing.environment_of(key),
                event_count=self._preparing.event_count(key),
                cpus=self._room.cpus_near(assign.devices) if assign.devices else (),
            )
            if assign.job.kind != "function" or assign.job.resources is not None:
                self._assigns.write(key, assign)
        except SecretGoneError as error:
            self._fail_start(key, Failure(cause="start", message=str(error)))
            return
        except (OSError, KeyError, ValueError) as error:
            text = f"it cannot be begun here: {error}"
            self._fail_start(key, Failure(cause="blob_missing", message=text))
            return

        def begin() -> None:
            is_lead = assign.gang is not None and assign.gang.rank == 0
            if is_lead and (following := self._room.meeting.give_out()) is not None:
                self._post(io.MeetingMoved(following))
            self._execution.start(order, lane)
            if key in self._pausing:  # It was asked before there was anybody to ask.
                self._execution.set_pause(order_key(key), "checkpoint")

        if assign.devices:
            self._devices.start(key, assign, begin)
        else:
            begin()

    def _stop(self, key: AttemptKey, grace_s: float | None) -> None:
        most_s = self._grace_s if grace_s is None else min(grace_s, self._grace_s)
        if not self._devices.stop(key):
            self._execution.stop(order_key(key), most_s)

    def _stand_aside(
        self, effect: io.AskPause | io.AbandonFiles | io.ForgetFile | io.LookAgain
    ) -> None:
        match effect:
            case io.AskPause(key=key, mode=mode):
                self._ask_pause(key, mode)
            case io.AbandonFiles(key=key):
                self._keeper.abandon(key)
            case io.ForgetFile(key=key, file_id=file_id):
                self._keeper.forget_file(key, file_id)
            case io.LookAgain(device=device):
                self._spawn(self._forgive(device))

    def _ask_pause(self, key: AttemptKey, mode: PauseMode) -> None:
        if mode == "checkpoint":
            self._pausing.add(key)
        else:
            self._pausing.discard(key)
        self._execution.set_pause(order_key(key), mode)

    def _forget(self, key: AttemptKey) -> None:
        self._preparing.forget(key)
        self._pausing.discard(key)
        self._keeper.forget(key)
        self._execution.settled(order_key(key))
        self._assigns.remove(key)
        self._result_files.pop(key, None)
        for gone in self._supply.release(key):
            self._post(io.BlobGone(gone))

    async def _fetch(self, key: AttemptKey, missing: list[BlobId]) -> None:
        try:
            await self._supply.bring_all(missing)
        except (LineshaftError, OSError) as error:
            self._post(io.BlobsFailed(key, f"its payload cannot be had: {error}"))
        else:
            self._post(io.BlobsArrived(key))

    async def _store_result(self, key: AttemptKey) -> None:
        await self._keeper.drained(key)
        file = self._result_files.get(key)
        if file is None:
            self._post(io.ResultStored(key, None))
            return
        try:
            payload = await self._supply.store_file(file.path, BlobId(file.sha256))
        except (LineshaftError, OSError) as error:
            self._post(io.ResultRefused(key, f"its result cannot be stored: {error}"))
        else:
            self._post(io.ResultStored(key, payload))

    # --- what attempts do ---

    def _on_report(self, report: reports.Report) -> None:
        key = AttemptKey(JobId(report.key.job_id), report.key.attempt)
        match report:
            case reports.AttemptEnded():
                self._departure.judge(report, self._on_ended)
            case reports.AttemptFroze(is_frozen=is_frozen, problem=problem):
                self._post(io.PauseSeen(key, is_frozen, problem))
            case reports.AttemptEvents():
                self._keep_files(key, report)
                self._post(io.AttemptSpoke(key, events_of(report)))
            case reports.AttemptBegan(pid=pid):
                self._devices.on_began(key, pid)
                self._post(io.AttemptBegan(key))
            case reports.AttemptReturned():
                self._post(io.AttemptReturned(key))
            case reports.ChildRequested():
                self._spawn(self._children.ask(key, report))

    def _on_ended(self, ended: reports.AttemptEnded) -> None:
        key = AttemptKey(JobId(ended.key.job_id), ended.key.attempt)
        result, file = result_of(ended, gpu_peak_bytes=self._devices.on_ended(key))
        if file is not None:
            self._result_files[key] = file
        self._take_outputs(key, ended)
        if not ended.processes_gone:
            logger.error("processes of an attempt cannot be ended", extra={"key": key})
        must_store = file is not None or self._keeper.is_busy(key)
        self._post(io.AttemptEnded(key, result, must_store, ended.gone_pid))

    def _take_outputs(self, key: AttemptKey, ended: reports.AttemptEnded) -> None:
        if isinstance(ended.outcome, reports.Stopped):
            self._keeper.abandon(key)
        elif ended.outputs is not None:
            self._keeper.take_outputs(key, ended.outputs)

    def _keep_files(self, key: AttemptKey, spoke: reports.AttemptEvents) -> None:
        if any(kind in ("checkpoint", "artifact") for _, _, kind, _ in spoke.events):
            self._keeper.take(spoke, self._execution.kept_folder(spoke.key))
        if key in self._pausing and (problem := said_not_kept(spoke)) is not None:
            # It could not save: it must not end, so it is no longer asked to.
            self._ask_pause(key, "none")
            self._post(io.PauseSeen(key, is_frozen=False, problem=problem))
