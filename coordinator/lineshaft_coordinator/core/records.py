"""The journal: what is said about a job, once and durably."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from lineshaft_protocol.ids import Name
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.wire import Wire


class JobSubmitted(Wire):
    """The job was accepted."""

    type: Literal["JobSubmitted"] = "JobSubmitted"
    job_id: Name
    client_id: Name
    job: JobSpec


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


ReturnCause = Literal["failed", "worker_lost", "not_delivered", "returned"]


class AttemptLeft(Wire):
    """An attempt is over and the job goes back to the queue."""

    type: Literal["AttemptLeft"] = "AttemptLeft"
    job_id: Name
    attempt: int
    cause: ReturnCause
    reason: str = ""
    failure: Failure | None = None


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
    JobSubmitted | AttemptStarted | AttemptLeft | CancelRequested | JobFinished,
    Field(discriminator="type"),
]
RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def encode(record: Record) -> bytes:
    """Write one record as the journal keeps it."""
    return record.__pydantic_serializer__.to_json(record, exclude_none=True)


def decode(data: bytes) -> Record:
    """Read one record.

    Raises:
        pydantic.ValidationError: The bytes are not a record.
    """
    return RECORD.validate_json(data)
