"""Exit codes: every error that a user may cause has the one that is documented."""

import pytest
from tests.unit.cli.documented import documented_codes

import lineshaft_records.errors
import lineshaft_runtime.bundles
import lineshaft_runtime.connection_errors
import lineshaft_runtime.locating
import lineshaft_runtime.packing
import lineshaft_runtime.requirements
import lineshaft_runtime.sizes
from lineshaft import errors
from lineshaft.cli import exits
from lineshaft.cli.exits import ExitCode, exit_code_of, one_line

MODULES = (
    errors,
    exits,
    lineshaft_records.errors,
    lineshaft_runtime.bundles,
    lineshaft_runtime.connection_errors,
    lineshaft_runtime.locating,
    lineshaft_runtime.packing,
    lineshaft_runtime.requirements,
    lineshaft_runtime.sizes,
)


def test_every_error_that_has_a_code_exists() -> None:
    names = {name for module in MODULES for name in vars(module)}

    assert exits._CODES.keys() - names == set()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CoordinatorUnreachableError("ws://h:1", "refused"), 3),
        (errors.AccessDeniedError("ws://h:1", "no."), 3),
        (errors.JobNotFoundError("j", "unknown"), 4),
        (errors.JobCancelledError("j", "asked"), 5),
        (errors.NoWorkerFitsError("j", "too large"), 6),
        (errors.JobTimeoutError("j", "10 s"), 1),
        (errors.InvalidJobError("retries"), 2),
        (lineshaft_runtime.sizes.SizeError("12x"), 2),
        (FileNotFoundError(2, "No such file or directory", "x.py"), 2),
        (exits.MissingExtraError("lineshaft worker", "worker", "psutil"), 2),
        (exits.FailedError("it broke"), 1),
    ],
)
def test_an_error_ends_the_command_with_its_code(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


def test_a_missing_file_is_named() -> None:
    assert one_line(FileNotFoundError(2, "No such file", "x.py")) == "x.py: No such file"


def test_the_documents_promise_these_codes() -> None:
    assert documented_codes() == {int(code) for code in ExitCode}
