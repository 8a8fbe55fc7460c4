"""examples/torch_training, with the real torch: its curve does not show that it was paused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import Farm

from lineshaft import Client
from lineshaft.job_events import Progress

EXAMPLE = Path(__file__).parents[2] / "examples" / "torch_training"
EPOCHS, PAUSED_AFTER = 24, 12
BUILD_S = 300
WAITS = f"""
import signal
from lineshaft import run
import train

told = run.progress

def progress(step, *rest, **more):
    told(step, *rest, **more)
    # A quick machine would have ended before anybody could ask.
    while step == {PAUSED_AFTER} and not run.should_pause():
        signal.sigtimedwait((), 0.01)

run.progress = progress
main = train.main
"""


def cpu_wheel() -> Path | None:
    """A wheel of torch for CPUs and this Python, in a folder that pip or uv is told of.

    PyPI's own brings gigabytes of CUDA along, too much for a test.
    """
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    places = [told, os.environ.get("PIP_FIND_LINKS", ""), os.environ.get("UV_FIND_LINKS", "")]
    tag = f"cp3{sys.version_info.minor}"
    for place in " ".join(places).replace(",", " ").split():
        for wheel in Path(place.removeprefix("file://")).glob(f"torch-*+cpu-{tag}-{tag}-*.whl"):
            return wheel
    return None


def submit(client: Client, entry_point: str, requirement: str) -> Any:
    files = {"train.py": (EXAMPLE / "train.py").read_bytes(), "waits.py": WAITS.encode()}
    return client.run(
        entry_point, files=files, params={"epochs": EPOCHS}, requirements=[requirement]
    )


def test_its_requirements_are_what_the_test_installs() -> None:
    lines = (EXAMPLE / "requirements.txt").read_text().splitlines()

    assert [line.split(">")[0] for line in lines if not line.startswith("#")] == ["torch"]


def test_a_torch_training_paused_in_an_epoch_has_the_same_curve_elsewhere(
    empty_farm: Farm, tmp_path: Path
) -> None:
    if (wheel := cpu_wheel()) is None:
        pytest.skip("no folder of PIP_FIND_LINKS or UV_FIND_LINKS has a CPU wheel of torch")
    farm, requirement = empty_farm, f"torch=={wheel.name.split('-')[1]}"
    for name in ("first", "second"):
        farm.start_worker(name, "--slots", "1", "--find-links", str(wheel.parent))
    with farm.client() as client:
        farm.until_ready(client)
        whole = submit(client, "train.py:main", requirement).result(BUILD_S)
        job = submit(client, "waits.py:main", requirement)
        for event in job.events():
            if isinstance(event, Progress) and event.step == PAUSED_AFTER:
                break

        assert job.pause(grace=120) == "paused"
        checkpoint = job.checkpoints()[-1]
        before: Any = client.job(job.id).story()
        (was_on,) = (each["worker_id"] for each in before if each["type"] == "AttemptStarted")
        farm.workers.pop(was_on).terminate()
        job.resume()
        curve = job.result(BUILD_S)

        batches = 4096 // 32
        assert checkpoint.step == PAUSED_AFTER * batches + 1, "in the middle of an epoch"
        assert curve == whole, "to the last bit"
        assert len(curve["losses"]) == EPOCHS
        assert curve["losses"][-1] < curve["losses"][0] / 2
        story: Any = job.story()
        ran_on = [each["worker_id"] for each in story if each["type"] == "AttemptStarted"]
        assert ran_on == [was_on, *farm.workers]
        (losses,) = (each for each in job.artifacts() if each.name == "losses.json")
        path = losses.download(tmp_path / "losses.json")
        assert json.loads(path.read_text()) == curve["losses"]
