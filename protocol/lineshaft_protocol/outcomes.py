"""How an attempt, and with it a job, ended."""

from typing import Literal

from pydantic import Field

from lineshaft_protocol.ids import Name
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.wire import NUMBER_MAX, Wire

FailureCause = Literal[
    "exception",  # the user's code raised
    "exit",  # the process left with a status
    "signal",  # the process was killed by a signal
    "oom",  # the kernel's memory limit killed it
    "timeout",  # it ran longer than it may
    "silence_timeout",  # it ran, and said nothing for longer than it may
    "prepare_timeout",  # its worker did not begin it in time
    "environment",  # the environment it asks for cannot be had on its worker
    "start",  # the runner did not start
    "entry_point",  # the file or function to run is not there
    "unpickle",  # the function or its arguments cannot be loaded on the worker
    "result",  # the result cannot be sent back
    "worker_lost",  # its worker was lost too often
    "dependency",  # a job it comes after did not succeed
    "queue_timeout",  # no worker took it in time
    "unplaceable",  # no worker could ever run it
    "blob_missing",  # its payload is gone
    "result_missing",  # its worker named a result that it never stored
]


class Failure(Wire):
    """Why something failed, for a person and for a program."""

    cause: FailureCause
    message: str
    type_name: str = ""
    """The exception's qualified name, for causes with an exception."""
    traceback: str = ""
    pickled: str | None = None
    """Base64 of the pickled exception; only the client, when asked for the result, loads it."""
    exit_code: int | None = None
    signal_name: str | None = None
    last_lines: tuple[str, ...] = ()
    """The end of the attempt's output."""


Status = Literal["succeeded", "failed", "cancelled"]


class Outcome(Wire):
    """The one recorded end of a job."""

    job_id: Name
    status: Status
    attempt: int = Field(ge=0, le=NUMBER_MAX)
    """The attempt that ended it; 0 when none had started."""
    result: Payload | None = None
    failure: Failure | None = None
    worker_id: Name | None = None
    run_s: float | None = Field(default=None, ge=0)
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    peak_gpu_memory_bytes: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    """Most memory it was seen to have on its GPUs together; ``None`` if it was not looked at."""
    reason: str | None = None
    """What was asked or seen, for an end that no code of the user's chose."""


class AttemptResult(Wire):
    """What a worker says of an attempt that ended."""

    job_id: Name
    attempt: int = Field(ge=1, le=NUMBER_MAX)
    status: Literal["succeeded", "failed", "stopped", "paused"]
    """``paused``: it saved a checkpoint and ended because it was asked to."""
    result: Payload | None = None
    failure: Failure | None = None
    run_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    peak_gpu_memory_bytes: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    """Most memory it was seen to have on its GPUs together; ``None`` if it was not looked at."""
    reason: str | None = None
    """Why the worker stopped it, when the coordinator had not asked for that."""
