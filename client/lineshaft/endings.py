"""From how a job ended to the value or exception that its user gets."""

import base64
import pickle
from typing import NoReturn

from lineshaft.errors import (
    CannotLoadError,
    DependencyFailedError,
    DuplicateJobError,
    EntryPointError,
    EnvironmentFailedError,
    JobCancelledError,
    JobError,
    JobMemoryError,
    JobNotFoundError,
    JobRefusedError,
    JobTimeoutError,
    LineshaftError,
    NoWorkerFitsError,
    PayloadLostError,
    PrepareTimeoutError,
    ProcessExitedError,
    QueueTimeoutError,
    RemoteError,
    RemoteTracebackError,
    ResultError,
    RunnerStartError,
    SilenceTimeoutError,
    WorkerLostError,
)
from lineshaft_protocol.outcomes import Failure, Outcome

Ending = Outcome | LineshaftError
"""The outcome of a job, or why nobody here will learn of one."""


def error_of(ending: Ending) -> Exception | None:
    """Return what the result of the job raises; None if it succeeded.

    An exception of the user's is unpickled, which runs code that the job chose.
    """
    if isinstance(ending, LineshaftError):
        return ending
    match ending.status:
        case "succeeded":
            return None
        case "cancelled":
            return JobCancelledError(ending.job_id, ending.reason or "no reason was given")
        case "failed":
            failure = ending.failure or Failure(cause="exception", message=ending.reason or "")
            return _error_of_failure(ending, failure)


def refusal(job_id: str, code: str, message: str) -> JobError:
    """Return the exception for a job that the coordinator did not keep or does not know."""
    match code:
        case "unplaceable":
            return NoWorkerFitsError(job_id, message)
        case "duplicate_id":
            return DuplicateJobError(job_id)
        case "unknown_job":
            return JobNotFoundError(job_id, message)
        case "blob_missing":
            return PayloadLostError(job_id, message)
        case _:
            return JobRefusedError(job_id, code, message)


def _error_of_failure(outcome: Outcome, failure: Failure) -> Exception:
    job_id, message, last_lines = outcome.job_id, failure.message, failure.last_lines
    match failure.cause:
        case "exception":
            return _rebuilt(outcome, failure)
        case "exit" | "signal":
            return ProcessExitedError(
                job_id,
                message=message,
                exit_code=failure.exit_code,
                signal_name=failure.signal_name,
                last_lines=last_lines,
            )
        case "oom":
            return JobMemoryError(job_id, message, last_lines)
        case "timeout":
            return JobTimeoutError(job_id, message)
        case "silence_timeout":
            return SilenceTimeoutError(job_id, message, last_lines)
        case "prepare_timeout":
            return PrepareTimeoutError(job_id, message)
        case "environment":
            return EnvironmentFailedError(job_id, message, last_lines)
        case "start":
            return RunnerStartError(job_id, message, last_lines)
        case "entry_point":
            return EntryPointError(job_id, message)
        case "unpickle":
            return _caused(CannotLoadError(job_id, message, failure.traceback), failure)
        case "result" | "result_missing":
            return _caused(ResultError(job_id, message), failure)
        case "worker_lost":
            return WorkerLostError(job_id, outcome.worker_id, message)
        case "dependency":
            return DependencyFailedError(job_id, message)
        case "queue_timeout":
            return QueueTimeoutError(job_id, message)
        case "unplaceable":
            return NoWorkerFitsError(job_id, message)
        case "blob_missing":
            return PayloadLostError(job_id, message)


def _rebuilt(outcome: Outcome, failure: Failure) -> Exception:
    error, why = _unpickled(failure)
    if error is None:
        error = RemoteError(
            outcome.job_id,
            type_name=failure.type_name,
            message=failure.message,
            traceback=failure.traceback,
            why=why,
        )
    where = f" on worker {outcome.worker_id}" if outcome.worker_id else ""
    error.add_note(f"raised by lineshaft job {outcome.job_id}, attempt {outcome.attempt}{where}")
    if failure.message.endswith(said := _text_of(error)) and failure.message != said:
        error.add_note(failure.message)  # Of a job in several processes it names the one.
    return _caused(error, failure)


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return ""


def _unpickled(failure: Failure) -> tuple[Exception | None, str]:
    if failure.pickled is None:
        return None, "it could not be pickled there, so only its text came back"
    try:
        error: object = pickle.loads(base64.b64decode(failure.pickled))  # noqa: S301 - as documented
    except Exception as problem:  # noqa: BLE001 - unpickling runs code of the user's
        return None, f"it cannot be unpickled here: {type(problem).__name__}: {problem}"
    if not isinstance(error, Exception):
        # Raising SystemExit or KeyboardInterrupt here would end the wrong program.
        return None, "it would end this program too, so it is not raised as it is"
    return error, ""


def _caused(error: Exception, failure: Failure) -> Exception:
    if failure.traceback:
        error.__cause__ = RemoteTracebackError(failure.traceback)
    return error


def raise_no_result(job_id: str) -> NoReturn:
    """Raise for a job that succeeded without a result.

    Raises:
        ResultError: Always.
    """
    raise ResultError(job_id, "the coordinator has no result of it")
