"""How a command ends: exit codes that scripts may rely on, and errors in one line."""

from enum import IntEnum

from lineshaft_protocol.errors import LineshaftError


class ExitCode(IntEnum):
    """What a command tells the shell; `docs/cli.md` promises these."""

    OK = 0
    JOB_FAILED = 1
    """The job, a check or the demo failed."""
    USAGE = 2
    """The command line, or a file it names, is wrong; or a daemon cannot start."""
    NO_COORDINATOR = 3
    """There is no coordinator, or it does not let us in."""
    NO_SUCH_JOB = 4
    """Nobody knows the job, worker or token."""
    CANCELLED = 5
    REFUSED = 6
    """The coordinator did not keep the job, as no worker could ever run it."""
    INTERRUPTED = 130
    """Ctrl-C."""


class UsageError(LineshaftError):
    """What the user asked for is not possible; the text says what is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class NotFoundError(LineshaftError):
    """Nobody knows what the user named."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class FailedError(LineshaftError):
    """Something that was tried did not work out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class MissingExtraError(LineshaftError):
    """A part of Lineshaft is needed that was not installed on this machine."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(
            f"{what} needs more than the client (there is no {module}); "
            f"install it with: pip install 'lineshaft[{extra}]'"
        )
        self.extra, self.module = extra, module


_CODES: dict[str, ExitCode] = {
    "AccessDeniedError": ExitCode.NO_COORDINATOR,
    "BadNameError": ExitCode.USAGE,
    "BadTokenError": ExitCode.USAGE,
    "BadUrlError": ExitCode.USAGE,
    "BundleError": ExitCode.USAGE,
    "CannotConnectError": ExitCode.NO_COORDINATOR,
    "CannotPackError": ExitCode.USAGE,
    "CoordinatorTooOldError": ExitCode.REFUSED,
    "CoordinatorUnreachableError": ExitCode.NO_COORDINATOR,
    "DuplicateJobError": ExitCode.REFUSED,
    "IncompatibleVersionError": ExitCode.NO_COORDINATOR,
    "InvalidJobError": ExitCode.USAGE,
    "JobCancelledError": ExitCode.CANCELLED,
    "JobNotFoundError": ExitCode.NO_SUCH_JOB,
    "JobRefusedError": ExitCode.REFUSED,
    "MissingExtraError": ExitCode.USAGE,
    "NoCoordinatorError": ExitCode.NO_COORDINATOR,
    "NoTokenError": ExitCode.NO_COORDINATOR,
    "NoWorkerFitsError": ExitCode.REFUSED,
    "NoSuchRunError": ExitCode.NO_SUCH_JOB,
    "NotFoundError": ExitCode.NO_SUCH_JOB,
    "RequirementsError": ExitCode.USAGE,
    "SizeError": ExitCode.USAGE,
    "UnencryptedTokenError": ExitCode.NO_COORDINATOR,
    "RecordsError": ExitCode.USAGE,
    "UsageError": ExitCode.USAGE,
    "WrongCertificateError": ExitCode.NO_COORDINATOR,
}


def exit_code_of(error: BaseException) -> ExitCode:
    """Return how a command ends that raised this."""
    # By name, for importing the classes takes longer than most commands.
    for kind in type(error).__mro__:
        if (code := _CODES.get(kind.__name__)) is not None:
            return code
    return ExitCode.USAGE if isinstance(error, OSError) else ExitCode.JOB_FAILED


def one_line(error: BaseException) -> str:
    """Return an error for a person, as one line, or as its text if that has more lines."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).strip() or type(error).__name__
