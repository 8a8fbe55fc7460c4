"""What the user gets for each way in which a job can end."""

import base64
import pickle
import traceback
from typing import get_args

import pytest

from lineshaft.endings import error_of, refusal
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
    NoWorkerFitsError,
    PayloadLostError,
    PrepareTimeoutError,
    ProcessExitedError,
    QueueTimeoutError,
    RemoteError,
    ResultError,
    RunnerStartError,
    SilenceTimeoutError,
    WorkerLostError,
)
from lineshaft_protocol.client_messages import RefusalCode
from lineshaft_protocol.outcomes import Failure, FailureCause, Outcome

ERRORS: dict[FailureCause, type[JobError]] = {
    "exception": RemoteError,
    "exit": ProcessExitedError,
    "signal": ProcessExitedError,
    "oom": JobMemoryError,
    "timeout": JobTimeoutError,
    "start": RunnerStartError,
    "environment": EnvironmentFailedError,
    "entry_point": EntryPointError,
    "unpickle": CannotLoadError,
    "result": ResultError,
    "worker_lost": WorkerLostError,
    "dependency": DependencyFailedError,
    "queue_timeout": QueueTimeoutError,
    "unplaceable": NoWorkerFitsError,
    "blob_missing": PayloadLostError,
    "silence_timeout": SilenceTimeoutError,
    "prepare_timeout": PrepareTimeoutError,
    "result_missing": ResultError,
}


def failed(failure: Failure) -> Outcome:
    return Outcome(job_id="j1", status="failed", attempt=2, failure=failure, worker_id="w1")


def pickled(error: BaseException) -> str:
    return base64.b64encode(pickle.dumps(error)).decode()


def test_a_success_is_no_error() -> None:
    assert error_of(Outcome(job_id="j1", status="succeeded", attempt=1)) is None


def test_there_is_an_error_for_each_cause() -> None:
    assert ERRORS.keys() == set(get_args(FailureCause))


@pytest.mark.parametrize("cause", ERRORS)
def test_each_cause_has_an_error_that_says_what_happened_and_survives_pickling(
    cause: FailureCause,
) -> None:
    error = error_of(failed(Failure(cause=cause, message="the reason", exit_code=3)))

    assert type(error) is ERRORS[cause]
    assert "the reason" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.job_id) == (type(error), str(error), "j1")


def test_the_users_exception_comes_back_as_it_was_with_its_traceback() -> None:
    failure = Failure(
        cause="exception",
        message="'a'",
        type_name="KeyError",
        traceback="Traceback (most recent call last):\n  File 'x'\nKeyError: 'a'\n",
        pickled=pickled(KeyError("a")),
    )

    error = error_of(failed(failure))

    assert isinstance(error, KeyError)
    assert error.args == ("a",)
    shown = "".join(traceback.format_exception(error))
    assert "File 'x'" in shown
    assert "raised by lineshaft job j1, attempt 2 on worker w1" in shown


def test_an_exception_that_cannot_be_made_here_is_described() -> None:
    data = base64.b64encode(b"cno_such_module\nBoom\n.").decode()
    failure = Failure(
        cause="exception", message="it broke", type_name="no_such_module.Boom", pickled=data
    )

    error = error_of(failed(failure))

    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message) == ("no_such_module.Boom", "it broke")
    assert "no_such_module" in error.why


def test_an_exception_that_would_end_this_program_is_described() -> None:
    failure = Failure(cause="exception", message="", pickled=pickled(KeyboardInterrupt()))

    assert isinstance(error_of(failed(failure)), RemoteError)


def test_the_last_output_is_shown_for_a_process_that_died() -> None:
    failure = Failure(
        cause="signal", message="killed", signal_name="SIGSEGV", last_lines=("one", "two")
    )

    error = error_of(failed(failure))

    assert str(error).endswith("Its last output:\n  one\n  two")
    assert "SIGSEGV" in str(error)


def test_a_cancelled_job_says_why() -> None:
    outcome = Outcome(job_id="j1", status="cancelled", attempt=0, reason="no longer needed")

    error = error_of(outcome)

    assert isinstance(error, JobCancelledError)
    assert "no longer needed" in str(error)


def test_each_refusal_has_an_error() -> None:
    expected = {
        "duplicate_id": DuplicateJobError,
        "unknown_job": JobNotFoundError,
        "unplaceable": NoWorkerFitsError,
        "blob_missing": PayloadLostError,
    }
    for code in get_args(RefusalCode):
        assert type(refusal("j1", code, "because")) is expected.get(code, JobRefusedError)
