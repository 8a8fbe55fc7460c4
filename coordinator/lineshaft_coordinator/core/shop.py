"""What the parts of the core share: the books, the clock of this call, and the way out."""

from collections import OrderedDict
from dataclasses import dataclass, field

from lineshaft_coordinator.core.arrays import Arrays
from lineshaft_coordinator.core.deadlines import Deadlines
from lineshaft_coordinator.core.environment_hits import EnvironmentHits
from lineshaft_coordinator.core.fleet import Fleet, Lease
from lineshaft_coordinator.core.gang_parts import Gang, part_id
from lineshaft_coordinator.core.io import Append, Close, Effect, Lookup, Send
from lineshaft_coordinator.core.ledger import Job, Ledger
from lineshaft_coordinator.core.queues import Queues
from lineshaft_coordinator.core.records import Record
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.core.shapes import PlainShapes, Shape
from lineshaft_protocol.client_messages import Cancel, Submit, ToClient, Watch
from lineshaft_protocol.ids import ClientId, JobId, Session
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.worker_messages import SpawnChild, ToWorker

PACES_MAX = 10_000


LookedUp = Submit | Cancel | Watch | SpawnChild

Alarm = tuple[str, str | int]
"""What a deadline is for, and whom it concerns."""


@dataclass(slots=True)
class ClientSession:
    """One connection of a client."""

    session: Session
    heard_at: float
    client_id: ClientId | None = None
    """Known once it said hello."""
    owner: str | None = None
    """Id of its token: whose its jobs are."""
    watched: dict[JobId, bool] = field(default_factory=dict)
    """Jobs whose outcome it waits for; True where it wants to hear the events as well."""


@dataclass(slots=True)
class Shop:
    """All state of the coordinator's core. Only ``ledger`` survives a restart."""

    settings: CoreSettings
    ledger: Ledger
    epoch: int
    started_at: float
    now: float
    fleet: Fleet = field(default_factory=Fleet)
    queues: Queues = field(default_factory=Queues)
    deadlines: Deadlines[Alarm] = field(default_factory=Deadlines[Alarm])
    clients: dict[Session, ClientSession] = field(default_factory=dict)
    watchers: dict[JobId, dict[Session, None]] = field(default_factory=dict)
    blocked: dict[JobId, dict[JobId, None]] = field(default_factory=dict)
    """Jobs that wait for others, with those they still wait for."""
    dependents: dict[JobId, dict[JobId, None]] = field(default_factory=dict)
    children: dict[JobId, dict[JobId, None]] = field(default_factory=dict)
    """Live jobs that a running plan asked for, by the plan's job."""
    delayed: dict[JobId, None] = field(default_factory=dict)
    """Jobs that wait before their next attempt."""
    plain_shapes: PlainShapes = field(default_factory=PlainShapes)
    arrays: Arrays = field(default_factory=Arrays)
    """Items of job arrays of which only so many may be under way."""
    paces: OrderedDict[str, float] = field(default_factory=OrderedDict[str, float])
    """How long attempts of the same code took lately, in seconds."""
    pending: dict[JobId, list[tuple[Session, LookedUp]]] = field(default_factory=dict)
    """Messages about jobs that left memory; they are handled once the job was looked up."""
    submitting: dict[JobId, JobId] = field(default_factory=dict)
    """Jobs whose Submit is among the pending, and which job's lookup it waits for."""
    had_ended: dict[JobId, None] = field(default_factory=dict)
    """Jobs of whom it was known that they ended when they were looked up: if the history does not
    have them any longer, they were pruned."""
    pausing: dict[JobId, list[tuple[Session, int]]] = field(default_factory=dict)
    """Requests to be answered once the job has paused, or will not."""
    preemptible: dict[JobId, None] = field(default_factory=dict)
    """Leased jobs that may be asked to pause for others."""
    gangs: dict[JobId, Gang] = field(default_factory=dict)
    """By their leads."""
    stale_count: int = 0
    """What workers wanted to write of attempts that were not theirs any more."""
    environment_hits: EnvironmentHits = field(default_factory=EnvironmentHits)
    effects: list[Effect] = field(default_factory=list)
    is_stopping: bool = False

    def record(self, record: Record) -> None:
        """Make something true, here and on disk."""
        self.ledger.apply(record)
        self.effects.append(Append(record))

    def send(self, session: Session, message: ToClient | ToWorker) -> None:
        """Tell a peer, once everything recorded so far is durable."""
        self.effects.append(Send(session, message))

    def close(self, session: Session, code: int, reason: str) -> None:
        """End a session."""
        self.effects.append(Close(session, code, reason))

    def look_up(self, job_id: JobId, session: Session, message: LookedUp) -> None:
        """Put a message off until the store said what it knows of the job."""
        if isinstance(message, Submit):
            self.submitting[JobId(message.job.job_id)] = job_id
        waiting = self.pending.setdefault(job_id, [])
        waiting.append((session, message))
        if len(waiting) == 1:
            self.effects.append(Lookup(job_id))
            if job_id in self.ledger.recent:
                self.had_ended[job_id] = None

    def job(self, job_id: JobId) -> Job:
        """A live job."""
        return self.ledger.jobs[job_id]

    def take_out(self, job_id: JobId, spec: JobSpec) -> tuple[Shape, float | None]:
        """Take a job that is given away out of its line, as one that was served.

        Returns:
            What it asks for, and what is left of its ``queue_timeout`` in seconds, if it has one.
        """
        until = self.deadlines.clear(("queue", job_id))
        left_s = None if until is None else until - self.now
        if job_id in self.queues:
            return self.queues.remove(job_id, now=self.now, is_served=True), left_s
        return Shape.of(spec), left_s  # A part of a gang: only their lead waits in a line.

    def had_no_room(self, job_id: JobId, lease: Lease) -> None:
        """An attempt left that only waited: nobody was served, and its job's wait goes on."""
        self.queues.give_back(self.job(job_id).client_id)
        if lease.wait_left_s is not None and ("queue", job_id) in self.deadlines:
            self.deadlines.set(("queue", job_id), self.now + lease.wait_left_s)

    def open_gang(self, lead_id: JobId) -> Gang:
        """Begin to look after a gang all of whose jobs are live."""
        nodes = self.job(lead_id).spec.nodes or 1
        others = tuple(part_id(lead_id, rank) for rank in range(1, nodes))
        gang = self.gangs[lead_id] = Gang((lead_id, *others))
        return gang

    def gang_of(self, job_id: JobId) -> Gang | None:
        """The gang in which a live job is a rank."""
        if not self.gangs:
            return None
        part = self.job(job_id).spec.part
        return self.gangs.get(job_id if part is None else JobId(part.job_id))

    def pace_of(self, spec: JobSpec) -> float | None:
        """How long such jobs took lately; None when none has ended yet."""
        code = spec.code
        return self.paces.get(code) if code is not None else None

    def note_pace(self, spec: JobSpec, run_s: float) -> None:
        """Learn from an attempt: quickly when it was slower than thought, slowly when faster."""
        if (code := spec.code) is None:
            return
        known = self.paces.get(code)
        if known is None:
            self.paces[code] = run_s
            if len(self.paces) > PACES_MAX:
                self.paces.popitem(last=False)
        else:
            self.paces[code] = known + (run_s - known) * (0.5 if run_s > known else 0.1)
