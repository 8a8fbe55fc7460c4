"""Control messages between a client and the coordinator."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobHere,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
    SameHost,
    SameHostFolder,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import Name
from lineshaft_protocol.jobs import (
    SECRET_CHARACTERS_MAX,
    SECRET_CHARACTERS_MIN,
    JobSpec,
    VariableName,
)
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import NUMBER_MAX, Wire

# --- client to coordinator ---


class ClientHello(Wire):
    """The first message of a client's session."""

    type: Literal["ClientHello"] = "ClientHello"
    client_id: Name
    versions: Versions


class Submit(Wire):
    """Keep this job and run it; harmless to repeat."""

    type: Literal["Submit"] = "Submit"
    job: JobSpec
    is_repeat: bool = False
    """Whether it may have been sent before, on a connection that broke."""
    is_fresh: bool = False
    """Whether the id was made up for this Submit: then nobody can have used it before, and the
    history is not asked."""
    events: bool | None = None
    """Whether to tell what it says as well, from its first event on."""


class Cancel(Wire):
    """End this job, whatever it is doing."""

    type: Literal["Cancel"] = "Cancel"
    job_id: Name
    reason: str = Field(default="cancelled by its user", max_length=2000)


class Watch(Wire):
    """Tell me how this job ends and, if asked, what it says meanwhile."""

    type: Literal["Watch"] = "Watch"
    job_id: Name
    events: bool = False
    after_attempt: int = Field(default=0, ge=0, le=NUMBER_MAX)
    after_seq: int = Field(default=0, ge=0, le=NUMBER_MAX)
    """Events up to and including (after_attempt, after_seq) have arrived already."""


class Unwatch(Wire):
    """Nobody here waits for this job any more."""

    type: Literal["Unwatch"] = "Unwatch"
    job_id: Name


class Query(Wire):
    """A question that changes nothing."""

    type: Literal["Query"] = "Query"
    request_id: int
    what: Literal[
        "jobs",
        "job",
        "why",
        "story",
        "workers",
        "events",
        "logs",
        "info",
        "files",
        "secrets",
        "array",
    ]
    job_id: Name | None = None
    """Or, for ``array``, that array's id."""
    attempt: int | None = Field(default=None, ge=1, le=NUMBER_MAX)
    """For logs: only this attempt's."""
    stream: Literal["stdout", "stderr"] | None = None
    """For logs: only this one."""
    tail: int | None = Field(default=None, ge=1, le=10_000)
    """For logs: the last lines of what there is, instead of what follows ``after_…``."""
    status: str | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    before: Name | None = None
    """For jobs: only those that are listed behind this one, for the next page."""
    owner: Name | None = None
    """For jobs: only those that were submitted by the token of this id; ``me`` is one's own."""
    offset: int = Field(default=0, ge=0, le=NUMBER_MAX)
    """How many items of an array are left out before the first that is told."""
    after_attempt: int = Field(default=0, ge=0, le=NUMBER_MAX)
    after_seq: int = Field(default=0, ge=0, le=NUMBER_MAX)


class Drain(Wire):
    """Give this worker nothing more; it stops, or is idle, once what it runs has ended."""

    type: Literal["Drain"] = "Drain"
    request_id: int
    worker_id: Name
    stop: bool = False
    """Whether the worker daemon should leave once it is idle."""


class Heal(Wire):
    """Take a GPU back into use, whatever is on it now; not if the driver says that it failed."""

    type: Literal["Heal"] = "Heal"
    request_id: int
    worker_id: Name
    gpu: str = Field(min_length=1, max_length=200)
    """Its UUID."""


class Pause(Wire):
    """Have this job save a checkpoint and end its attempt, or stand still; then wait for Resume.

    Answered once it is paused or frozen, or with the reason why it goes on.
    """

    type: Literal["Pause"] = "Pause"
    request_id: int
    job_id: Name
    freeze: bool = False
    """Stop its processes where they are; it keeps its slot, memory and GPUs."""
    reason: str = Field(default="paused by its user", max_length=2000)
    grace_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How long it may take; then it goes on. ``None`` leaves it to the coordinator."""


class Resume(Wire):
    """Let a job that is paused, or about to be, go on; harmless to repeat."""

    type: Literal["Resume"] = "Resume"
    request_id: int
    job_id: Name


class Retry(Wire):
    """Do an ended job again, as a new job with the same code, data and options.

    Answered with the new job's id once it is kept; or with why not, and a code as in Refused.
    """

    type: Literal["Retry"] = "Retry"
    request_id: int
    job_id: Name
    number: int | None = Field(default=None, ge=1, le=NUMBER_MAX)
    """Which repeat of the job it is to be, from 1: who asks twice gets one job. ``None`` for the
    next one."""


class KeepSecret(Wire):
    """Keep this value for jobs that name it; ``None`` forgets it. Answered with whether one was."""

    type: Literal["KeepSecret"] = "KeepSecret"
    request_id: int
    name: VariableName
    value: str | None = Field(
        default=None,
        min_length=SECRET_CHARACTERS_MIN,
        max_length=SECRET_CHARACTERS_MAX,
        pattern=r"^[^\x00]*$",
        repr=False,
    )


class Ping(Wire):
    """Sent when nothing else was, so that both ends notice a dead connection."""

    type: Literal["Ping"] = "Ping"


# --- coordinator to client ---


class Welcome(Wire):
    """The answer to a ClientHello."""

    type: Literal["Welcome"] = "Welcome"
    protocol: int
    epoch: int
    """Rises with every start of the coordinator."""
    features: tuple[str, ...] = ()
    silence_s: float
    """Quiet from the client after which the coordinator drops the session, in seconds."""
    lineshaft: str = ""


class Accepted(Wire):
    """The job is on disk; it will have exactly one outcome."""

    type: Literal["Accepted"] = "Accepted"
    job_id: Name


RefusalCode = Literal[
    "duplicate_id",
    "too_many_jobs",
    "invalid",
    "draining",
    "unknown_job",
    "blob_missing",
    "unplaceable",
]


class Refused(Wire):
    """The job was not kept."""

    type: Literal["Refused"] = "Refused"
    job_id: Name
    code: RefusalCode
    message: str


class Finished(Wire):
    """How a watched job ended."""

    type: Literal["Finished"] = "Finished"
    outcome: Outcome
    events: bool | None = None
    """Whether all that the job said was told before; a Watch for events brings such a one."""


class Events(Wire):
    """What a watched job said."""

    type: Literal["Events"] = "Events"
    events: tuple[JobEvent, ...]
    left_out: Name | None = None
    """A job that said more than is told here; a Query for its events brings it."""


JobStateName = Literal[
    "waiting", "queued", "assigned", "running", "cancelling", "pausing", "paused", "frozen"
]


class StateChanged(Wire):
    """Where a watched job is now; not numbered and not kept, its outcome is what counts."""

    type: Literal["StateChanged"] = "StateChanged"
    job_id: Name
    state: JobStateName
    attempt: int = Field(default=0, ge=0, le=NUMBER_MAX)
    worker_id: Name | None = None
    reason: str | None = None


class Answer(Wire):
    """The answer to a Query, Drain, Pause, Resume, Retry or KeepSecret."""

    type: Literal["Answer"] = "Answer"
    request_id: int
    data: JsonValue = None
    error: str | None = None


class Pong(Wire):
    """The answer to a Ping."""

    type: Literal["Pong"] = "Pong"


FromClient = Annotated[
    ClientHello
    | Submit
    | Cancel
    | Watch
    | Unwatch
    | Query
    | Drain
    | Heal
    | Pause
    | Resume
    | Retry
    | KeepSecret
    | Ping
    | BlobOffer
    | FetchBlob
    | BlobAck
    | SameHost,
    Field(discriminator="type"),
]

ToClient = Annotated[
    Welcome
    | Accepted
    | Refused
    | Finished
    | Events
    | StateChanged
    | Answer
    | Pong
    | BlobStatus
    | BlobRefused
    | BlobMissing
    | BlobAck
    | BlobHere
    | SameHostFolder,
    Field(discriminator="type"),
]
