"""Control messages between a worker and the coordinator.

``Register``, ``Registered`` and ``Heartbeat`` are the seed protocol's, with fields added.
"""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobHere,
    BlobInStore,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    BlobStoreNotice,
    FetchBlob,
    SameHost,
    SameHostFolder,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.figures import Figures
from lineshaft_protocol.ids import Name
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult, Outcome
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import NUMBER_MAX, Wire

# --- worker to coordinator ---


PauseMode = Literal["none", "checkpoint", "freeze"]
"""What an attempt is asked to do: go on, save and end, or stand still."""


class Held(Wire):
    """An attempt that a worker has: waiting, running or ended but not settled."""

    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    is_running: bool = False
    devices: tuple[str, ...] | None = None
    pause: PauseMode | Literal["unknown"] = "none"
    """What it was asked last; ``unknown`` to a daemon that took it over."""
    is_unplaced: bool | None = None
    """Whether it waits for its Place; ``None`` for one that has a place."""


class MeetingPlace(Wire):
    """Where the ranks of a gang find each other: a worker keeps the port free for its rank 0."""

    address: str = Field(min_length=1, max_length=255)
    port: int = Field(ge=1, le=65535)


class GangSeat(Wire):
    """Which rank of a gang an attempt is, and where they meet."""

    rank: int = Field(ge=0, le=NUMBER_MAX)
    nodes: int = Field(ge=2, le=NUMBER_MAX)
    meeting: MeetingPlace


class Register(Wire):
    """The first message of a worker's session: who it is, what it offers, what it holds."""

    type: Literal["Register"] = "Register"
    worker_id: Name
    capabilities: dict[str, JsonValue]
    """As the seed protocol has it; for people and for peers of that protocol."""
    versions: Versions
    capacity: Capacity
    tags: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    """Python minors it can run payloads with, as ``3.11``."""
    incarnation: Name
    """New with every start of the daemon."""
    held: tuple[Held, ...] = ()
    is_draining: bool = False
    meeting: MeetingPlace | None = None
    """Where a gang can meet whose rank 0 runs here."""


class Heartbeat(Wire):
    """The worker is there, and how busy its machine is."""

    type: Literal["Heartbeat"] = "Heartbeat"
    worker_id: Name
    load: dict[str, JsonValue]
    sent_at: float = Field(allow_inf_nan=False)
    """The worker's own monotonic clock, in seconds; comes back in the HeartbeatAck."""
    capacity: Capacity | None = None
    """What it offers now, when that changed: a device failed or came back."""
    meeting: MeetingPlace | None = None
    """Where the next gang can meet whose rank 0 runs here."""
    figures: Figures | None = None
    """What its daemon counted, for those who watch; ``None`` before it has."""


class Preparing(Wire):
    """What a worker does for an attempt that has not started: it makes its environment."""

    type: Literal["Preparing"] = "Preparing"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    doing: str = Field(max_length=1000)
    """In words, as ``downloading: torch``."""


class Prepared(Wire):
    """All that an unplaced attempt needs is here; said again on each connection."""

    type: Literal["Prepared"] = "Prepared"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)


class Began(Wire):
    """An attempt has been running for long enough to be worth saying."""

    type: Literal["Began"] = "Began"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)


class Ended(Wire):
    """An attempt is over: no process of it exists and its devices are free."""

    type: Literal["Ended"] = "Ended"
    result: AttemptResult


class Returned(Wire):
    """An attempt that never started is handed back."""

    type: Literal["Returned"] = "Returned"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    reason: str = ""


class JobEvents(Wire):
    """What attempts said, in order; repeated until acknowledged."""

    type: Literal["JobEvents"] = "JobEvents"
    events: tuple[JobEvent, ...]


class SpawnChild(Wire):
    """A running plan wants this job done elsewhere; harmless to repeat."""

    type: Literal["SpawnChild"] = "SpawnChild"
    job: JobSpec
    is_repeat: bool = False
    """Whether it may have been sent before, on a connection that broke."""


class Kept(Wire):
    """A file of an attempt is stored, or could not be; repeated until acknowledged."""

    type: Literal["Kept"] = "Kept"
    job_id: Name
    file: KeptFile


class PauseTold(Wire):
    """What became of a SetPause, where no end of the attempt says it."""

    type: Literal["PauseTold"] = "PauseTold"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    is_frozen: bool = False
    problem: str | None = None
    """Why it goes on as if it had not been asked."""


class Leaving(Wire):
    """The worker takes nothing more (drain), and ends once it is idle."""

    type: Literal["Leaving"] = "Leaving"
    reason: str = ""


# --- coordinator to worker ---


class Registered(Wire):
    """The answer to a Register."""

    type: Literal["Registered"] = "Registered"
    worker_id: Name
    protocol: int
    epoch: int
    features: tuple[str, ...] = ()
    heartbeat_s: float = Field(gt=0)
    silence_s: float = Field(gt=0)
    """Quiet after which either end counts the connection as dead, in seconds."""
    lease_s: float = Field(gt=0)
    """How long after its last acknowledged heartbeat was sent the worker may go on alone with
    what waits for it, in seconds; then it must end those attempts itself."""
    blob_store: BlobStoreNotice | None = None
    """Where the coordinator keeps large blobs, if not on its own disk."""


class HeartbeatAck(Wire):
    """The heartbeat sent at ``sent_at`` arrived."""

    type: Literal["HeartbeatAck"] = "HeartbeatAck"
    sent_at: float = Field(allow_inf_nan=False)


class Assign(Wire):
    """Run this attempt."""

    type: Literal["Assign"] = "Assign"
    job: JobSpec
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    epoch: int
    devices: tuple[str, ...] | None = None
    """UUIDs of the GPUs it may see."""
    expected_s: float | None = Field(default=None, ge=0)
    """How long such jobs took lately; ``None`` when none has ended yet."""
    checkpoint: KeptFile | None = None
    """From which to go on: the last one that was stored in an attempt before."""
    gang: GangSeat | None = None
    """Its place among the attempts that were given to other workers in the same moment."""
    secrets: dict[str, str] | None = Field(default=None, repr=False)
    """Variables and values for the attempt's processes alone; on no disk and in no log."""
    lease_s: float | None = Field(default=None, ge=0)
    """How long after its last acknowledged heartbeat was sent the worker may go on alone with
    this attempt, in seconds; ``None`` for the one of ``Registered``."""
    lease_grace_s: float | None = Field(default=None, ge=0)
    """How long the attempt may take to end itself once that is over, in seconds."""
    is_unplaced: bool | None = None
    """Prepare it, say ``Prepared``, and begin it when ``Place`` names its devices: it has no slot
    and no device before. ``None`` for an attempt that begins as soon as it is prepared."""


class Place(Wire):
    """A prepared attempt has its place now: begin it. Harmless to repeat."""

    type: Literal["Place"] = "Place"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    devices: tuple[str, ...] | None = None
    """UUIDs of the GPUs it may see."""


class Stop(Wire):
    """End this attempt, whatever it is doing, and say ``Ended`` when it is really over."""

    type: Literal["Stop"] = "Stop"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    reason: str = ""


class Recall(Wire):
    """Hand this attempt back if it has not started; another worker is idle."""

    type: Literal["Recall"] = "Recall"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)


class SetPause(Wire):
    """From now on this attempt is asked to pause in this way, or no longer; harmless to repeat."""

    type: Literal["SetPause"] = "SetPause"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    mode: PauseMode


class KeptAck(Wire):
    """The file is on the job's record."""

    type: Literal["KeptAck"] = "KeptAck"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    file_id: Name


class Settled(Wire):
    """The coordinator needs nothing more of this attempt: forget it, and end it if it runs."""

    type: Literal["Settled"] = "Settled"
    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)


class EventsAck(Wire):
    """Events of this attempt up to ``seq`` are on disk."""

    type: Literal["EventsAck"] = "EventsAck"
    job_id: Name
    attempt: int = Field(ge=0, le=NUMBER_MAX)
    seq: int = Field(ge=0, le=NUMBER_MAX)


class ChildFinished(Wire):
    """How a child job ended."""

    type: Literal["ChildFinished"] = "ChildFinished"
    outcome: Outcome


class LeaveNow(Wire):
    """The operator asks this worker to drain, and to stop its daemon when idle."""

    type: Literal["LeaveNow"] = "LeaveNow"
    stop: bool = False


class HealDevice(Wire):
    """The operator knows that this GPU may be used, whatever is on it now."""

    type: Literal["HealDevice"] = "HealDevice"
    gpu: str = Field(min_length=1, max_length=200)


FromWorker = Annotated[
    Register
    | Heartbeat
    | Preparing
    | Prepared
    | Began
    | Ended
    | Returned
    | JobEvents
    | SpawnChild
    | Kept
    | PauseTold
    | Leaving
    | BlobOffer
    | FetchBlob
    | BlobAck
    | SameHost,
    Field(discriminator="type"),
]

ToWorker = Annotated[
    Registered
    | HeartbeatAck
    | Assign
    | Place
    | Stop
    | Recall
    | SetPause
    | KeptAck
    | Settled
    | EventsAck
    | ChildFinished
    | LeaveNow
    | HealDevice
    | BlobStatus
    | BlobRefused
    | BlobMissing
    | BlobAck
    | BlobHere
    | BlobInStore
    | SameHostFolder,
    Field(discriminator="type"),
]
