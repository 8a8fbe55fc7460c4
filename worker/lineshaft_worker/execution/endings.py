"""What an attempt's end means: from a runner's frame, an exit record and what we did ourselves."""

import signal
from pathlib import Path

from lineshaft_runtime.sizes import size_text
from lineshaft_worker.execution.attempts import Attempt, Ending
from lineshaft_worker.execution.found import outputs_of
from lineshaft_worker.execution.process import ExitRecord
from lineshaft_worker.execution.reports import (
    AttemptEnded,
    Failed,
    Failure,
    Outcome,
    Paused,
    ResultFile,
    Stopped,
    Succeeded,
    read_failure,
)
from lineshaft_worker.runner.files import attempt_file
from lineshaft_worker.runner.frames import Done

Lines = tuple[str, ...]

LEASE_OVER = (
    "its lease ran out: no heartbeat was answered, or the worker's daemon did not run, for too long"
)


def ended(attempt: Attempt, outcome: Outcome, ending: Ending) -> AttemptEnded:
    """Return what is told of an attempt's end."""
    return AttemptEnded(
        attempt.key,
        outcome,
        ending.run_s,
        attempt.started_wall,
        ending.peak_bytes,
        ending.is_gone,
        outputs_of(attempt),
        ending.gone_pid,
    )


def outcome_of_done(attempt: Attempt, done: Done, last_lines: Lines) -> Outcome:
    """Return how an attempt ended whose runner said so.

    A result counts even if the attempt was being stopped; a failure is then of our own making.
    """
    if done.status == "ok":
        if done.result is not None:
            return Succeeded(done.result)
        assert attempt.folder is not None, "an attempt that ran has a runner's folder"
        path = Path(attempt_file(str(attempt.folder), done.ticket, "result"))
        return Succeeded(ResultFile(path, done.size_bytes, done.sha256))
    if done.status == "stopped":
        return Stopped()
    if done.status == "paused":
        return Paused()
    if attempt.verdict is not None:
        return _own(attempt, last_lines)
    return Failed(read_failure(done.failure or [], last_lines))


def outcome_of_exit(attempt: Attempt, record: ExitRecord | None, last_lines: Lines) -> Outcome:
    """Return how an attempt ended whose process ended before it could say."""
    if attempt.verdict is not None:
        return _own(attempt, last_lines)
    if record is not None and record.is_lease_over:
        return Stopped(LEASE_OVER)
    if record is None:
        failure = Failure(
            cause="signal",
            message="the process that watched the attempt was killed, and the attempt with it",
            signal_name="SIGKILL",
            last_lines=last_lines,
        )
    elif record.is_oom:
        failure = Failure(
            cause="oom",
            message=f"the kernel ended the process for its memory; most in use was "
            f"{record.peak_bytes} bytes",
            signal_name="SIGKILL",
            last_lines=last_lines,
        )
    elif record.signal:
        name = signal_name(record.signal)
        failure = Failure(
            cause="signal",
            message=f"the process was ended by {name}",
            signal_name=name,
            last_lines=last_lines,
        )
    else:
        failure = Failure(
            cause="exit",
            message=f"the process left with status {record.exit_code} before there was a result",
            exit_code=record.exit_code,
            last_lines=last_lines,
        )
    return Failed(failure)


def failed_start(record: ExitRecord | None, reason: str, last_lines: Lines) -> Failed:
    """Return how an attempt ended whose runner never said hello."""
    if record is not None:
        how = signal_name(record.signal) if record.signal else f"status {record.exit_code}"
        reason = f"{reason}; its process ended with {how}"
    return Failed(Failure(cause="start", message=reason, last_lines=last_lines))


def done_of_outcome(attempt: Attempt, outcome: Outcome, ending: Ending) -> Done:
    """Return an end that no runner described, as it is kept for a later daemon."""
    failure = outcome.error.fields() if isinstance(outcome, Failed) else None
    status = "failed" if failure is not None else "stopped"
    begins = attempt.begins or [0, 0, 0]
    return Done(
        attempt.ticket, attempt.key.job_id, attempt.key.attempt, attempt.kind, status, None, 0, "",
        failure, attempt.started_wall, ending.run_s, ending.peak_bytes, begins,
        ending.ends or begins, False,
    )  # fmt: skip


def signal_name(number: int) -> str:
    """Return a signal's name, as "SIGSEGV"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _own(attempt: Attempt, last_lines: Lines) -> Outcome:
    """Return the outcome of an attempt that we ended."""
    match attempt.verdict:
        case "timeout":
            message = f"it ran longer than its timeout of {attempt.run_s} s"
            return Failed(Failure(cause="timeout", message=message, last_lines=last_lines))
        case "memory":
            message = (
                f"its processes took more than {size_text(attempt.memory_bytes or 0)} of memory"
            )
            return Failed(Failure(cause="oom", message=message, last_lines=last_lines))
        case "stop" | None:
            return Stopped()
