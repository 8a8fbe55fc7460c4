"""What the execution layer tells the worker's core."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from lineshaft_protocol.values import value
from lineshaft_worker.execution.orders import AttemptKey

FailureCause = Literal[
    "exception",  # the user's code raised
    "exit",  # the process, or sys.exit in a function, left with a status
    "signal",  # the process was killed by a signal
    "oom",  # the kernel or the attempt's memory limit killed it
    "timeout",  # it ran longer than it may
    "start",  # the runner did not start
    "entry_point",  # the file or function to run is not there
    "unpickle",  # the function or its arguments cannot be loaded here
    "result",  # the result cannot be sent back
]


FIELD_COUNT = 7
"""How many fields a failure has in frames."""


@value(kw_only=True)
class Failure:
    """Why an attempt failed."""

    cause: FailureCause
    type_name: str = ""
    message: str = ""
    traceback: str = ""
    pickled: bytes | None = None
    """The exception; only a client loads it."""
    exit_code: int | None = None
    signal_name: str | None = None
    last_lines: tuple[str, ...] = ()

    def fields(self) -> list[object]:
        """Return the fields as they are in frames, without the last lines."""
        return [
            self.cause,
            self.type_name,
            self.message,
            self.traceback,
            self.pickled,
            self.exit_code,
            self.signal_name,
        ]


def read_failure(fields: list[object], last_lines: tuple[str, ...]) -> Failure:
    """Return the failure that a runner described; whatever is not as it should be is left out.

    Args:
        fields: As in frames; of a job in several processes also what the one that failed printed.
        last_lines: What all of it printed.
    """
    if len(fields) > FIELD_COUNT and isinstance(fields[-1], list):
        *fields, own = fields
        printed = cast("list[object]", own)
        last_lines = tuple(line for line in printed if isinstance(line, str))
    match fields:
        case [
            str(cause),
            str(type_name),
            str(message),
            str(traceback),
            (bytes() | None) as pickled,
            (int() | None) as exit_code,
            (str() | None) as signal_name,
        ] if cause in get_args(FailureCause):
            return Failure(
                cause=cast("FailureCause", cause),  # Checked in the line above.
                type_name=type_name,
                message=message,
                traceback=traceback,
                pickled=pickled,
                exit_code=exit_code,
                signal_name=signal_name,
                last_lines=last_lines,
            )
        case _:
            message = "the runner described its failure in a way that cannot be read"
            return Failure(cause="exception", message=message, last_lines=last_lines)


@value()
class ResultFile:
    """A result too large to be carried; lies there until the attempt is settled."""

    path: Path
    size_bytes: int
    sha256: str


@value()
class Succeeded:
    """The attempt has a result, packed."""

    result: bytes | ResultFile


@value()
class Failed:
    """The attempt ended without a result."""

    error: Failure


@value()
class Stopped:
    """The attempt was ended because `stop` was called, or by its shim."""

    reason: str | None = None
    """Why, when nobody called `stop`."""


@value()
class Paused:
    """The attempt saved a checkpoint and ended because it was asked to pause."""


Outcome = Succeeded | Failed | Stopped | Paused


@value()
class AttemptBegan:
    """The attempt has been running for a moment. Attempts that end at once do not say this."""

    key: AttemptKey
    pid: int
    runner_id: str


EventKind = Literal["progress", "metrics", "log", "checkpoint", "artifact", "notice"]


@value()
class AttemptEvents:
    """What an attempt told while it ran.

    Each is (seq, at, kind, body). `seq` counts without gaps, from 1 or where the order says; after
    a restart of the daemon the last ones may be repeated, with equal numbers and bodies. Texts of
    "log" are pieces of a stream: they may end within a line.
    """

    key: AttemptKey
    events: tuple[tuple[int, float, EventKind, Mapping[str, object]], ...]


@value()
class AttemptEnded:
    """The attempt is over: nothing of it runs any more. All its events were reported before."""

    key: AttemptKey
    outcome: Outcome
    run_s: float
    started_wall: float
    peak_memory_bytes: int | None
    processes_gone: bool
    """False if a process could not be killed: what it held cannot be given to others."""
    outputs: Path | None = None
    """The folder `outputs` of a job's files, if it made one; goes when this was reported."""
    gone_pid: int | None = None
    """The runner's process that ended with it; None if the runner lives on."""


@value()
class AttemptReturned:
    """The attempt never began, and will not: revoked, or its runner ended."""

    key: AttemptKey


@value()
class ChildRequested:
    """A plan wants a part run elsewhere, and waits for `Execution.answer_child`.

    Repeated with the same request number if the daemon was restarted in between.
    """

    key: AttemptKey
    request: int
    target: object
    payload: bytes | Path


@value()
class AttemptFroze:
    """The attempt's processes stand still, or move again; or they could not be stopped."""

    key: AttemptKey
    is_frozen: bool
    problem: str | None = None


Report = (
    AttemptFroze | AttemptBegan | AttemptEvents | AttemptEnded | AttemptReturned | ChildRequested
)
