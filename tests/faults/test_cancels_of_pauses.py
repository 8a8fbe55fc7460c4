"""F18, where a job is held: cancelled while it pauses, stands aside, stands still or uploads."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import Farm, select_pause, until
from tests.faults.machines import start_worker
from tests.faults.oracles import check_records, read_records
from tests.faults.scale import rounds, tell
from tests.faults.test_cancels import (
    GRACE_S,
    LATE_S,
    brief,
    family,
    has_children_beside_runner,
    runner_pids,
)

from lineshaft import Client
from lineshaft.blocking_job import Job
from lineshaft.errors import NotPausedError

CANCELS = rounds(12, 200)
PHASES = ("pausing", "paused", "frozen", "uploading")
UPLOAD_BYTES = 128 << 20
SAVES = """
import signal
from lineshaft import run
open(run.params["began"], "w").close()
while not run.should_pause():
    signal.sigtimedwait((), 0.01)
open("model.pt", "w").write("weights")
run.checkpoint("model.pt", step=1)
run.paused()
"""
LEAVES = """
import os
from lineshaft import run
os.mkdir("outputs")
with open("outputs/big.bin", "wb") as file:
    for number in range(run.params["bytes"] >> 20):
        file.write(os.urandom(1 << 20))
open(run.params["began"], "w").close()
"""


def script(client: Client, folder: Path, text: str) -> Job[object]:
    folder.mkdir()
    params = {"began": str(folder / "began"), "bytes": UPLOAD_BYTES}
    return client.run("job.py", files={"job.py": text}, params=params)


@contextmanager
def held(phase: str, client: Client, folder: Path, made: Farm) -> Iterator[Job[object]]:
    """A job in its phase."""
    text = {"paused": SAVES, "uploading": LEAVES}.get(phase)
    job = family(client, folder) if text is None else script(client, folder, text)
    until((folder / "began").exists, what="it runs")
    with ThreadPoolExecutor(1) as waiting:
        match phase:
            case "pausing":
                # Nobody in the family asks whether to pause.
                answer = waiting.submit(job.pause, grace=600)
                until(lambda: job.status == "pausing", what="it is asked")
            case "paused":
                assert job.pause(grace=60) == "paused"
            case "frozen":
                assert job.pause(freeze=True) == "frozen"
            case _:
                until(lambda: kept_by(made, job) or job.status == "succeeded", what="it uploads")
        yield job
        if phase == "pausing":
            with pytest.raises(NotPausedError, match="cancelled"):
                answer.result(60)


def kept_by(made: Farm, job: Job[object]) -> list[Path]:
    """What workers keep for a job until the coordinator has it."""
    return [*made.home.glob(f"workers/*/kept/{job.id}@*")]


def left_in_folders(made: Farm) -> list[Path]:
    """Files of attempts in runners' folders, notes, and what waits to be uploaded."""
    runners: list[Path] = []
    for folder in made.home.glob("workers/*/execution/runners/*"):
        with suppress(FileNotFoundError):  # It ends while it is looked at.
            runners += folder.glob("a[0-9]*.*")
    # A runner that waits for its next job may keep code; what belongs to jobs has other suffixes.
    mine = [path for path in runners if path.suffix != ".code"]
    kept, notes = made.home.glob("workers/*/kept/*@*"), made.home.glob("workers/*/assigns/*@*.json")
    return [*mine, *kept, *notes]


def test_a_job_cancelled_while_it_is_held_leaves_nothing(empty_farm: Farm, tmp_path: Path) -> None:
    made, seed = empty_farm, random.randrange(1 << 32)
    print(f"seed {seed}, {CANCELS} cancels")
    dice = random.Random(seed)
    start_worker(made, "w1", "--slots", "1", "--grace", f"{GRACE_S}")
    took: list[float] = []
    ends: dict[str, Any] = {}
    with made.client() as client:
        made.until_ready(client)
        for number in range(CANCELS):
            phase = PHASES[number % len(PHASES)]
            before = set(runner_pids(made))
            with held(phase, client, tmp_path / f"job-{number}", made) as job:
                for _ in range(dice.randrange(8) if phase == "uploading" else 0):
                    select_pause()
                began = time.monotonic()
                job.cancel()
                error = job.exception(10 * LATE_S)
                took.append(time.monotonic() - began)
            assert error is not None or phase == "uploading", phase
            ends[phase] = job.status
            left = {p for p in set(runner_pids(made)) - before if has_children_beside_runner(p)}
            assert not left, f"{phase}: processes are left: {left}"
            until(lambda: not left_in_folders(made), what=f"{phase}: its files are gone")
        assert client.submit(brief).result(60) is None, "the slot is free again"

    assert {phase: ends[phase] for phase in PHASES[:3]} == dict.fromkeys(PHASES[:3], "cancelled")
    took.sort()
    assert took[int(len(took) * 0.99)] <= LATE_S
    assert made.coordinator is not None
    made.coordinator.terminate()
    check_records(read_records(made.folder / "data"))
    p50, most = took[len(took) // 2], took[-1]
    seen = f"no process and no file left; p50 {p50:.2f} s, the longest {most:.2f} s"
    tell("F18", f"cancel, {', '.join(PHASES)}", CANCELS, seen)
