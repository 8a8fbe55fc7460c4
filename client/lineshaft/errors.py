"""What a user of the client may want to catch; all of it is a `LineshaftError`."""

import concurrent.futures
from typing import TypeVar

from typing_extensions import override

from lineshaft_protocol.errors import BadNameError, LineshaftError, ProtocolError
from lineshaft_runtime.locating import (
    BadTokenError,
    BadUrlError,
    NoCoordinatorError,
    NoTokenError,
    UnencryptedTokenError,
    WrongCertificateError,
)
from lineshaft_runtime.packing import CannotPackError, PackingError
from lineshaft_runtime.plans.errors import (
    ChunkFailedError,
    ChunkTooLongError,
    StreamStateLostError,
)
from lineshaft_runtime.transfers import BlobDamagedError, BlobMissingError, BlobRefusedError

__all__ = [
    "AccessDeniedError",
    "BadNameError",
    "BadTokenError",
    "BadUrlError",
    "BlobDamagedError",
    "BlobMissingError",
    "BlobRefusedError",
    "CannotLoadError",
    "CannotPackError",
    "ChunkFailedError",
    "ChunkTooLongError",
    "ClientClosedError",
    "CoordinatorUnreachableError",
    "DependencyFailedError",
    "DuplicateJobError",
    "EntryPointError",
    "ForkedClientError",
    "IncompatibleVersionError",
    "InvalidJobError",
    "JobCancelledError",
    "JobError",
    "JobMemoryError",
    "JobNotFoundError",
    "JobRefusedError",
    "JobTimeoutError",
    "LineshaftError",
    "NoCoordinatorError",
    "NoTokenError",
    "NoWorkerFitsError",
    "PackingError",
    "PayloadLostError",
    "ProcessExitedError",
    "ProtocolError",
    "QueryError",
    "QueueTimeoutError",
    "RemoteError",
    "RemoteTracebackError",
    "ResultError",
    "RunnerStartError",
    "StreamStateLostError",
    "UnencryptedTokenError",
    "WorkerLostError",
    "WrongCertificateError",
]

_LINES_SHOWN = 10

ErrorT = TypeVar("ErrorT", bound="JobError")


# --- the coordinator ---


class CoordinatorUnreachableError(LineshaftError):
    """No connection to the coordinator within the time allowed."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(f"no coordinator at {url}: {cause}")
        self.url, self.cause = url, cause


class AccessDeniedError(LineshaftError):
    """The coordinator does not accept the token, or got none."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__(
            f"{url} does not let us in: {text.rstrip('.')}. "
            "Pass token=, or set LINESHAFT_TOKEN or LINESHAFT_TOKEN_FILE."
        )
        self.url, self.text = url, text


class IncompatibleVersionError(LineshaftError):
    """Client and coordinator do not speak a common version of the protocol."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} ended the connection: {reason}")
        self.url, self.reason = url, reason


class ClientClosedError(LineshaftError):
    """The client was closed; jobs that the coordinator has accepted go on without it."""

    def __init__(self, job_id: str | None = None) -> None:
        super().__init__(
            "the client is closed"
            if job_id is None
            else f"the client was closed before job {job_id} ended; the job goes on, and "
            f"client.job({job_id!r}).result() waits for it again"
        )
        self.job_id = job_id


class ForkedClientError(LineshaftError):
    """A client of the parent process was used in a forked child, where its thread is missing."""

    def __init__(self) -> None:
        super().__init__(
            "this client belongs to the parent process; make a new one after the fork "
            "(multiprocessing: in the child, or with the start method 'spawn')"
        )


class QueryError(LineshaftError):
    """The coordinator could not answer a question."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(f"the coordinator cannot answer {what!r}: {message}")
        self.what, self.message = what, message


class CoordinatorTooOldError(LineshaftError):
    """The coordinator is of a version that cannot do what it was asked for."""

    def __init__(self, feature: str) -> None:
        super().__init__(
            f"the coordinator is too old to know {feature!r}; update lineshaft on its machine"
        )
        self.feature = feature


class FileNotKeptError(LineshaftError):
    """A checkpoint or artifact cannot be brought here."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} cannot be downloaded: {reason}")
        self.name, self.reason = name, reason


class NotPausedError(LineshaftError):
    """A job did not pause, or could not be told to go on; it goes on as before."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(reason)
        self.job_id, self.reason = job_id, reason


# --- jobs that were not kept ---


class InvalidJobError(LineshaftError, ValueError):
    """An option of a job is not possible."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JobError(LineshaftError):
    """Something about one job; `job_id` says which."""

    job_id: str

    def __init__(self, job_id: str, text: str) -> None:
        super().__init__(text)
        self.job_id = job_id

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, though the subclasses take other arguments than their text."""
        return _restore, (type(self), self.args), self.__dict__


class JobRefusedError(JobError):
    """The coordinator did not keep the job; `code` says why, for a program."""

    def __init__(self, job_id: str, code: str, message: str) -> None:
        super().__init__(job_id, f"job {job_id} was refused: {message}")
        self.code, self.message = code, message


class NoWorkerFitsError(JobError):
    """No worker could ever run the job, however idle."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(job_id, message)
        self.message = message


class DuplicateJobError(JobError):
    """Another job has this id already."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, f"another job has the id {job_id}; leave the id to the client")


class JobNotFoundError(JobError):
    """The coordinator knows no such job."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(job_id, f"job {job_id}: {message}")
        self.message = message


# --- jobs that ended without a result ---


class RemoteTracebackError(LineshaftError):
    """The cause of an exception that was raised on a worker: its text is the traceback there."""

    def __init__(self, traceback: str) -> None:
        super().__init__(f'\n"""\n{traceback.rstrip()}\n"""')
        self.traceback = traceback


class RemoteError(JobError):
    """The job raised an exception that cannot be made again here."""

    def __init__(
        self, job_id: str, *, type_name: str, message: str, traceback: str, why: str
    ) -> None:
        text = f"job {job_id} raised {type_name or 'an exception'}: {message} ({why})"
        super().__init__(job_id, text)
        self.type_name, self.message, self.traceback, self.why = type_name, message, traceback, why


class JobCancelledError(JobError, concurrent.futures.CancelledError):
    """The job was cancelled, here or by somebody else."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(job_id, f"job {job_id} was cancelled: {reason}")
        self.reason = reason


class WorkerLostError(JobError):
    """The worker that ran the job vanished, more often than the job may lose one."""

    def __init__(self, job_id: str, worker_id: str | None, message: str) -> None:
        super().__init__(job_id, f"job {job_id} was given up: {message}")
        self.worker_id, self.message = worker_id, message


class JobTimeoutError(JobError):
    """The job ran longer than its `timeout` allows."""

    def __init__(self, job_id: str, message: str) -> None:
        text = f"job {job_id} ran out of time: {message}; give it a longer timeout=, or none"
        super().__init__(job_id, text)
        self.message = message


class SilenceTimeoutError(JobError):
    """The job printed, reported and saved nothing for longer than its `silence_timeout`."""

    def __init__(self, job_id: str, message: str, last_lines: tuple[str, ...] = ()) -> None:
        super().__init__(job_id, f"job {job_id} was ended: {message}{_shown(last_lines)}")
        self.message, self.last_lines = message, last_lines


class PrepareTimeoutError(JobError):
    """A worker had the job and did not begin it within its `prepare_timeout`."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(job_id, f"job {job_id} did not begin: {message}")
        self.message = message


class QueueTimeoutError(JobError):
    """No worker took the job within its `queue_timeout`."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(
            job_id, f"job {job_id} was not started: {message}; client.why({job_id!r}) may say more"
        )
        self.message = message


class ProcessExitedError(JobError):
    """The process of the job ended by itself, or was killed, before there was a result."""

    def __init__(
        self,
        job_id: str,
        *,
        message: str,
        exit_code: int | None,
        signal_name: str | None,
        last_lines: tuple[str, ...],
    ) -> None:
        how = f"was killed by {signal_name}" if signal_name else f"left with status {exit_code}"
        text = f"the process of job {job_id} {how}: {message}{_shown(last_lines)}"
        super().__init__(job_id, text)
        self.exit_code, self.signal_name, self.last_lines = exit_code, signal_name, last_lines


class JobMemoryError(JobError):
    """The job needed more memory than it may have, and was killed."""

    def __init__(self, job_id: str, message: str, last_lines: tuple[str, ...]) -> None:
        super().__init__(
            job_id,
            f"job {job_id} ran out of memory: {message}; ask for more with "
            f"resources={{'memory': ...}}{_shown(last_lines)}",
        )
        self.message, self.last_lines = message, last_lines


class EnvironmentFailedError(JobError):
    """The environment that a job asks for cannot be made on its worker."""

    def __init__(self, job_id: str, message: str, last_lines: tuple[str, ...]) -> None:
        text = f"the environment of job {job_id} cannot be made: {message}"
        super().__init__(job_id, f"{text}{_shown(last_lines)}")
        self.message, self.last_lines = message, last_lines


class RunnerStartError(JobError):
    """The worker could not start a process for the job."""

    def __init__(self, job_id: str, message: str, last_lines: tuple[str, ...]) -> None:
        super().__init__(job_id, f"job {job_id} did not start: {message}{_shown(last_lines)}")
        self.message, self.last_lines = message, last_lines


class EntryPointError(JobError):
    """The file or function that a pipeline job names is not there."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(job_id, f"job {job_id}: {message}")
        self.message = message


class CannotLoadError(JobError):
    """The worker could not load the function or its arguments."""

    def __init__(self, job_id: str, message: str, traceback: str) -> None:
        super().__init__(
            job_id,
            f"the worker could not load what job {job_id} runs: {message}. A module that is missing"
            " there must be installed there, or lie in the folder you start from, so that it is"
            " sent along.",
        )
        self.message, self.traceback = message, traceback


class ResultError(JobError):
    """The job ran, but its result could not be sent back."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(job_id, f"the result of job {job_id} could not be sent back: {message}")
        self.message = message


class DependencyFailedError(JobError):
    """A job that this one comes after did not succeed."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(
            job_id, f"job {job_id} was not started: {message}; do that one again first: job.retry()"
        )
        self.message = message


class PayloadLostError(JobError):
    """What the job was submitted with is not stored any more."""

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(job_id, f"job {job_id} has lost its data: {message}; submit it again")
        self.message = message


def _shown(last_lines: tuple[str, ...]) -> str:
    if not last_lines:
        return ""
    return "\nIts last output:\n" + "\n".join(f"  {line}" for line in last_lines[-_LINES_SHOWN:])


def _restore(kind: type[ErrorT], args: tuple[object, ...]) -> ErrorT:
    return kind.__new__(kind, *args)
