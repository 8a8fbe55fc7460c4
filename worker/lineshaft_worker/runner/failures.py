"""What went wrong in user code, as fields that a daemon can carry without loading anything."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lineshaft_runtime.redaction import Redactor

MESSAGE_CHARACTERS_MAX = 4096
TRACEBACK_CHARACTERS_MAX = 24 * 1024
PICKLED_BYTES_MAX = 32 * 1024


class EntryPointError(Exception):
    """The file or function that the job names is not there."""


class FailureError(Exception):
    """Carries a cause other than the user's own exception out of the execution of an attempt."""

    def __init__(self, cause: str, error: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause
        self.error = error


class RankFailedError(Exception):
    """One of a job's processes ended without success.

    Args:
        fields: As `describe` returns them, and the last lines of what it printed.
    """

    def __init__(self, fields: list[object]) -> None:
        super().__init__(str(fields[2]))
        self.fields = fields


def describe(error: BaseException, cause: str, redactor: "Redactor | None") -> list[object]:
    """Return the fields of a `reports.Failure`, in order, without the last lines of output.

    Args:
        error: What was raised.
        cause: One of `reports.FailureCause`.
        redactor: Takes the secrets out; None if the job has none.
    """
    if isinstance(error, RankFailedError):
        return error.fields
    exit_code = None
    if isinstance(error, SystemExit) and cause == "exception":
        cause, exit_code = "exit", exit_status(error)
    kind = type(error)
    module = "" if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}."
    return [
        cause,
        f"{module}{kind.__qualname__}",
        _sound(_clean(_message(error), redactor)[:MESSAGE_CHARACTERS_MAX]),
        _sound(_clean(_traceback(error), redactor)[-TRACEBACK_CHARACTERS_MAX:]),
        # Pickled it may hold a secret in any form.
        _pickled(error) if redactor is None else None,
        exit_code,
        None,
    ]


def exit_status(error: SystemExit) -> int:
    """Return the status that Python would leave with."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return "(its text cannot be made)"


def _traceback(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - only a failure pays for it

    try:
        # The first frames are the runner's own, and say nothing to the user.
        trace = error.__traceback__
        while trace is not None and __package__ in trace.tb_frame.f_globals.get("__name__", ""):
            trace = trace.tb_next
        return "".join(traceback.format_exception(type(error), error, trace, limit=50))
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return ""


def _clean(text: str, redactor: "Redactor | None") -> str:
    return text if redactor is None else redactor.clean_text(text)


def _sound(text: str) -> str:
    """Return the text with what no UTF-8 can carry written out."""
    return text.encode(errors="backslashreplace").decode()


def _pickled(error: BaseException) -> bytes | None:
    import cloudpickle  # noqa: PLC0415 - only a failure pays for it

    try:
        pickled = cloudpickle.dumps(error, protocol=5)  # pyright: ignore[reportUnknownMemberType]
        # Many exceptions can be pickled but not loaded, because their __init__ takes other
        # arguments than their `args`.
        cloudpickle.loads(pickled)  # pyright: ignore[reportUnknownMemberType]
    except Exception:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return None
    return pickled if len(pickled) <= PICKLED_BYTES_MAX else None


def print_failure(error: BaseException) -> None:
    """Print what Python would when a script fails, so that it is in the job's log."""
    if isinstance(error, SystemExit):
        if error.code is not None and not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
    else:
        sys.stderr.write(_traceback(error))
