"""The journal: what is said about a job, once and durably."""

import math
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, TypeAdapter

from lineshaft_protocol.ids import Name
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.wire import Wire


class JobSubmitted(Wire):
    """The job was accepted."""

    type: Literal["JobSubmitted"] = "JobSubmitted"
    job_id: Name
    client_id: Name
    job: JobSpec
    owner: str | None = None
    """Id of the token by which it was submitted; None if none was needed, or it was not kept."""


class AttemptStarted(Wire):
    """The job was promised to one worker."""

    type: Literal["AttemptStarted"] = "AttemptStarted"
    job_id: Name
    attempt: int
    worker_id: Name
    epoch: int
    devices: tuple[str, ...] | None = None
    incarnation: str | None = None
    """Which start of the worker's daemon was to get it."""
    is_unplaced: bool | None = None
    """Whether it is only to be prepared, and has no slot and no device before its AttemptPlaced;
    ``None`` for one that has its place."""


class AttemptPlaced(Wire):
    """An attempt that was prepared got its slot and its devices."""

    type: Literal["AttemptPlaced"] = "AttemptPlaced"
    job_id: Name
    attempt: int
    devices: tuple[str, ...] | None = None


ReturnCause = Literal[
    "failed",
    "worker_lost",
    "not_delivered",
    "returned",
    "paused",
    "preempted",
    "gang",  # another rank of its gang ended first
]
PauseCause = Literal["user", "preempted"]


class AttemptLeft(Wire):
    """An attempt is over and the job goes back to the queue."""

    type: Literal["AttemptLeft"] = "AttemptLeft"
    job_id: Name
    attempt: int
    cause: ReturnCause
    reason: str = ""
    failure: Failure | None = None


class PauseRequested(Wire):
    """The job shall pause: at once if nobody runs it, else when its attempt allows."""

    type: Literal["PauseRequested"] = "PauseRequested"
    job_id: Name
    mode: Literal["checkpoint", "freeze"] = "checkpoint"
    cause: PauseCause = "user"
    reason: str


class PauseWithdrawn(Wire):
    """Its attempt goes on: it was resumed, or did not pause in time."""

    type: Literal["PauseWithdrawn"] = "PauseWithdrawn"
    job_id: Name
    reason: str


class JobResumed(Wire):
    """A paused job goes back to its line."""

    type: Literal["JobResumed"] = "JobResumed"
    job_id: Name
    checkpoint: Name | None = None
    """File id of the checkpoint from which it goes on, if its user chose another than the last."""


def _with_a_time(file: object) -> object:
    """Give a kept file a time; journals from before times were checked may have NaN there."""
    match file:
        case {"at": float(at)} if not math.isfinite(at):
            return cast("dict[str, object]", file) | {"at": 0.0}
        case _:
            return file


class FileKept(Wire):
    """A checkpoint or artifact of the job is stored."""

    type: Literal["FileKept"] = "FileKept"
    job_id: Name
    file: Annotated[KeptFile, BeforeValidator(_with_a_time)]
    dropped: tuple[Name, ...] = ()
    """Older checkpoints that need not be kept any longer, by their file ids."""


class CancelRequested(Wire):
    """Its user no longer wants the job; it ends once no process of it exists."""

    type: Literal["CancelRequested"] = "CancelRequested"
    job_id: Name
    reason: str


class JobFinished(Wire):
    """The one outcome of the job."""

    type: Literal["JobFinished"] = "JobFinished"
    job_id: Name
    outcome: Outcome


Record = Annotated[
    JobSubmitted
    | AttemptStarted
    | AttemptPlaced
    | AttemptLeft
    | PauseRequested
    | PauseWithdrawn
    | JobResumed
    | FileKept
    | CancelRequested
    | JobFinished,
    Field(discriminator="type"),
]
FILE_KEPT = b'{"type":"FileKept"'
"""How each encoded FileKept begins: a scan need not decode what is none."""
RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def encode(record: Record) -> bytes:
    """Write one record as the journal keeps it."""
    return record.__pydantic_serializer__.to_json(record, exclude_none=True)


def decode(data: bytes) -> Record:
    """Read one record.

    Raises:
        pydantic.ValidationError: The bytes are not a record; see `journal.read_record`.
    """
    return RECORD.validate_json(data)
