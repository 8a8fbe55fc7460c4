"""What we believe about the workers; all of it is gone, and rebuilt, when we restart.

A worker is *here* while it has a session, and *away* while leases name it and it has none. Its
leases are of three sorts: ``running`` ones occupy its resources, ``backlog`` ones wait at the
worker for its next free slot and occupy nothing yet, and for ``preparing`` ones it makes an
environment: they occupy nothing either, until they are placed. ``suspended`` ones run a plan that
waits for a child job: they keep memory and devices but give their slot away.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from pydantic import JsonValue

from lineshaft_coordinator.core.shapes import EnvironmentKey, Shape
from lineshaft_protocol.figures import Figures
from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.resources import Capacity, Resources
from lineshaft_protocol.worker_messages import LeaveNow, MeetingPlace, Register

ENVIRONMENTS_MAX = 256
"""Of how many environments is remembered that a worker has them."""

NO_SESSION = Session(0)
"""Older than every session."""


@dataclass(slots=True)
class Lease:
    """One attempt that a worker has."""

    attempt: int
    shape: Shape
    devices: tuple[str, ...] = ()
    is_started: bool = False
    """The worker said that it runs."""
    doing: str = ""
    """What the worker does for it before it starts."""
    is_recalled: bool = False
    is_frozen: bool = False
    """The worker said that its processes stand still; it occupies as much as before."""
    spared_until: float = 0.0
    """It did not pause for another job, and is not asked again before."""
    wait_left_s: float | None = None
    """What was left of its job's `queue_timeout`: that goes on if it leaves before it has room."""
    port: int | None = None
    """Where its gang meets, if it is rank 0."""
    child_count: int = 0
    event_seq: int = 0
    """The last event of the attempt that we kept."""


@dataclass(slots=True)
class DeviceUse:
    """What is promised of one GPU."""

    job_count: int = 0
    memory_bytes: int = 0
    is_exclusive: bool = False


@dataclass(slots=True)
class Worker:
    """One worker, here or away."""

    worker_id: WorkerId
    session: Session | None = None
    last_session: Session = NO_SESSION
    """The newest it registered on; what an older one says of it is out of date."""
    incarnation: str = ""
    capacity: Capacity | None = None
    tags: frozenset[str] = frozenset()
    pythons: tuple[str, ...] = ()
    heard_at: float = 0.0
    gone_at: float | None = None
    """When its connection ended; ``None`` while it is here."""
    is_draining: bool = False
    leave_now: LeaveNow | None = None
    """What an operator asked of this incarnation, until it says that it drains."""
    reserved_for: Shape | None = None
    """The shape it is set aside for: others wait until that one fits."""
    reserved_priority: int = 0
    meeting: MeetingPlace | None = None
    """Where a gang can meet whose rank 0 runs there, as it said last."""
    running: dict[JobId, Lease] = field(default_factory=dict)
    backlog: OrderedDict[JobId, Lease] = field(default_factory=OrderedDict[JobId, Lease])
    preparing: dict[JobId, Lease] = field(default_factory=dict)
    environments: OrderedDict[EnvironmentKey, None] = field(
        default_factory=OrderedDict[EnvironmentKey, None]
    )
    """Those it had when we last heard of them; wrong ones cost time, and nothing else."""
    used_slots: int = 0
    used_cpus: float = 0.0
    used_memory_bytes: int = 0
    devices: dict[str, DeviceUse] = field(default_factory=dict)
    ended_at: float = 0.0
    """When an attempt of it last ended."""
    load: dict[str, JsonValue] = field(default_factory=dict)
    figures: Figures | None = None
    """What this start of its daemon counted, as it said last."""
    register: Register | None = None

    @property
    def is_here(self) -> bool:
        """Whether it can be spoken to."""
        return self.session is not None and self.capacity is not None

    @property
    def has_gangs(self) -> bool:
        """Whether it knows how to run a part of a gang."""
        return self.register is not None and "gangs" in self.register.versions.features

    @property
    def free_meeting(self) -> MeetingPlace | None:
        """The same, if no gang of ours meets there already."""
        place = self.meeting
        if place is None or any(lease.port == place.port for lease in self.running.values()):
            return None
        return place

    def lease_of(self, job_id: JobId) -> Lease | None:
        """Its lease of this job."""
        return self.running.get(job_id) or self.backlog.get(job_id) or self.preparing.get(job_id)

    def lease_ids(self) -> tuple[JobId, ...]:
        """Every job it has."""
        return (*self.running, *self.backlog, *self.preparing)

    def waiting_lease(self, job_id: JobId) -> Lease | None:
        """Its lease of this job, if it cannot have begun it, as far as we know."""
        return self.backlog.get(job_id) or self.preparing.get(job_id)

    def keep(self, job_id: JobId, lease: Lease, *, is_backlog: bool, is_unplaced: bool) -> None:
        """Count a lease among those of its sort."""
        if is_unplaced:
            self.preparing[job_id] = lease
        elif is_backlog:
            self.backlog[job_id] = lease
        else:
            self.occupy(job_id, lease)

    def occupy(self, job_id: JobId, lease: Lease) -> None:
        """Count a lease against the worker's resources."""
        self.running[job_id] = lease
        wanted = lease.shape.resources
        self.used_slots += lease.child_count == 0
        self.used_cpus += wanted.cpus
        self.used_memory_bytes += wanted.memory_bytes
        for uuid in lease.devices:
            use = self.devices.setdefault(uuid, DeviceUse())
            use.job_count += 1
            use.memory_bytes += wanted.gpu_memory_bytes
            use.is_exclusive = wanted.gpu_memory_bytes == 0

    def vacate(self, job_id: JobId) -> Lease | None:
        """Forget a lease and what it occupied."""
        if (waiting := self.backlog.pop(job_id, None)) is not None:
            return waiting
        if (unplaced := self.preparing.pop(job_id, None)) is not None:
            return unplaced
        if (lease := self.running.pop(job_id, None)) is None:
            return None
        wanted = lease.shape.resources
        self.used_slots -= lease.child_count == 0
        self.used_cpus -= wanted.cpus
        self.used_memory_bytes -= wanted.memory_bytes
        for uuid in lease.devices:
            self._vacate_device(uuid, wanted)
        return lease

    def _vacate_device(self, uuid: str, wanted: Resources) -> None:
        use = self.devices[uuid]
        use.job_count -= 1
        use.memory_bytes -= wanted.gpu_memory_bytes
        if use.job_count == 0:
            del self.devices[uuid]

    def suspend(self, job_id: JobId) -> None:
        """Its plan waits for one more child: the slot is free meanwhile."""
        lease = self.running.get(job_id)
        if lease is not None:
            self.used_slots -= lease.child_count == 0
            lease.child_count += 1

    def resume(self, job_id: JobId) -> None:
        """One of the children it waited for has ended."""
        lease = self.running.get(job_id)
        if lease is not None and lease.child_count:
            lease.child_count -= 1
            self.used_slots += lease.child_count == 0

    def promote(self, job_id: JobId) -> None:
        """A backlog lease started."""
        if (lease := self.backlog.pop(job_id, None)) is not None:
            self.occupy(job_id, lease)

    def place(self, job_id: JobId, devices: tuple[str, ...]) -> Lease:
        """A lease that was prepared gets its slot and these devices."""
        lease = self.preparing.pop(job_id)
        lease.devices = devices
        self.occupy(job_id, lease)
        return lease

    def note_environment(self, key: EnvironmentKey | None) -> None:
        """It has this environment, if it is one."""
        if key is None:
            return
        self.environments[key] = None
        self.environments.move_to_end(key)
        if len(self.environments) > ENVIRONMENTS_MAX:
            self.environments.popitem(last=False)


@dataclass(slots=True)
class Fleet:
    """All workers that are here, or that a lease names."""

    workers: dict[WorkerId, Worker] = field(default_factory=dict)
    by_session: dict[Session, Worker] = field(default_factory=dict)
    known: dict[WorkerId, Worker] = field(default_factory=dict)
    """The same workers, and those that were here since we started: what may come back."""
    open: dict[WorkerId, Worker] = field(default_factory=dict)
    """Workers that are here and not draining."""
    free: dict[WorkerId, Worker] = field(default_factory=dict)
    """Those of them that may have a free slot; one found full is left out until it changes."""

    def worker(self, worker_id: WorkerId) -> Worker:
        """The worker of this name, known from now on."""
        if (known := self.workers.get(worker_id)) is None:
            known = self.known.get(worker_id) or Worker(worker_id)
            self.workers[worker_id] = self.known[worker_id] = known
        return known

    def attach(self, worker: Worker, session: Session, now: float) -> None:
        """The worker speaks on this session from now on."""
        worker.session = worker.last_session = session
        worker.heard_at, worker.gone_at = now, None
        self.by_session[session] = worker
        self.open[worker.worker_id] = self.free[worker.worker_id] = worker

    def detach(self, worker: Worker, now: float) -> None:
        """The worker's session is gone; its leases stay."""
        assert worker.session is not None, "a worker is detached once"
        del self.by_session[worker.session]
        worker.session, worker.gone_at, worker.reserved_for = None, now, None
        self.changed(worker)

    def forget_if_idle(self, worker: Worker) -> None:
        """Drop a worker that is away and has nothing of ours."""
        if worker.session is None and not worker.lease_ids():
            self.workers.pop(worker.worker_id, None)

    def changed(self, worker: Worker) -> None:
        """The worker may have room again."""
        if worker.is_here and not worker.is_draining:
            self.open[worker.worker_id] = self.free[worker.worker_id] = worker
        else:
            self.open.pop(worker.worker_id, None)
            self.free.pop(worker.worker_id, None)
