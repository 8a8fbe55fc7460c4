"""A job as its client describes it."""

import base64
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from lineshaft_protocol.ids import Digest, JobId, Name
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.wire import NUMBER_MAX, Wire, put_together

INLINE_BYTES_MAX = 32 * 1024
"""A payload or result longer than this travels as a blob."""

_BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
TAGS_MAX = 64
VARIABLES_MAX = 64
VARIABLE_CHARACTERS_MAX = 4096
PARAMS_CHARACTERS_MAX = 16 * 1024
AFTER_MAX = 10_000
FILES_MAX = 1000
ARRAY_MAX = 1_000_000

SECRETS_MAX = 64
SECRET_CHARACTERS_MIN = 6
SECRET_CHARACTERS_MAX = 64 * 1024
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""Of a variable of an environment, or of a secret."""
VariableText = Annotated[
    str, StringConstraints(max_length=VARIABLE_CHARACTERS_MAX, pattern=r"^[^\x00]*$")
]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=128)]

ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""The first part of a module's name."""
MODULES_MAX = 200

JobKind = Literal["function", "plan", "stream", "pipeline"]


_INLINE = {"inline"}


class Payload(Wire):
    """Bytes that a control message carries itself, or the blob that holds them.

    Exactly one of ``inline`` and ``blob`` is set. The coordinator never looks inside.
    """

    inline: str | None = Field(
        default=None, max_length=INLINE_BYTES_MAX * 4 // 3 + 4, pattern=_BASE64
    )
    """Base64 of at most ``INLINE_BYTES_MAX`` bytes."""
    blob: Digest | None = None
    size_bytes: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    """Length of the blob's content."""

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        if (self.inline is None) == (self.blob is None):
            raise ValueError("a payload has either inline or blob")
        return self

    @classmethod
    def of_bytes(cls, data: bytes) -> "Payload":
        """A payload that the message carries itself; at most ``INLINE_BYTES_MAX`` bytes."""
        assert len(data) <= INLINE_BYTES_MAX, "more bytes than this are a blob"
        inline = base64.b64encode(data).decode("ascii")
        fields: dict[str, object] = {"inline": inline, "blob": None, "size_bytes": None}
        return put_together(cls, fields, _INLINE)

    def inline_bytes(self) -> bytes:
        """The bytes that the message carries.

        Raises:
            ValueError: They are not base64.
        """
        return base64.b64decode(self.inline or "", validate=True)


class Timeouts(Wire):
    """Longest times in each state, in seconds; ``None`` leaves it to the coordinator's settings."""

    queue_s: float | None = Field(default=None, gt=0)
    """Waiting for a worker, from the submit or, where it comes after others or waits for a place
    in its array, from then on; goes on where it was if an attempt leaves before it had room."""
    prepare_s: float | None = Field(default=None, gt=0)
    """From the moment a worker gets an attempt until its code begins."""
    run_s: float | None = Field(default=None, gt=0)
    """One run of its code."""
    silence_s: float | None = Field(default=None, gt=0)
    """A run that prints, reports and saves nothing."""
    lost_after_s: float | None = Field(default=None, ge=0)
    """How long a job waits for a worker that went silent before it starts elsewhere."""


class Backoff(Wire):
    """Waiting between an attempt whose own code failed and the next one, in seconds."""

    first_s: float | None = Field(default=None, ge=0)
    """After the first failure; doubled with each further one."""
    max_s: float | None = Field(default=None, ge=0)
    """Never longer than this."""


class ArrayItem(Wire):
    """Which part of a job array this job is."""

    array_id: Name
    item: int = Field(ge=0, le=ARRAY_MAX)
    """Its number in the array, from 0."""
    count: int = Field(ge=1, le=ARRAY_MAX)
    """How many items the array has."""
    at_most: int | None = Field(default=None, ge=1, le=ARRAY_MAX)
    """How many items of the array may be under way at a time; the others wait, in order."""


class Line(Wire):
    """A line in which jobs of different submitters wait for one another."""

    name: Name
    at_most: int = Field(ge=1, le=ARRAY_MAX)
    """How many of its jobs may be under way at a time; the others wait, first in, first out."""


class Parent(Wire):
    """The attempt that asked for this job while it ran: a Remote node of its plan."""

    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)


class Environment(Wire):
    """The Python environment that a job runs in, made on its worker before it starts."""

    requirements: Payload | None = None
    """Text as in a requirements.txt, in UTF-8; ``None`` for nothing but Python itself."""
    requires_python: str | None = Field(default=None, max_length=200)
    """Versions it may run with, as a project says it: ``>=3.11,<3.14``."""


NODES_MAX = 1024
PROCESSES_MAX = 256


class GangPart(Wire):
    """Which rank of a gang a job is; the coordinator makes such jobs, no client does."""

    job_id: Name
    """The job that was submitted: rank 0."""
    rank: int = Field(ge=1, lt=NODES_MAX)


class JobSpec(Wire):
    """Everything the coordinator needs to know about a job to keep, place and run it."""

    job_id: Name
    kind: JobKind
    payload: Payload
    name: str | None = Field(default=None, max_length=200)
    """What people call it; not unique."""
    code: Digest | None = None
    """Blob of the cloudpickled function; sent to a worker once, not per job."""
    resources: Resources | None = None
    tags: tuple[Tag, ...] | None = Field(default=None, max_length=TAGS_MAX)
    """Tags the worker must all have."""
    worker_id: Name | None = None
    """The only worker it may run on."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Higher goes first."""
    retries: int = Field(default=0, ge=0, le=1000)
    """How often it may run again after its own code failed."""
    after: tuple[Name, ...] | None = Field(default=None, max_length=AFTER_MAX)
    """Jobs that must have succeeded before it may start."""
    timeouts: Timeouts | None = None
    backoff: Backoff | None = None
    array: ArrayItem | None = None
    line: Line | None = None
    """Not for items of an array, which wait for one another already."""
    retry_of: Name | None = None
    """The ended job that this one does again."""
    python: str | None = Field(default=None, pattern=r"^\d+\.\d+$")
    """Python minor version that can read the payload, as ``3.11``."""
    parent: Parent | None = None
    nodes: int | None = Field(default=None, ge=1, le=NODES_MAX)
    """On how many workers a pipeline job runs at once; ``resources`` are those of each."""
    processes: int | None = Field(default=None, ge=1, le=PROCESSES_MAX)
    """How many processes a pipeline job runs in on each of its workers; ``None`` for one that is
    told nothing of others. ``resources`` are those of all of them together."""
    part: GangPart | None = None
    preemptible: bool = False
    """Whether it may be asked to pause when a job of a higher priority finds no room."""
    checkpoints_kept: int | None = Field(default=None, ge=1, le=10_000)
    """How many of its last checkpoints are kept; ``None`` leaves it to the coordinator."""
    secrets: dict[VariableName, VariableName] | None = Field(default=None, max_length=SECRETS_MAX)
    """Variables of its environment, and which of the coordinator's secrets each holds."""
    variables: dict[VariableName, VariableText] | None = Field(
        default=None, max_length=VARIABLES_MAX
    )
    """Other variables of its environment. They are kept in the journal: nothing secret."""
    files: tuple[Digest, ...] | None = Field(default=None, max_length=FILES_MAX)
    """Blobs that its payload refers to; a worker needs them before it starts."""
    environment: Environment | None = None
    """``None`` for whatever its worker has installed."""
    modules: tuple[ModuleName, ...] | None = Field(default=None, max_length=MODULES_MAX)
    """Modules that it cannot start without and does not bring; looked for before it takes a slot
    or device of its worker."""
    experiment: str | None = Field(default=None, min_length=1, max_length=200)
    """Where its run record lies; ``None`` for its name."""
    params: str | None = Field(default=None, max_length=PARAMS_CHARACTERS_MAX)
    """Parameters as JSON, to be shown and recorded; what the job gets is in its payload."""

    def like(self, job_id: JobId, payload: Payload) -> "JobSpec":
        """Describe a job that differs in this alone; both are as they are in any job."""
        fields: dict[str, object] = {**self.__dict__, "job_id": job_id, "payload": payload}
        return put_together(JobSpec, fields, self.__pydantic_fields_set__)

    @property
    def blobs(self) -> tuple[str, ...]:
        """All blobs that an attempt cannot do without."""
        wanted = self.environment.requirements if self.environment is not None else None
        named = (self.code, self.payload.blob, *(self.files or ()))
        if wanted is not None:
            named = (*named, wanted.blob)
        return tuple(blob_id for blob_id in named if blob_id is not None)

    @property
    def label(self) -> str:
        """What to call it in a sentence."""
        return self.name or self.job_id
