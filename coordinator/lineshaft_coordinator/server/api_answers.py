"""What `/api/v1` answers, for its OpenAPI document; answers may have more than is promised here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from lineshaft_coordinator.server.roles import Permission, TokenRole


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Problem(_Answer):
    """What went wrong, in words."""

    error: str


class ObjectStoreAnswer(_Answer):
    """How the object store is."""

    url: str
    problem: str | None
    """Why it cannot be used now."""
    waiting: int
    """Blobs that are to be moved there."""


class InfoAnswer(_Answer):
    """What the coordinator is and has to do."""

    lineshaft: str
    epoch: int
    live_jobs: int
    queued_jobs: int
    workers: int
    clients: int
    jobs: dict[str, int]
    """By status, as the journal has them."""
    object_store: ObjectStoreAnswer | None
    """None where blobs are files of the coordinator."""


class MeAnswer(_Answer):
    """What a token is good for."""

    role: TokenRole
    token: str
    """Its id, as `lineshaft token list` has it; `local` for the local one."""
    permissions: list[Permission]


class JobAnswer(_Answer):
    """A job."""

    job_id: str
    name: str | None
    kind: str
    client_id: str
    owner: str | None
    status: str
    attempt: int
    worker_id: str | None
    submitted_at: float
    """Seconds since 1970."""
    finished_at: float | None
    tags: list[str]
    error: str | None


class WhyAnswer(_Answer):
    """Why a job is where it is."""

    job_id: str
    status: str
    reasons: list[str]


class StoryRecord(_Answer):
    """One record of the journal."""

    at: float
    type: str
    job_id: str


class LogPiece(_Answer):
    """Some output."""

    attempt: int
    seq: int
    at: float
    stream: Literal["stdout", "stderr"]
    text: str


class LogAnswer(_Answer):
    """A page of output."""

    job_id: str
    pieces: list[LogPiece]
    offset: str
    has_more: bool
    is_complete: bool


class Changed(_Answer):
    """A wish was heard; it comes true some time."""

    job_id: str
    status_before: str


class Retried(_Answer):
    """The job that does it again."""

    job_id: str
    retry_of: str


class TicketAnswer(_Answer):
    """An address for one file and a minute, relative to the coordinator's own."""

    url: str


class ArrayAnswer(_Answer):
    """A job array."""

    array_id: str
    items: list[JobAnswer]


class ArrayCancelled(_Answer):
    """How many of an array are to end."""

    array_id: str
    cancelled: int


class GpuAnswer(_Answer):
    """A GPU of a worker."""

    uuid: str
    name: str
    memory_bytes: int
    fault: str | None
    jobs: int


class WorkerAnswer(_Answer):
    """A worker."""

    worker_id: str
    status: Literal["idle", "busy", "draining", "away"]
    tags: list[str]
    slots: int
    used_slots: int
    cpus: float
    memory_bytes: int
    gpus: list[GpuAnswer]
    load: dict[str, JsonValue]
    jobs: list[str]


class BackupAnswer(_Answer):
    """What a backup holds."""


class RunAnswer(_Answer):
    """The record of a run."""

    run: str
    experiment: str
    status: str
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    description: str | None
    tags: list[str]


class CurvesAnswer(_Answer):
    """Curves of a run."""
