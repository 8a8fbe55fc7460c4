"""A worker's daemon: it may crash while what it started goes on."""

from random import Random
from typing import cast

from tests.simulation.checks import Checks, check_bench
from tests.simulation.coordinator_node import CoordinatorNode
from tests.simulation.faults import Faults
from tests.simulation.load import PYTHON, result_of
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.node import Core, Node
from tests.simulation.world import SimulationError, World

from lineshaft_protocol.codec import TO_WORKER, Codec
from lineshaft_protocol.ids import Session, WorkerId
from lineshaft_protocol.jobs import Environment
from lineshaft_protocol.outcomes import Failure
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.versions import FEATURES, Versions
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import MeetingPlace
from lineshaft_worker.core.identity import Identity
from lineshaft_worker.core.io import (
    AbandonFiles,
    AnswerChild,
    AskPause,
    AttemptKey,
    BlobGone,
    BlobsArrived,
    BlobsFailed,
    CancelPreparing,
    CheckDevices,
    Close,
    Connect,
    Connected,
    DevicesChecked,
    Disconnected,
    DrainAsked,
    EnvironmentFailed,
    EnvironmentProgress,
    EnvironmentReady,
    FetchBlobs,
    ForgetAttempt,
    ForgetFile,
    KeepLeases,
    Leave,
    LoadSampled,
    MeetingMoved,
    PrepareEnvironment,
    Received,
    ResultRefused,
    ResultStored,
    RevokeAttempt,
    Send,
    StartAttempt,
    StopAttempt,
    StoreResult,
    Tick,
)
from lineshaft_worker.core.machine import WorkerCore
from lineshaft_worker.core.settings import CoreSettings

GIVE_BACK_S = 3.0
"""How long a daemon waits for an ended attempt's memory before it puts the GPU out of use."""
DRAIN_S_MAX = 10.0
"""How long a daemon that should leave waits for what it runs."""

SETTINGS = CoreSettings(reconnect_max_s=2.0, register_s=2.0, lease_s=7.0)


class WorkerNode(Node):
    """The process that supervises one machine."""

    tick = Tick()

    def __init__(
        self,
        world: World,
        network: Network,
        faults: Faults,
        coordinator: CoordinatorNode,
        checks: Checks,
        *,
        name: str,
        capacity: Capacity,
        tags: tuple[str, ...],
    ) -> None:
        super().__init__(world, name, faults, drift=faults.drift)
        self.network, self.coordinator, self.checks = network, coordinator, checks
        self.capacity, self.tags = capacity, tags
        self.machine = Machine(world, name, capacity, faults, checks)
        self._faulty: int | None = None
        self.machine.given_back = self._sample
        self.machine.clock = self.clock
        self.is_gone = False
        """It never comes back."""
        self._open: dict[int, None] = {}
        self._building: dict[AttemptKey, Environment | None] = {}
        """Attempts whose environment is made."""
        self._built_before: list[Environment | None] = []
        """Environments on the machine's disk."""
        # Some daemons are of a release before attempts without a place.
        self._is_old = Random(f"{faults.drift}/{name}/old").random() < 0.15
        self._meeting_port = 20_000
        self._is_leaving = self._had_lease = False

    @property
    def its_core(self) -> WorkerCore:
        """The core, while the process is up."""
        return cast("WorkerCore", self.core)

    def make_core(self) -> Core:
        self._open, self._is_leaving, self._had_lease = {}, False, False
        self.machine.unchecked.clear()  # A new daemon looks at all GPUs before it offers them.
        self._building = {}
        adopted = self.machine.survivors()
        if adopted:
            self.world.mark("adoption")
        core = WorkerCore(
            SETTINGS,
            identity=Identity(
                worker_id=WorkerId(self.name),
                incarnation=f"{self.name}.{self.boot}",
                capabilities={},
                tags=self.tags,
                pythons=(PYTHON,),
                versions=self._versions(),
            ),
            capacity=self._offers(),
            now=self.clock(),
            meeting=self._new_meeting(),
            adopted=adopted,
            acked_at=self.machine.leases_since(),
        )
        return cast("Core", core)

    def _versions(self) -> Versions:
        known = tuple(name for name in FEATURES if name != "unplaced" or not self._is_old)
        return Versions(features=known)

    def start(self) -> None:
        super().start()
        for event in self.machine.recount():
            self.post(event)
        self.machine.listen(self.post)

    def crash(self, *, loses_power: bool, may_return: bool) -> None:
        """End the daemon without warning; with the power everything on the machine ends."""
        if not self.is_up:
            return
        self.world.mark("power_loss" if loses_power else "daemon_crash")
        self.stop("loses power" if loses_power else "daemon crashes")
        self.machine.listen(None)
        if loses_power:
            self.machine.lose_power()
        self.network.crashed(self, boot=self.boot, has_kernel=not loses_power and may_return)
        if not may_return:
            self.world.mark("worker_gone")
            self.machine.lose_power()
            self.is_gone = True
            return
        # Long enough now and then that what it left has been given to others.
        longest_s = 12.0 if loses_power else self.dice.choice((3.0, 40.0))
        self.world.after(self.dice.uniform(0.2, longest_s), self._start_again)

    def _start_again(self) -> None:
        if not self.is_up:
            self.start()

    def drain(self, *, is_hurried: bool) -> None:
        """A service manager wants the daemon to end."""
        if self.is_up:
            self.world.mark("drain")
            self.post(DrainAsked(is_hurried=is_hurried))

    def change_devices(self, faulty: int | None) -> None:
        """A GPU fails, or all are well again."""
        self._faulty = faulty
        self._sample()
        if faulty is not None:
            self.world.mark("device_fault")
            self.post(BlobGone("a" * 64))

    def _offers(self) -> Capacity:
        """What the machine offers now, as its driver shows it."""

        def fault(index: int, uuid: str) -> str | None:
            if index == self._faulty:
                return "fell off the bus"
            return "its memory was not given back" if self.machine.keeps(uuid) else None

        gpus = tuple(
            gpu.model_copy(update={"fault": fault(index, gpu.uuid)})
            for index, gpu in enumerate(self.capacity.gpus)
        )
        return self.capacity.model_copy(update={"gpus": gpus})

    def _sample(self) -> None:
        if self.is_up:
            self.post(LoadSampled({}, self._offers()))

    def _check_devices(self, key: AttemptKey, devices: tuple[str, ...], until: float) -> None:
        machine = self.machine
        if any(machine.keeps(uuid) for uuid in devices) and self.world.now < until:
            self.later(0.3, lambda: self._check_devices(key, devices, until))
            return
        if any(machine.keeps(uuid) for uuid in devices):
            self.world.mark("quarantine")
        machine.unchecked.pop(key, None)
        self.post(DevicesChecked(key, self._offers()))

    def after_batch(self) -> None:
        core = self.its_core
        check_bench(core)
        if core._acked_at is None and self._had_lease:
            self.world.mark("lease_ended_by_worker")
        self._had_lease = core._acked_at is not None
        if core._is_draining and core._is_stopping_after_drain and not self._is_leaving:
            self._is_leaving = True
            self.later(DRAIN_S_MAX, lambda: self.post(DrainAsked(is_hurried=True)))

    # --- connections ---

    def decode(self, session: int, frame: bytes) -> list[object]:
        return [Received(Session(session), message) for message in TO_WORKER.decode(frame)]

    def disconnected(self, session: int | None) -> Disconnected:
        if session is not None:
            self._open.pop(session, None)
        return Disconnected(Session(session) if session is not None else None)

    def _connected(self, session: int) -> Connected:
        self._open[session] = None
        return Connected(Session(session))

    # --- effects ---

    def perform(self, effects: list[object]) -> None:  # noqa: PLR0912 - one for each effect
        outgoing: dict[Session, list[Wire]] = {}
        machine = self.machine
        for effect in effects:
            match effect:
                case Send(session=session, message=message):
                    outgoing.setdefault(session, []).append(message)
                case StartAttempt(key=key, assign=assign, lane=lane):
                    machine.start(key, assign, lane)
                    if assign.gang is not None and assign.gang.rank == 0:
                        self.post(MeetingMoved(self._new_meeting()))
                case StopAttempt(key=key, grace_s=grace_s):
                    self._stop_attempt(key, grace_s)
                case RevokeAttempt(key=key):
                    machine.revoke(key)
                case ForgetAttempt(key=key):
                    self.checks.on_forgotten(machine, key)
                    if key in self._building:
                        raise SimulationError(f"{self.name} builds on for the forgotten {key}")
                    machine.forget(key)
                case AskPause() | ForgetFile() | AbandonFiles() | KeepLeases():
                    self._do_aside(effect)
                case AnswerChild(key=key, outcome=outcome):
                    machine.answer(key, outcome)
                case FetchBlobs(key=key):
                    self.later(self.dice.uniform(0.001, 0.2), lambda k=key: self._fetched(k))
                case CheckDevices(key=key, devices=devices):
                    self._check_devices(key, devices, self.world.now + GIVE_BACK_S)
                case PrepareEnvironment() | CancelPreparing():
                    self._prepare(effect)
                case StoreResult(key=key):
                    self.later(self.dice.uniform(0.001, 0.2), lambda k=key: self._stored(k))
                case Connect():
                    self.network.connect(
                        self,
                        self.coordinator,
                        accepted=self.coordinator.accept_worker,
                        connected=self._connected,
                    )
                case Close(session=session):
                    self._flush(session, outgoing.pop(session, []))
                    self.network.close(self, session)
                case Leave():
                    pass
                case _:
                    raise SimulationError(f"unknown effect {effect!r}")
        for session, messages in outgoing.items():
            self._flush(session, messages)
        if any(isinstance(effect, Leave) for effect in effects):
            self._leave()

    def _stop_attempt(self, key: AttemptKey, grace_s: float | None) -> None:
        self.checks.stays.on_stop(self, key)
        self.machine.stop(key, grace_s)

    def _new_meeting(self) -> MeetingPlace:
        self._meeting_port += 1
        return MeetingPlace(address=self.name, port=self._meeting_port)

    def _do_aside(self, effect: AskPause | ForgetFile | AbandonFiles | KeepLeases) -> None:
        match effect:
            case KeepLeases(since=since, otherwise_s=otherwise_s):
                self.machine.keep_leases(since, otherwise_s)
            case AskPause(key=key, mode=mode):
                self.machine.ask_pause(key, mode)
            case ForgetFile(key=key, file_id=file_id):
                self.machine.forget_file(key, file_id)
            case AbandonFiles():
                self.world.mark("files_abandoned")

    def _flush(self, session: int, messages: list[Wire]) -> None:
        encoded = [Codec.encode(message) for message in messages]
        frames = Codec.encode_batches(encoded) if self.dice.random() < 0.7 else encoded
        self.network.send(self, session, frames)

    def _fetched(self, key: AttemptKey) -> None:
        if not self.coordinator.is_up or not self._open:
            return
        if self.dice.random() < self.faults.blob_fails:
            self.world.mark("blob_failed")
            self.post(BlobsFailed(key, "it is gone"))
        else:
            self.post(BlobsArrived(key))

    def _prepare(self, effect: PrepareEnvironment | CancelPreparing) -> None:
        key = effect.key
        if isinstance(effect, CancelPreparing):
            self.world.mark("build_cancelled")
            self._building.pop(key, None)
            return
        self.machine.prepared.discard(key)
        environment = effect.assign.job.environment
        self._building[key] = environment
        if environment in self._built_before and self.dice.random() < 0.2:
            self.world.mark("environment_pruned")
            self._built_before.remove(environment)
        is_there = environment in self._built_before
        if not is_there and not effect.assign.is_unplaced:
            self.world.mark("built_while_placed")
        longest_s = 0.02 if is_there else 5.0
        self.later(self.dice.uniform(0.0, longest_s), lambda: self._built(key))

    def _built(self, key: AttemptKey) -> None:
        if key not in self._building:
            return
        self.post(EnvironmentProgress(key, "installing"))
        environment = self._building.pop(key)
        if self.dice.random() < self.faults.blob_fails:
            self.world.mark("build_failed")
            failure = Failure(cause="environment", message="no such package")
            self.post(EnvironmentFailed(key, failure))
        else:
            self.world.mark("built")
            if environment not in self._built_before:
                self._built_before.append(environment)
            self.machine.prepared.add(key)
            self.post(EnvironmentReady(key))

    def _stored(self, key: AttemptKey) -> None:
        if not self.coordinator.is_up or not self._open:
            return
        if self.dice.random() < self.faults.blob_fails:
            self.world.mark("result_refused")
            self.checks.on_result_refused(key)
            self.post(ResultRefused(key, "no room"))
        else:
            process = self.machine.processes.get(key)
            is_result = process is None or (
                process.result is not None and process.result.status == "succeeded"
            )
            payload = result_of(key.job_id, key.attempt) if is_result else None
            self.post(ResultStored(key, payload))

    def _leave(self) -> None:
        if self.machine.executing():
            raise SimulationError(f"{self.name} leaves while attempts run")
        self.world.mark("leave")
        self.stop("leaves")
        self.machine.listen(None)
        self.network.crashed(self, boot=self.boot)
        self.world.after(self.dice.uniform(1.0, 6.0), self._start_again)
