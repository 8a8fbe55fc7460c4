"""The attempts a worker has, and what each occupies.

Phases, and what moves an attempt on:

    FETCHING ─ blobs here ─► (PREPARING ─ environment here ─►) WAITING ─ a lane ─► RUNNING
    An attempt without a place is PREPARED before it is WAITING, until it is placed.
    RUNNING ──► (STORING ──►) ENDED ──► settled
    HANDED: behind another on its lane; WAITING again when it is taken back.
    STOPPING: told to end, not over yet; its devices are taken until it is.
    CHECKING: no process of it is left; its devices are taken until their memory is seen to be free.

The worker, not the coordinator, guards its slots, memory and GPUs: what the coordinator believes
of us is always a little old.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import BlobId, JobId
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult, Failure
from lineshaft_protocol.resources import Capacity, Resources
from lineshaft_protocol.worker_messages import Assign, Held, PauseMode
from lineshaft_worker.core.io import AttemptKey

ONE_SLOT = Resources()
EPSILON = 1e-9


class Phase(Enum):
    """Where an attempt is on this worker."""

    FETCHING = "fetching"
    PREPARING = "preparing"
    PREPARED = "prepared"
    WAITING = "waiting"
    HANDED = "handed"
    RUNNING = "running"
    STOPPING = "stopping"
    CHECKING = "checking"
    STORING = "storing"
    ENDED = "ended"


BEGAN = (Phase.RUNNING, Phase.STOPPING, Phase.CHECKING, Phase.STORING, Phase.ENDED)
_TO_START = frozenset({Phase.FETCHING, Phase.PREPARING, Phase.PREPARED, Phase.WAITING})
_GOING_ON = _TO_START | {Phase.HANDED, Phase.RUNNING}


@dataclass(slots=True)
class Attempt:
    """One attempt, from its Assign until it is settled."""

    key: AttemptKey
    assign: Assign
    phase: Phase
    lane: int | None = None
    result: AttemptResult | None = None
    must_store: bool = False
    """Its result lies in a file, and is told when the coordinator has that."""
    unacked: OrderedDict[int, JobEvent] = field(default_factory=OrderedDict[int, JobEvent])
    """Events by number that the coordinator has not got for sure."""
    children: dict[JobId, JobSpec] = field(default_factory=dict)
    """Child jobs it waits for."""
    files: OrderedDict[str, KeptFile] = field(default_factory=OrderedDict[str, KeptFile])
    """Files by id that the coordinator has not put on record for sure."""
    pause: PauseMode | Literal["unknown"] = "none"
    """What it was asked last; unknown of what a daemon before us started."""
    is_frozen: bool = False
    has_begun: bool = False
    doing: str = ""
    """What is done for it while it is PREPARING."""
    is_suspended: bool = False
    """It waits for a child and gave its slot away."""
    verdict: Failure | None = None
    """Why we end it, where that is its own fault."""
    is_stop_wanted: bool = False
    is_recalled: bool = False
    is_forgotten: bool = False
    """Its end will not be told: the coordinator settled it already."""

    @property
    def wanted(self) -> Resources:
        """What it occupies besides a slot."""
        return self.assign.job.resources or ONE_SLOT

    def held(self) -> Held:
        """Say that we have it, for a Register."""
        return Held(
            job_id=self.key.job_id,
            attempt=self.key.attempt,
            is_running=self.phase in BEGAN,
            devices=self.assign.devices,
            pause=self.pause,
            is_unplaced=self.assign.is_unplaced,
        )

    @property
    def is_to_start(self) -> bool:
        """Whether no runner was given it yet."""
        return self.phase in _TO_START

    @property
    def blob_ids(self) -> tuple[BlobId, ...]:
        """What must be here before it can begin."""
        job, checkpoint = self.assign.job, self.assign.checkpoint
        saved = checkpoint.blob if checkpoint is not None else None
        named = (*job.blobs, saved)
        return tuple(BlobId(blob) for blob in named if blob is not None)

    @property
    def is_going_on(self) -> bool:
        """Whether it waits or runs, and nobody has told it to end."""
        return not self.is_stop_wanted and self.phase in _GOING_ON

    def judged(self, result: AttemptResult) -> AttemptResult:
        """What is told of its end: what we ended by a verdict has failed."""
        if self.verdict is None or result.status != "stopped":
            return result
        return result.model_copy(update={"status": "failed", "failure": self.verdict})

    def is_lease_over(self, now: float, acked_at: float | None) -> bool:
        """Whether others may have begun it by now, for all we know."""
        lease_s = self.assign.lease_s
        return lease_s is not None and acked_at is not None and now >= acked_at + lease_s

    def is_brief(self, within_s: float) -> bool:
        """Whether such code takes so little that it may wait on a lane behind another."""
        job, expected_s = self.assign.job, self.assign.expected_s
        return (
            job.kind == "function"
            and job.resources is None
            and expected_s is not None
            and expected_s <= within_s
        )


def key_of(job_id: str, attempt: int) -> AttemptKey:
    """Name an attempt of which a message speaks."""
    return AttemptKey(JobId(job_id), attempt)


def own_result(attempt: Attempt, status: str, failure: Failure | None = None) -> AttemptResult:
    """Say how an attempt ended that no runner tells of."""
    assert status in ("failed", "stopped"), "only a runner makes a success"
    return AttemptResult(
        job_id=attempt.key.job_id,
        attempt=attempt.key.attempt,
        status="failed" if status == "failed" else "stopped",
        failure=failure,
    )


@dataclass(slots=True)
class Lane:
    """What one runner was given: the first is executed, the others follow."""

    keys: OrderedDict[AttemptKey, None] = field(default_factory=OrderedDict[AttemptKey, None])
    since: float = 0.0
    """When its first became first."""
    expected_s: float = 0.0
    """How long all of it should take."""
    is_revoking: bool = False


class Bench:
    """Slots, memory and devices of this machine, and who has them."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.waiting: OrderedDict[AttemptKey, None] = OrderedDict()
        self.lanes: dict[int, Lane] = {}
        self.used_slots = 0
        self._used_cpus = 0.0
        self._used_memory_bytes = 0
        self._devices: dict[str, dict[AttemptKey, int]] = {}
        self._executing: dict[JobId, int] = {}
        """Jobs that have an attempt with a process, and how many."""

    def has_free_slot(self) -> bool:
        """Whether anything at all may start."""
        return self.used_slots < self.capacity.slots

    def fits(self, attempt: Attempt) -> bool:
        """Whether the attempt may start now without taking what another has."""
        wanted, capacity = attempt.wanted, self.capacity
        return (
            self.has_free_slot()
            # An older attempt of the job may take its time to end.
            and attempt.key.job_id not in self._executing
            and self._used_cpus + wanted.cpus <= capacity.cpus + EPSILON
            and (
                not wanted.memory_bytes
                or self._used_memory_bytes + wanted.memory_bytes <= capacity.memory_bytes
            )
            and all(
                self._device_fits(uuid, wanted.gpu_memory_bytes)
                for uuid in attempt.assign.devices or ()
            )
        )

    def may_ever_fit(self, attempt: Attempt) -> bool:
        """Whether the attempt could start here once all others have ended."""
        wanted, capacity = attempt.wanted, self.capacity
        healthy = {gpu.uuid: gpu.memory_bytes for gpu in capacity.healthy_gpus}
        return (
            wanted.cpus <= capacity.cpus + EPSILON
            and wanted.memory_bytes <= capacity.memory_bytes
            and all(
                wanted.gpu_memory_bytes <= healthy.get(uuid, -1)
                for uuid in attempt.assign.devices or ()
            )
        )

    def _device_fits(self, uuid: str, memory_bytes: int) -> bool:
        gpu = next((gpu for gpu in self.capacity.gpus if gpu.uuid == uuid), None)
        users = self._devices.get(uuid, {})
        if gpu is None or gpu.fault is not None:
            return False
        if memory_bytes == 0 or 0 in users.values():
            return not users
        return sum(users.values()) + memory_bytes <= gpu.memory_bytes

    def occupy(self, attempt: Attempt) -> int:
        """Give the attempt what it wants and a lane of its own; returns the lane."""
        lane = 0
        while lane in self.lanes:
            lane += 1
        self.take_lane(attempt, lane)
        return lane

    def take_lane(self, attempt: Attempt, lane: int) -> None:
        """Count the attempt as executing on this lane."""
        wanted = attempt.wanted
        self.lanes.setdefault(lane, Lane()).keys[attempt.key] = None
        attempt.lane = lane
        job_id = attempt.key.job_id
        self._executing[job_id] = self._executing.get(job_id, 0) + 1
        self.used_slots += 1
        self._used_cpus += wanted.cpus
        self._used_memory_bytes += wanted.memory_bytes
        for uuid in attempt.assign.devices or ():
            self._devices.setdefault(uuid, {})[attempt.key] = wanted.gpu_memory_bytes

    def vacate(self, attempt: Attempt) -> AttemptKey | None:
        """Take back what an executing attempt had; returns the next one on its lane."""
        assert attempt.lane is not None, "only an attempt on a lane has anything"
        wanted, lane = attempt.wanted, self.lanes[attempt.lane]
        del lane.keys[attempt.key]
        job_id = attempt.key.job_id
        self._executing[job_id] -= 1
        if not self._executing[job_id]:
            del self._executing[job_id]
        self.used_slots -= not attempt.is_suspended
        self._used_cpus -= wanted.cpus
        self._used_memory_bytes -= wanted.memory_bytes
        for uuid in attempt.assign.devices or ():
            users = self._devices[uuid]
            del users[attempt.key]
            if not users:
                del self._devices[uuid]
        following = next(iter(lane.keys), None)
        if following is None:
            del self.lanes[attempt.lane]
        attempt.lane = None
        return following

    def leave_lane(self, attempt: Attempt) -> None:
        """Take an attempt that was only handed over off its lane."""
        assert attempt.lane is not None, "only an attempt on a lane can leave it"
        del self.lanes[attempt.lane].keys[attempt.key]
        attempt.lane = None

    def suspend(self, attempt: Attempt) -> None:
        """It waits for a child: others may have its slot."""
        if not attempt.is_suspended:
            attempt.is_suspended = True
            self.used_slots -= 1

    def resume(self, attempt: Attempt) -> None:
        """It goes on and needs its slot again."""
        if attempt.is_suspended:
            attempt.is_suspended = False
            self.used_slots += 1


def found_ended(key: AttemptKey) -> Attempt:
    """An attempt of which its id is all that is needed: it holds nothing here any more."""
    job = JobSpec(job_id=key.job_id, kind="function", payload=Payload(inline=""))
    return Attempt(key, Assign(job=job, attempt=key.attempt, epoch=0), Phase.ENDED)
