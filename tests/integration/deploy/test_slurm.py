import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.integration.deploy.shop import DEPLOY, PROGRAMS, Shop, until

from lineshaft_worker.__main__ import parser

SCRIPT = DEPLOY / "slurm" / "worker.sbatch"

# Stands where the worker would: tells how it was called, and by which process.
RECORDER = """#!{python}
import json, os, sys
told = {{name: os.environ.get(name) for name in ("LINESHAFT_URL", "LINESHAFT_TOKEN_FILE")}}
print(json.dumps({{"flags": sys.argv[1:], "pid": os.getpid(), **told}}))
"""


def allocation(tmp_path: Path, **more: str) -> dict[str, str]:
    """The environment that Slurm gives a batch script."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_MEM_PER_NODE": "32768",
        "LINESHAFT_URL": "wss://head:7433",
        **more,
    }


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    program = tmp_path / "recorder"
    program.write_text(RECORDER.format(python=sys.executable))
    program.chmod(0o755)
    return program


def called(environment: dict[str, str], recorder: Path) -> dict[str, object]:
    process = subprocess.Popen(
        ["bash", SCRIPT],
        env={**environment, "LINESHAFT_BIN": str(recorder)},
        stdout=subprocess.PIPE,
    )
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return {**json.loads(output), "batch_pid": process.pid}


def flags_of(told: dict[str, object]) -> list[str]:
    flags = told["flags"]
    assert isinstance(flags, list)
    return [str(flag) for flag in flags]


def test_the_worker_takes_what_the_allocation_has(tmp_path: Path, recorder: Path) -> None:
    told = called(allocation(tmp_path, CUDA_VISIBLE_DEVICES="0,1"), recorder)

    chosen = parser().parse_args(flags_of(told))
    assert (chosen.name, chosen.cpus, chosen.memory) == ("slurm-4711", 8.0, "32768MiB")
    assert chosen.gpus is None
    assert told["LINESHAFT_URL"] == "wss://head:7433"
    assert told["LINESHAFT_TOKEN_FILE"] == str(tmp_path / ".lineshaft" / "worker.token")


def test_no_gpu_is_taken_that_was_not_asked_for(tmp_path: Path, recorder: Path) -> None:
    told = called(allocation(tmp_path), recorder)

    assert parser().parse_args(flags_of(told)).gpus == "0"


def test_the_batch_process_is_the_worker(tmp_path: Path, recorder: Path) -> None:
    told = called(allocation(tmp_path), recorder)

    assert told["pid"] == told["batch_pid"]


def test_what_a_killed_start_of_the_same_job_left_is_removed(
    tmp_path: Path, recorder: Path
) -> None:
    left, other = tmp_path / "lineshaft-4711.old", tmp_path / "lineshaft-47110.other"
    for folder in (left, other):
        folder.mkdir()

    called(allocation(tmp_path, SLURM_RESTART_COUNT="1"), recorder)

    assert not left.exists()
    assert other.exists()


def test_a_requeued_worker_keeps_its_name_but_not_its_folder(
    tmp_path: Path, recorder: Path
) -> None:
    first = parser().parse_args(flags_of(called(allocation(tmp_path), recorder)))
    again = allocation(tmp_path, SLURM_RESTART_COUNT="1")
    second = parser().parse_args(flags_of(called(again, recorder)))

    assert first.name == second.name
    assert first.state != second.state
    assert second.state.is_dir()


def test_without_a_coordinator_the_script_says_what_is_missing(tmp_path: Path) -> None:
    environment = allocation(tmp_path)
    del environment["LINESHAFT_URL"]

    run = subprocess.run(
        ["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=30
    )

    assert run.returncode != 0
    assert "set LINESHAFT_URL" in run.stderr


def test_the_signal_before_the_time_limit_drains_the_worker(shop: Shop, tmp_path: Path) -> None:
    url = shop.start_coordinator()
    environment = allocation(
        tmp_path, LINESHAFT_URL=url, LINESHAFT_TOKEN_FILE=str(shop.home / "token")
    )
    # More than this machine may have; the worker refuses to promise it.
    del environment["SLURM_CPUS_PER_TASK"], environment["SLURM_MEM_PER_NODE"], environment["PATH"]
    worker = shop.start(["bash", SCRIPT], environment)
    until(lambda: "slurm-4711" in shop.workers(url) or worker.poll() is not None)
    assert worker.poll() is None, shop.logs.read_text()

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(timeout=20) == 0


LINGER = """
import pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
(folder / "began").touch()
while not (folder / "go").exists():
    signal.sigtimedwait((), 0.05)
"""


def told(shop: Shop, *arguments: str | Path) -> str:
    """What the command line answers on the head node."""
    run = subprocess.run(
        [PROGRAMS / "lineshaft", *arguments],
        cwd=shop.home.parent,
        env=shop.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def lingering(shop: Shop, tmp_path: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A worker as in an allocation, and a job that it has begun."""
    environment = allocation(
        tmp_path,
        LINESHAFT_URL=shop.start_coordinator(),
        LINESHAFT_TOKEN_FILE=str(shop.home / "token"),
    )
    del environment["SLURM_CPUS_PER_TASK"], environment["SLURM_MEM_PER_NODE"], environment["PATH"]
    worker = shop.start(["bash", SCRIPT], environment)
    script = tmp_path / "linger.py"
    script.write_text(LINGER)
    job = told(shop, "submit", script.name, "--", tmp_path).strip()
    until(lambda: (tmp_path / "began").exists() or worker.poll() is not None)
    assert worker.poll() is None, shop.logs.read_text()
    return worker, job


def test_a_job_whose_allocation_is_cancelled_goes_back_into_the_queue(
    shop: Shop, tmp_path: Path
) -> None:
    worker, job = lingering(shop, tmp_path)

    # As scancel does it: every process of the allocation, in no order.
    for process in [*psutil.Process(worker.pid).children(recursive=True), worker]:
        with suppress(psutil.NoSuchProcess):  # Its parent was faster.
            process.send_signal(signal.SIGTERM)

    assert worker.wait(timeout=20) == 0
    assert f"job {job} is queued" in told(shop, "why", job)
    assert "its worker handed it back" in told(shop, "story", job)
    assert list(tmp_path.glob("lineshaft-4711.*")) == []


def test_a_job_that_alone_is_ended_by_sigterm_has_failed(shop: Shop, tmp_path: Path) -> None:
    worker, job = lingering(shop, tmp_path)

    for process in psutil.Process(worker.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # Its parent was faster.
            process.send_signal(signal.SIGTERM)

    until(lambda: f"job {job} is failed" in told(shop, "why", job))
    assert "SIGTERM" in told(shop, "why", job)
    assert worker.poll() is None


def test_what_runs_is_handed_back_before_the_time_limit() -> None:
    """The warning's time is enough for the drain, the grace, and Slurm's own delay."""
    text = SCRIPT.read_text()
    found = re.search(r"B:TERM@(\d+)", text)
    assert found is not None
    flags = shlex.split(re.findall(r"flags\+?=\((--drain .*)\)", text)[0])

    chosen = parser().parse_args(flags)

    assert chosen.drain + chosen.grace + 20 <= int(found.group(1))


def test_slurm_is_told_to_warn_the_batch_process() -> None:
    directives = [
        line.split(maxsplit=1)[1]
        for line in SCRIPT.read_text().splitlines()
        if line.startswith("#SBATCH")
    ]

    assert "--signal=B:TERM@120" in directives
    assert "--requeue" in directives
    # Slurm reads directives up to the first command only.
    lines = SCRIPT.read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[:last])


def test_the_script_is_clean_bash() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("this machine has no shellcheck; bash itself accepts the script")
    subprocess.run(["shellcheck", "--severity=warning", "--shell=bash", SCRIPT], check=True)
