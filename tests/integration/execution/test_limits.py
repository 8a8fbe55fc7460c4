"""What the kernel refuses the processes of a job."""

import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench

from lineshaft_worker.execution.limits import JobLimits
from lineshaft_worker.execution.process import own_interpreter

LOOKS = """
import os, resource, subprocess, sys
from lineshaft import run
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
child = subprocess.run(
    [sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"],
    capture_output=True, text=True, check=True,
).stdout.strip()
limits = {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if "RLIMIT_" in n}
too_large = None
try:
    with open("large", "wb") as file:
        file.seek(3 << 20); file.write(b"x"); file.flush()
except OSError as error:
    too_large = error.strerror
run.result({
    "limits": limits, "child": child, "too_large": too_large,
    "privileges": status["NoNewPrivs"].strip(), "umask": status["Umask"].strip(),
})
"""


@pytest.fixture
async def limited(state_folder: Path) -> AsyncIterator[ExecutionBench]:
    limits = JobLimits.parse(["files=200", "file-size=2MiB"])
    bench = ExecutionBench(state_folder, interpreter_of=limits.on(own_interpreter))
    await bench.execution.open()
    yield bench
    await bench.close()


async def test_limits_hold_for_a_job_and_what_it_starts(limited: ExecutionBench) -> None:
    seen = await limited.value(limited.run({"job.py": LOOKS}, "job.py"))

    assert isinstance(seen, dict)
    assert seen["limits"]["RLIMIT_NOFILE"] == (200, 200)
    assert seen["limits"]["RLIMIT_FSIZE"] == (2 << 20, 2 << 20)
    assert seen["too_large"] == "File too large"
    assert seen["child"] == "(0, 0)"


async def test_without_any_there_is_no_core_dump_no_privilege_and_no_reader(
    bench: ExecutionBench,
) -> None:
    seen = await bench.value(bench.run({"job.py": LOOKS}, "job.py"))

    assert isinstance(seen, dict)
    assert seen["limits"]["RLIMIT_CORE"] == (0, 0)
    assert seen["limits"]["RLIMIT_NOFILE"][1] == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert (seen["privileges"], seen["umask"], seen["too_large"]) == ("1", "0077", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("files=0", "not a number above 0"),
        ("files=-1", "not a number above 0"),
        ("files=many", "not a number above 0"),
        ("files", "not a number above 0"),
        ("file-size=2 parsecs", "not a number above 0"),
        ("memory=2GiB", "there are files, processes, file-size"),
        ("", "there are files, processes, file-size"),
        ("files=99999999999999", "may have"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JobLimits.parse([text])


def test_limits_are_read_in_their_units() -> None:
    found = JobLimits.parse(["processes=50", "file-size=1GiB", "files=64"])

    assert found == JobLimits(files=64, processes=50, file_size=1 << 30)
