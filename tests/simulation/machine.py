"""One worker's machine: the processes that run users' code, whatever becomes of the daemon.

A lane is one runner: it executes what it was given in order, one at a time. What a process said
and how it ended stays in its spool until the daemon forgets the attempt.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.simulation.faults import Faults
from tests.simulation.load import Script, child_of, result_of, script_of
from tests.simulation.world import SimulationError, World

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.resources import Capacity, Resources
from lineshaft_protocol.worker_messages import Assign, PauseMode
from lineshaft_worker.core.io import (
    AttemptBegan,
    AttemptEnded,
    AttemptKey,
    AttemptReturned,
    AttemptSpoke,
    ChildAsked,
    FileStored,
    PauseSeen,
)

BEGAN_S = 0.02
SIGNS_KEPT = 16
LEASE_LOOK_S_MAX = 30.0


@dataclass(slots=True)
class Process:
    """One attempt on its machine."""

    key: AttemptKey
    assign: Assign
    lane: int
    script: Script
    is_executing: bool = False
    is_dying: bool = False
    steps: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    at_s: float = 0.0
    asked: dict[JobId, JobSpec] = field(default_factory=dict[JobId, JobSpec])
    """Children it waits for."""
    asked_count: int = 0
    a_child_failed: bool = False
    spoken: list[JobEvent] = field(default_factory=list[JobEvent])
    result: AttemptResult | None = None
    files: dict[str, KeptFile] = field(default_factory=dict[str, KeptFile])
    """What it saved and the coordinator has not on record."""
    saved_count: int = 0
    began_at: float | None = None
    """When its daemon was told that its code began."""
    signs: int = 0
    """How often its daemon was told of it."""
    signed_at: float = 0.0
    """When that was last, or when it last learned of a child."""
    signed: deque[float] = field(default_factory=lambda: deque[float](maxlen=SIGNS_KEPT))
    """When that was, the last times."""
    pause: PauseMode = "none"
    standing: Callable[[], None] | None = None
    """What it does next once it is no longer frozen."""

    @property
    def wanted(self) -> Resources:
        """What it occupies besides a slot."""
        return self.assign.job.resources or Resources()


class MachineWitness(Protocol):
    """Who looks on while processes run."""

    def on_began(self, machine: "Machine", process: Process) -> None: ...
    def on_over(self, machine: "Machine", process: Process) -> None: ...
    def are_peers_there(self, process: Process) -> bool: ...


class Machine:
    """Processes, lanes and what they occupy."""

    def __init__(
        self,
        world: World,
        name: str,
        capacity: Capacity,
        faults: Faults,
        witness: MachineWitness,
    ) -> None:
        self.name, self.capacity = name, capacity
        self._world, self._faults, self._witness = world, faults, witness
        self._dice = world.random(f"{name}/machine")
        self._pause_dice = world.random(f"{name}/pauses")
        self.processes: dict[AttemptKey, Process] = {}
        self.prepared: set[AttemptKey] = set()
        """Attempts whose environment is here."""
        self._lanes: dict[int, list[Process]] = {}
        self._tell: Callable[[object], None] | None = None
        self._told_at = 0.0
        self._leaks = world.random(f"{name}/leaks")
        self._kept_until: dict[str, float] = {}
        """GPUs whose memory an ended attempt still holds."""
        self.unchecked: dict[AttemptKey, Process] = {}
        """Attempts at whose GPUs nobody has looked since they ended."""
        self.given_back: Callable[[], None] = lambda: None
        """Called when a GPU has its memory back."""
        self._listener = 0
        self.clock: Callable[[], float] = lambda: world.now
        """The machine's own, which may run fast or slow."""
        self._leases: tuple[float, float] | None = None
        """Since when leases count on that clock, and the lease of attempts without their own."""

    # --- the daemon ---

    def listen(self, tell: Callable[[object], None] | None) -> None:
        """Tell this daemon what happens; None while there is none."""
        self._tell = tell
        self._listener += 1

    def _sign(self, process: Process, event: object) -> None:
        """Tell the daemon something that shows that the attempt goes on."""
        self._note_sign(process)
        self._emit(event)

    def _note_sign(self, process: Process) -> None:
        process.signs += 1
        process.signed_at = self._world.now
        process.signed.append(process.signed_at)

    def _emit(self, event: object) -> None:
        listener = self._listener
        at = max(self._told_at, self._world.now + self._dice.uniform(0.0, 0.002))
        self._told_at = at

        def arrive() -> None:
            if self._tell is not None and self._listener == listener:
                self._tell(event)

        self._world.at(at, arrive)

    def survivors(self) -> tuple[tuple[Assign, int], ...]:
        """What runs on, whoever the daemon is, and on which lane."""
        for process in tuple(self.processes.values()):
            if not process.is_executing and process.result is None:
                self._remove(process)  # Its runner never read it.
        return tuple((p.assign, p.lane) for p in self.processes.values() if p.is_executing)

    def recount(self) -> list[object]:
        """What a new daemon reads in the spools of what it adopted."""
        events: list[object] = []
        for process in self.processes.values():
            if process.spoken:
                events.append(AttemptSpoke(process.key, tuple(process.spoken)))
            events += [FileStored(process.key, file) for file in process.files.values()]
            events += [ChildAsked(process.key, spec) for spec in process.asked.values()]
            if process.result is not None:
                events.append(
                    AttemptEnded(process.key, process.result, must_store=self._must_store(process))
                )
        return events

    def lose_power(self) -> None:
        """Everything on the machine is gone."""
        self._leases = None
        self.processes.clear()
        self._lanes.clear()
        self._kept_until.clear()
        self.unchecked.clear()

    def _watch_lease(self, process: Process) -> None:
        """Be its shim: end it when its lease is over, whatever became of the daemon."""
        if self.processes.get(process.key) is not process or not process.is_executing:
            return
        wait_s = LEASE_LOOK_S_MAX
        if self._leases is not None:
            since, otherwise_s = self._leases
            assign = process.assign
            lease_s = otherwise_s if assign.lease_s is None else assign.lease_s
            grace_s = 0.0 if assign.lease_grace_s is None else assign.lease_grace_s
            left_s = since + lease_s + grace_s / 3 - self.clock()
            if left_s <= 0:
                if not process.is_dying:
                    self._world.mark("lease_ended_by_shim")
                    self.stop(process.key, grace_s)
                return
            wait_s = min(wait_s, left_s)
        self._world.after(wait_s + 0.001, lambda: self._watch_lease(process))

    # --- what the daemon wants ---

    def leases_since(self) -> float | None:
        """What a new daemon reads of the one before it."""
        return None if self._leases is None else self._leases[0]

    def keep_leases(self, since: float, otherwise_s: float) -> None:
        """Have all leases count from then."""
        self._leases = since, otherwise_s

    def start(self, key: AttemptKey, assign: Assign, lane: int) -> None:
        """Give an attempt to a lane."""
        if key in self.processes:
            raise SimulationError(f"{self.name} was told to start {key} twice")
        if assign.job.environment is not None and key not in self.prepared:
            raise SimulationError(f"{key} starts before its environment is there")
        script = script_of(self._world.seed, assign.job, assign.attempt)
        process = self.processes[key] = Process(key, assign, lane, script)
        queue = self._lanes.setdefault(lane, [])
        queue.append(process)
        if len(queue) == 1:
            self._begin(process)

    def revoke(self, key: AttemptKey) -> None:
        """Take it off its lane if it has not begun."""
        process = self.processes.get(key)
        if process is None or process.is_executing or process.result is not None:
            return
        self._world.mark("revoked")
        self._remove(process)
        self._emit(AttemptReturned(key))

    def stop(self, key: AttemptKey, within_s: float | None = None) -> None:
        """End it: by asking, and by force after a while; asking takes no longer than this."""
        process = self.processes.get(key)
        if process is None or process.result is not None or process.is_dying:
            return
        if not process.is_executing:
            self.revoke(key)
            return
        process.is_dying = True
        ignores = self._dice.random() < self._faults.stop_ignored
        grace_s = self._dice.uniform(2.0, 4.0) if ignores else self._dice.uniform(0.0, 1.0)
        if ignores:
            self._world.mark("stop_ignored")
        if within_s is not None:
            # And as much again to see that it is over.
            grace_s = min(grace_s, 2 * within_s)
        self._world.after(grace_s, lambda: self._kill(process))

    def _kill(self, process: Process) -> None:
        if self.processes.get(process.key) is process and process.is_executing:
            result = AttemptResult(
                job_id=process.key.job_id, attempt=process.key.attempt, status="stopped"
            )
            self._runner_dies(process, result)

    def ask_pause(self, key: AttemptKey, mode: PauseMode) -> None:
        """Have it save and end, or stand still, or go on."""
        process = self.processes.get(key)
        if process is None or not process.is_executing or process.is_dying:
            return
        process.pause = mode
        if mode == "freeze":
            self._sign(process, PauseSeen(key, is_frozen=True))
            return
        if process.standing is not None:
            standing, process.standing = process.standing, None
            self._world.after(0.0, standing)
        self._sign(process, PauseSeen(key, is_frozen=False))
        if mode == "checkpoint":
            self._react(process)

    def _react(self, process: Process) -> None:
        dice = self._pause_dice
        if dice.random() < 0.2:
            return  # It does not ask.
        fails = dice.random() < 0.2

        def act() -> None:
            if self.processes.get(process.key) is not process or not process.is_executing:
                return
            if process.pause != "checkpoint" or process.is_dying or process.asked:
                return
            if fails:
                self._world.mark("save_failed")
                self._sign(
                    process, PauseSeen(process.key, is_frozen=False, problem="the disk is full")
                )
                return
            self._save(process)
            job_id, attempt = process.key
            result = AttemptResult(job_id=job_id, attempt=attempt, status="paused")
            self._over(process, result)
            self._next_on_lane(process.lane)

        self._world.after(dice.uniform(0.05, 2.0), act)

    def forget_file(self, key: AttemptKey, file_id: str) -> None:
        """The coordinator has it on record."""
        if (process := self.processes.get(key)) is not None:
            process.files.pop(file_id, None)

    def _save(self, process: Process) -> None:
        process.saved_count += 1
        file = KeptFile(
            file_id=f"{process.key.attempt}.{process.saved_count}",
            kind="checkpoint" if self._pause_dice.random() < 0.8 else "artifact",
            name="model.pt",
            attempt=process.key.attempt,
            at=self._world.now,
            blob=hashlib.sha256(f"{process.key}{process.saved_count}".encode()).hexdigest(),
            step=process.saved_count,
        )
        process.files[file.file_id] = file
        self._sign(process, FileStored(process.key, file))

    def answer(self, key: AttemptKey, outcome: Outcome) -> None:
        """A child that a process waits for has ended."""
        process = self.processes.get(key)
        if process is None or process.asked.pop(JobId(outcome.job_id), None) is None:
            return
        self._note_sign(process)
        process.a_child_failed |= outcome.status != "succeeded"
        if not process.asked and process.is_executing:
            self._check_load()
            self._walk(process)

    def forget(self, key: AttemptKey) -> None:
        """Nobody needs its spool any more."""
        process = self.processes.get(key)
        if process is None:
            return
        if process.is_executing:
            raise SimulationError(f"{self.name} forgets {key}, which runs")
        self._remove(process)

    # --- what processes do ---

    def _begin(self, process: Process) -> None:
        script = process.script
        process.is_executing = True
        process.steps = [(at, "speak") for at in script.speaks_at]
        process.steps += [(at, "ask") for at in script.asks_at]
        process.steps += [(script.run_s, "end")]
        if script.run_s > BEGAN_S:
            process.steps.append((BEGAN_S, "began"))
        process.steps.sort(reverse=True)
        if self._dice.random() < self._faults.runner_death:
            self._world.mark("runner_death")
            self._world.after(self._dice.uniform(0.0, script.run_s), lambda: self._die(process))
        self._witness.on_began(self, process)
        self._watch_lease(process)
        self._check_load()
        for uuid in process.assign.devices or ():
            is_judged = all(uuid not in (p.assign.devices or ()) for p in self.unchecked.values())
            if self.keeps(uuid) and is_judged:
                raise SimulationError(f"{process.key} begins on {uuid}, which was not given back")
        self._walk(process)

    def _walk(self, process: Process) -> None:
        at_s, what = process.steps[-1]
        wait_s = max(0.0, at_s - process.at_s)

        def step() -> None:
            if self.processes.get(process.key) is not process or not process.is_executing:
                return
            if process.pause == "freeze":
                process.standing = step
                return
            process.steps.pop()
            process.at_s = at_s
            self._do(process, what)
            if process.is_executing and not process.asked:
                self._walk(process)

        self._world.after(wait_s, step)

    def _do(self, process: Process, what: str) -> None:
        match what:
            case "began":
                process.began_at = self._world.now
                self._sign(process, AttemptBegan(process.key))
            case "speak":
                self._speak(process)
            case "ask":
                count = len(process.script.asks_at) if process.script.waits_together else 1
                if process.asked_count < len(process.script.asks_at):
                    for _ in range(count):
                        self._ask(process)
            case _:
                self._end(process)

    def _speak(self, process: Process) -> None:
        event = JobEvent(
            job_id=process.key.job_id,
            attempt=process.key.attempt,
            seq=len(process.spoken) + 1,
            at=self._world.now,
            kind="log",
            body={},
        )
        process.spoken.append(event)
        if self._pause_dice.random() < 0.4:
            self._save(process)
        self._sign(process, AttemptSpoke(process.key, (event,)))

    def _ask(self, process: Process) -> None:
        process.asked_count += 1
        spec = child_of(process.key.job_id, process.key.attempt, process.asked_count)
        process.asked[JobId(spec.job_id)] = spec
        self._world.mark("child_asked")
        self._sign(process, ChildAsked(process.key, spec))

    def _end(self, process: Process) -> None:
        job_id, attempt = process.key
        if not self._witness.are_peers_there(process):
            # A rank whose peers are not there waits for them, for ever if nobody stops it.
            self._world.mark("rank_waits")
            process.steps.append((process.at_s + 1.0, "end"))
            return
        if process.script.fails or process.a_child_failed:
            result = AttemptResult(
                job_id=job_id,
                attempt=attempt,
                status="failed",
                failure=Failure(cause="exception", message="it raised"),
                run_s=process.script.run_s,
            )
        else:
            result = AttemptResult(
                job_id=job_id,
                attempt=attempt,
                status="succeeded",
                result=result_of(job_id, attempt),
                run_s=process.script.run_s,
            )
        self._over(process, result, is_runner_gone=process.assign.job.kind == "pipeline")
        self._next_on_lane(process.lane)

    def _over(
        self, process: Process, result: AttemptResult, *, is_runner_gone: bool = False
    ) -> None:
        process.result = result
        process.is_executing = False
        process.asked.clear()
        self._lanes[process.lane].remove(process)
        self._witness.on_over(self, process)
        gone_pid = 1 if is_runner_gone and process.assign.devices else None
        if gone_pid is not None:
            self.unchecked[process.key] = process
            self._leak(process)
        must_store = self._must_store(process)
        self._emit(AttemptEnded(process.key, result, must_store=must_store, gone_pid=gone_pid))

    def _leak(self, process: Process) -> None:
        """Sometimes the driver takes its time to give memory back."""
        for uuid in process.assign.devices or ():
            if self._leaks.random() < self._faults.gpu_keeps_memory:
                self._world.mark("gpu_keeps_memory")
                for_s = self._leaks.uniform(0.0, 8.0)
                self._kept_until[uuid] = self._world.now + for_s
                self._world.after(for_s + 0.01, self.given_back)

    def keeps(self, uuid: str) -> bool:
        """Whether memory on the GPU was not given back."""
        return self._kept_until.get(uuid, 0.0) > self._world.now

    def _must_store(self, process: Process) -> bool:
        assert process.result is not None, "only a result is stored"
        return process.script.must_store and process.result.status in ("succeeded", "paused")

    def _next_on_lane(self, lane: int) -> None:
        if queue := self._lanes[lane]:
            self._begin(queue[0])
        else:
            del self._lanes[lane]

    def _die(self, process: Process) -> None:
        if self.processes.get(process.key) is not process or not process.is_executing:
            return
        is_untouched = process.at_s == 0.0 and not process.spoken and not process.asked_count
        if is_untouched and self._dice.random() < 0.5:
            # Before the code of the attempt was reached.
            self._world.mark("runner_died_early")
            following = self._lanes[process.lane][1:]
            process.is_executing = False
            self._remove(process)
            self._emit(AttemptReturned(process.key))
            for other in following:
                self._remove(other)
                self._emit(AttemptReturned(other.key))
            return
        result = AttemptResult(
            job_id=process.key.job_id,
            attempt=process.key.attempt,
            status="failed",
            failure=Failure(cause="signal", message="killed", signal_name="SIGSEGV"),
        )
        self._runner_dies(process, result)

    def _runner_dies(self, process: Process, result: AttemptResult) -> None:
        lane = process.lane
        following = self._lanes[lane][1:]
        if not following or self._dice.random() < 0.3:
            # A new runner goes on with what waited.
            self._over(process, result, is_runner_gone=True)
            self._next_on_lane(lane)
            return
        self._world.mark("lane_lost")
        ends_first = self._dice.random() < 0.5
        if ends_first:
            self._over(process, result, is_runner_gone=True)
        for other in following:
            self._remove(other)
            self._emit(AttemptReturned(other.key))
        if not ends_first:
            self._over(process, result, is_runner_gone=True)
        self._lanes.pop(lane, None)

    def _remove(self, process: Process) -> None:
        del self.processes[process.key]
        queue = self._lanes.get(process.lane)
        if queue is not None and process in queue:
            queue.remove(process)
            if not queue:
                del self._lanes[process.lane]

    # --- what must always hold ---

    def executing(self) -> list[Process]:
        """All processes of users that exist now, dying ones as well."""
        return [process for process in self.processes.values() if process.is_executing]

    def _check_load(self) -> None:
        processes, capacity = self.executing(), self.capacity
        slots = sum(not process.asked for process in processes)
        if slots > capacity.slots:
            raise SimulationError(f"{self.name} runs {slots} attempts on {capacity.slots} slots")
        if sum(p.wanted.cpus for p in processes) > capacity.cpus + 1e-9:
            raise SimulationError(f"{self.name} gives away more CPUs than it has")
        if sum(p.wanted.memory_bytes for p in processes) > capacity.memory_bytes:
            raise SimulationError(f"{self.name} gives away more memory than it has")
        for gpu in capacity.gpus:
            holding = [*processes, *self.unchecked.values()]
            users = [p for p in holding if gpu.uuid in (p.assign.devices or ())]
            whole = [p for p in users if p.wanted.gpu_memory_bytes == 0]
            if whole and len(users) > 1:
                raise SimulationError(f"{gpu.uuid} is given to {[p.key for p in users]}")
            if len(users) > 1:
                self._world.mark("gpu_shared")
            if sum(p.wanted.gpu_memory_bytes for p in users) > gpu.memory_bytes:
                raise SimulationError(f"the memory of {gpu.uuid} is given twice")
        for process in processes:
            if len(process.assign.devices or ()) != process.wanted.gpus:
                raise SimulationError(f"{process.key} has not the GPUs it asked for")
