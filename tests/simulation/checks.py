"""What must hold in every reachable state, and what must come true once faults stop.

The oracle keeps its own books: the journal as it was committed, what processes really did, and
what users were told.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tests.simulation.disk import Disk, token_of
from tests.simulation.load import Wish, result_of
from tests.simulation.machine import Machine, Process
from tests.simulation.rooms import check_rooms
from tests.simulation.stays import DRIFT_MAX, Stays
from tests.simulation.world import SimulationError, World

from lineshaft_coordinator.core.invariants import check
from lineshaft_coordinator.core.ledger import Job, Leased, Ledger
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptPlaced,
    AttemptStarted,
    CancelRequested,
    FileKept,
    JobFinished,
    JobResumed,
    JobSubmitted,
    PauseRequested,
    PauseWithdrawn,
    Record,
)
from lineshaft_protocol.client_messages import Accepted, Finished, Refused
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import (
    Assign,
    EventsAck,
    KeptAck,
    Place,
    Recall,
    SetPause,
    Stop,
)
from lineshaft_worker.core.attempts import Phase
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.core.machine import WorkerCore

if TYPE_CHECKING:
    from tests.simulation.worker_node import WorkerNode

EXECUTING = (Phase.RUNNING, Phase.STOPPING, Phase.CHECKING)
"""Phases in which an attempt has a slot and its devices."""

LOST = ("was lost", "was not seen")
"""Words in a reason that say: a lease expired."""


class Checks:
    """Looks on, and raises at the first contradiction."""

    def __init__(self, world: World, disk: Disk, *, every: int) -> None:
        self._world, self._disk, self._every = world, disk, every
        self.machines: list[Machine] = []
        self.workers: list[WorkerNode] = []
        self.stays = Stays(world)
        self._shadow = Ledger()
        self._ended: dict[str, Outcome] = {}
        self._started: dict[tuple[str, int], None] = {}
        self._cancelled: dict[str, None] = {}
        self._succeeded: dict[tuple[str, int], None] = {}
        """Attempts whose code was really executed to its good end."""
        self._refused: dict[tuple[str, int], None] = {}
        """Attempts for whose result there was once no room."""
        self._wanted_still: dict[str, None] = {}
        """Jobs whose user paused them and did not resume them."""
        self._kept: dict[tuple[str, str], None] = {}
        self._goes_on_from: dict[tuple[str, int], KeptFile | None] = {}
        self._batches = 0
        self._patient_until = 0.0
        self._core: CoordinatorCore | None = None

    # --- the coordinator ---

    def on_start(self, core: CoordinatorCore) -> None:
        """A coordinator started from the disk."""
        self._core = core
        if core.shop.ledger != self._shadow:
            raise SimulationError("the replay of the live jobs is not what was committed")
        check(core.shop)
        recovery_s = core.shop.settings.recovery_s * (1.0 - DRIFT_MAX)
        self._patient_until = self._world.now + recovery_s if core.shop.epoch > 1 else 0.0

    def on_coordinator_batch(self, core: CoordinatorCore) -> None:
        """A batch of events was handled."""
        shop = core.shop
        for worker in shop.fleet.workers.values():
            if worker.reserved_for is not None:
                self._world.mark("reserved")
            if worker.backlog:
                self._world.mark("backlog")
        self._batches += 1
        if self._batches % self._every == 0:
            check(shop)

    def on_commit(self, records: list[Record]) -> None:
        """A batch became durable."""
        assert self._core is not None, "who commits has started"
        check_rooms(self._world, self._core, self._shadow, records)
        for record in records:
            self._on_record(record)
        self.stays.on_commit(records)
        self._check_gangs(records)

    def _check_gangs(self, records: list[Record]) -> None:
        """All ranks of a gang start in one batch, or none."""
        started = {r.job_id: r.attempt for r in records if isinstance(r, AttemptStarted)}
        for job_id, attempt in started.items():
            ranks = self._ranks(job_id)
            if any(started.get(rank) != attempt for rank in ranks):
                raise SimulationError(f"half a gang starts: {job_id}#{attempt} of {ranks}")
            if len(ranks) > 1:
                self._world.mark("gang_started")

    def _ranks(self, job_id: str) -> list[str]:
        spec = self._disk.specs[job_id]
        lead_id = job_id if spec.part is None else spec.part.job_id
        nodes = self._disk.specs[lead_id].nodes or 1
        return [lead_id, *(f"{lead_id}.rank{rank}" for rank in range(1, nodes))]

    def compare(self, core: CoordinatorCore) -> None:
        """Memory must be the replay of the disk, when nothing is on its way there."""
        if core.shop.ledger != self._shadow:
            raise SimulationError("memory is not the replay of the disk")
        check(core.shop)

    def _on_record(self, record: Record) -> None:
        match record:
            case JobSubmitted():
                if record.job_id in self._ended:
                    raise SimulationError(f"{record.job_id} was accepted again after its end")
                if record.owner != token_of(record.client_id):
                    raise SimulationError(f"{record.job_id} is not of its client: {record.owner}")
            case AttemptStarted():
                self._on_started(record)
            case AttemptPlaced():
                self._on_placed(record)
            case AttemptLeft():
                self._world.mark(f"left: {record.cause}")
                if "others have the room" in record.reason:
                    self._world.mark("prepared_and_sent_back")
                if "was lost" in record.reason:
                    kind = self._disk.specs[record.job_id].kind
                    self._world.mark(f"lease_expired: {kind}")
                    self._check_patience(record.job_id)
                self._check_not_thrown_away(record.job_id, record.attempt, record.reason)
                if record.cause in ("paused", "preempted"):
                    self._check_over(record.job_id, record.attempt)
            case PauseRequested() | PauseWithdrawn() | JobResumed():
                self._on_pause(record)
            case FileKept():
                self._world.mark("file_kept")
                self._kept[record.job_id, record.file.file_id] = None
            case CancelRequested():
                self._world.mark("cancel_while_leased")
                self._cancelled[record.job_id] = None
            case JobFinished(outcome=outcome):
                self._on_finished(record.job_id, outcome)
        self._shadow.apply(record)  # Raises if history contradicts itself.

    def _on_pause(self, record: PauseRequested | PauseWithdrawn | JobResumed) -> None:
        if isinstance(record, PauseRequested):
            self._world.mark(f"pause: {record.cause}, {record.mode}")
            if record.cause == "user":
                self._wanted_still[record.job_id] = None
        else:
            self._world.mark("resumed" if isinstance(record, JobResumed) else "pause_withdrawn")
            self._wanted_still.pop(record.job_id, None)

    def _check_patience(self, job_id: str) -> None:
        assert self._core is not None, "who judges has started"
        state = self._shadow.jobs[JobId(job_id)].state
        shop = self._core.shop
        worker = shop.fleet.known.get(state.worker_id) if isinstance(state, Leased) else None
        # Whoever was heard since the start is judged by what it did after it.
        was_heard = worker is not None and worker.heard_at > shop.started_at
        if self._world.now < self._patient_until and not was_heard:
            raise SimulationError(f"{job_id} is judged lost right after the coordinator's start")

    def _on_started(self, record: AttemptStarted) -> None:
        job_id = record.job_id
        self._started[job_id, record.attempt] = None
        if job_id in self._cancelled:
            raise SimulationError(f"{job_id} was cancelled and starts again")
        if job_id in self._wanted_still:
            raise SimulationError(f"{job_id} was paused and starts again")
        self._check_array(job_id)
        self._check_line(job_id)
        self._goes_on_from[job_id, record.attempt] = self._shadow.jobs[JobId(job_id)].checkpoint
        for other in self._disk.specs[job_id].after or ():
            outcome = self._ended.get(other)
            if outcome is None or outcome.status != "succeeded":
                raise SimulationError(f"{job_id} starts before {other}, which it comes after")

    def _on_placed(self, record: AttemptPlaced) -> None:
        self._world.mark("placed")
        if record.job_id in self._cancelled or record.job_id in self._wanted_still:
            raise SimulationError(f"{record.job_id} was cancelled or paused and is placed")

    def _check_array(self, job_id: str) -> None:
        item = self._disk.specs[job_id].array
        if item is None or item.at_most is None:
            return
        under_way = sum(
            isinstance(job.state, Leased)
            and job.spec.array is not None
            and job.spec.array.array_id == item.array_id
            for job in self._shadow.jobs.values()
        )
        if under_way >= item.at_most:
            raise SimulationError(f"{job_id} starts beside {under_way} of its array")
        self._world.mark("array_at_its_limit" if under_way + 1 == item.at_most else "array_item")

    def _check_line(self, job_id: str) -> None:
        line = self._disk.specs[job_id].line
        if line is None:
            return
        under_way = sum(
            isinstance(job.state, Leased)
            and job.spec.line is not None
            and job.spec.line.name == line.name
            for job in self._shadow.jobs.values()
        )
        if under_way >= line.at_most:
            raise SimulationError(f"{job_id} starts beside {under_way} of its line")
        self._world.mark("line_at_its_limit")

    def _on_finished(self, job_id: str, outcome: Outcome) -> None:
        job = self._shadow.jobs.get(job_id)
        self._ended[job_id] = outcome
        if job is None:
            raise SimulationError(f"{job_id} ends twice, or was never accepted")
        if outcome != self._disk.outcomes[job_id]:
            raise SimulationError(f"{job_id} has two outcomes")
        self._world.mark(f"finished: {outcome.status}")
        if outcome.failure is not None and outcome.status == "failed":
            self._world.mark(f"failed: {outcome.failure.cause}")
        if outcome.status == "succeeded":
            if any((rank, outcome.attempt) not in self._succeeded for rank in self._ranks(job_id)):
                raise SimulationError(f"{job_id} never succeeded in attempt {outcome.attempt}")
            if outcome.result != result_of(job_id, outcome.attempt):
                raise SimulationError(f"{job_id} has the result of another attempt")
            return
        reason = outcome.reason or (outcome.failure.message if outcome.failure else "")
        if isinstance(job.state, Leased):
            self._check_not_thrown_away(job_id, job.state.attempt, reason)
            if not any(words in reason for words in LOST):
                self._check_over(job_id, job.state.attempt)
        elif outcome.status == "cancelled":
            self._world.mark("cancel_while_waiting")

    def _check_not_thrown_away(self, job_id: str, attempt: int, reason: str) -> None:
        key = (job_id, attempt)
        if (
            key not in self._succeeded
            or len(self._ranks(job_id)) > 1  # What one rank made is of no use without the others.
            or key in self._refused
            or any(words in reason for words in LOST)
        ):
            return
        if any(key in machine.processes for machine in self.machines):
            raise SimulationError(f"{key} succeeded and is thrown away: {reason}")

    def _check_over(self, job_id: str, attempt: int) -> None:
        for machine in self.machines:
            process = machine.processes.get(AttemptKey(job_id, attempt))
            if process is not None and process.is_executing:
                raise SimulationError(f"{job_id} has ended and runs on {machine.name}")

    def on_send(self, message: Wire) -> None:
        """The coordinator says something: it must be durable already."""
        match message:
            case Accepted(job_id=job_id):
                if job_id not in self._disk.specs:
                    raise SimulationError(f"{job_id} is accepted and not on disk")
            case Finished(outcome=outcome):
                if self._disk.outcomes.get(outcome.job_id) != outcome:
                    raise SimulationError(f"the outcome of {outcome.job_id} is not on disk")
            case Assign():
                self._on_assign(message)
            case Place(job_id=job_id, attempt=attempt):
                self._on_place(job_id, attempt)
            case KeptAck():
                self._on_kept_ack(message)
            case SetPause(mode=mode):
                self._world.mark(f"set_pause: {mode}")
            case EventsAck(job_id=job_id, attempt=attempt, seq=seq):
                job = self._shadow.jobs.get(job_id)
                is_current = (
                    job is not None
                    and isinstance(job.state, Leased)
                    and job.state.attempt == attempt
                )
                if is_current and (attempt, seq) not in self._disk.events.get(job_id, {}):
                    raise SimulationError(f"events of {job_id} are not on disk")
            case Recall():
                self._world.mark("recall")
            case Stop(job_id=job_id):
                self._world.mark("stop_sent")
                if len(self._ranks(job_id)) == 1:
                    self._cancelled[job_id] = None
            case Refused():
                self._world.mark("refused")
            case _:
                pass

    def _on_assign(self, assign: Assign) -> None:
        key = (assign.job.job_id, assign.attempt)
        if key not in self._started:
            raise SimulationError(f"attempt {key} is not on disk")
        if assign.checkpoint != self._goes_on_from[key]:
            raise SimulationError(f"{key} does not go on from where it was")
        if assign.checkpoint is not None:
            self._world.mark("goes_on_from_checkpoint")

    def _on_place(self, job_id: str, attempt: int) -> None:
        match self._shadow.jobs.get(JobId(job_id)):
            case Job(state=Leased(attempt=current, is_placed=False)) if current == attempt:
                raise SimulationError(f"the place of {job_id}#{attempt} is not on disk")
            case _:
                pass

    def _on_kept_ack(self, ack: KeptAck) -> None:
        job = self._shadow.jobs.get(JobId(ack.job_id))
        is_current = (
            job is not None and isinstance(job.state, Leased) and job.state.attempt == ack.attempt
        )
        if is_current and (ack.job_id, ack.file_id) not in self._kept:
            raise SimulationError(f"file {ack.file_id} of {ack.job_id} is not on disk")

    # --- the machines ---

    def on_began(self, machine: Machine, process: Process) -> None:
        """A process began."""
        job_id, attempt = process.key
        if (job_id, attempt) not in self._started:
            raise SimulationError(f"{process.key} begins and nobody promised it")
        self._world.note(machine.name, f"begins {job_id}#{attempt}")
        job = self._shadow.jobs.get(job_id)
        state = job.state if job is not None else None
        if isinstance(state, Leased) and state.attempt == attempt and not state.is_placed:
            raise SimulationError(f"{process.key} begins and has no place")
        if process.assign.job.kind != "pipeline":
            return
        ranks = self._ranks(job_id)
        for other in self.machines:
            for rival in other.executing():
                is_of_another_round = rival.key.job_id in ranks and rival.key.attempt != attempt
                is_itself = rival.key.job_id == job_id and rival is not process
                if is_itself or is_of_another_round:
                    raise SimulationError(
                        f"{process.key} begins on {machine.name} beside {rival.key} on {other.name}"
                    )

    def on_over(self, machine: Machine, process: Process) -> None:
        """A process is gone."""
        assert process.result is not None, "what is over has a result"
        self._world.note(machine.name, f"ends {process.key}: {process.result.status}")
        if process.result.status == "succeeded":
            self._succeeded[process.key] = None

    def are_peers_there(self, process: Process) -> bool:
        """Whether all ranks of its gang run, or have succeeded, in the same round."""
        ranks = {AttemptKey(JobId(r), process.key.attempt) for r in self._ranks(process.key.job_id)}
        there = {
            key
            for machine in self.machines
            for key, other in machine.processes.items()
            if key in ranks and (other.is_executing or key in self._succeeded)
        }
        return there == ranks

    def on_result_refused(self, key: AttemptKey) -> None:
        """The coordinator has no room for a result: it may be thrown away."""
        self._refused[key] = None

    def on_forgotten(self, machine: Machine, key: AttemptKey) -> None:
        """A daemon deletes the spool of an attempt."""
        process = machine.processes.get(key)
        if process is None or process.result is None or key not in self._succeeded:
            return
        job = self._shadow.jobs.get(key.job_id)
        if job is not None and isinstance(job.state, Leased) and job.state.attempt == key.attempt:
            raise SimulationError(f"{machine.name} forgets {key}, which is not settled")

    # --- the users ---

    def on_told_accepted(self, job_id: str) -> None:
        """A user was told that his job is safe."""
        if job_id not in self._disk.specs:
            raise SimulationError(f"a user thinks {job_id} is safe; it is not on disk")

    def on_told_refused(self, wish: Wish, code: str, *, accepted: Mapping[str, Wish]) -> None:
        """A user was told that his job is not kept."""
        spec = wish.spec
        if code == "invalid":
            # The one reason here: nobody can say what became of it, or of what it comes after.
            if not any(map(self._disk.is_unreadable, (spec.job_id, *(spec.after or ())))):
                raise SimulationError(f"{spec.job_id} can be read and is refused as unreadable")
            self._world.mark("told_unreadable")
            return
        if spec.job_id in self._disk.specs:
            raise SimulationError(f"{spec.job_id} is refused ({code}) and on disk")
        match code:
            case "unknown_job":
                is_right = any(other not in accepted for other in spec.after or ())
            case "unplaceable":
                is_right = _is_special(spec)
            case "draining":
                is_right = self._world.marks["graceful_stop"] > 0
            case _:
                is_right = False
        if not is_right:
            raise SimulationError(f"{spec.job_id} is refused as {code}")

    def on_told_finished(
        self, outcome: Outcome, *, events: Sequence[tuple[int, int]] | None
    ) -> None:
        """A user was told how his job ended, after these events if he wanted them."""
        if self._disk.outcomes.get(outcome.job_id) != outcome:
            raise SimulationError(f"a user was told another end of {outcome.job_id}")
        if events is not None:
            kept = sorted(self._disk.events.get(outcome.job_id, {}))
            if list(events) != kept:
                raise SimulationError(f"{outcome.job_id} said {kept}, a user heard {events}")
            if kept:
                self._world.mark("events_heard")


def _is_special(spec: JobSpec) -> bool:
    return any(
        wanted is not None for wanted in (spec.resources, spec.tags, spec.worker_id, spec.python)
    )


def check_bench(core: WorkerCore) -> None:
    """Compare a worker's books with each other.

    Raises:
        SimulationError: They contradict each other.
    """
    bench = core.bench
    executing = [a for a in bench.attempts.values() if a.phase in EXECUTING]
    if bench.used_slots != sum(not attempt.is_suspended for attempt in executing):
        raise SimulationError(f"{bench.used_slots} slots are not what {executing} use")
    for attempt in bench.attempts.values():
        if (attempt.phase is Phase.WAITING) != (attempt.key in bench.waiting):
            raise SimulationError(f"{attempt} is waiting, or is not")
        on_lane = attempt.phase in (*EXECUTING, Phase.HANDED)
        if on_lane != (attempt.lane is not None):
            raise SimulationError(f"{attempt} is on a lane, or is not")
    for index, lane in bench.lanes.items():
        if not lane.keys:
            raise SimulationError(f"lane {index} is kept for nothing")
        for place, key in enumerate(lane.keys):
            attempt = bench.attempts.get(key)
            if attempt is None or attempt.lane != index:
                raise SimulationError(f"{key} is on lane {index}, or is not")
            if (place > 0) != (attempt.phase is Phase.HANDED):
                raise SimulationError(f"{attempt} is number {place} of its lane")
    for key in bench.waiting:
        if key not in bench.attempts:
            raise SimulationError(f"{key} waits and is not there")
