"""While an environment is built for one job, the slot is another's: on a farm with one slot."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.farm import Farm, farm, until
from tests.integration.environments.wheels import make_wheel

from lineshaft import Client
from lineshaft.errors import EnvironmentFailedError

SCRIPT = b"import lsgated\n\ndef main():\n    return lsgated.version\n"

BACKEND = """
import shutil

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open({gate!r}, "rb", buffering=0) as gate:
        gate.read(1)  # Until the test lets it go on.
    shutil.copy({wheel!r}, wheel_directory)
    return {name!r}
"""

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "lsgated"
version = "1.0"
"""


class Gate:
    """A package whose build goes on when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "gate"
        os.mkfifo(self._pipe)
        wheel = make_wheel(folder / "built", "lsgated")
        self.packages = folder / "packages"
        self.packages.mkdir()
        backend = BACKEND.format(gate=str(self._pipe), wheel=str(wheel), name=wheel.name)
        with tarfile.open(self.packages / "lsgated-1.0.tar.gz", "w:gz") as archive:
            for name, text in (("pyproject.toml", PROJECT), ("backend.py", backend)):
                info = tarfile.TarInfo(f"lsgated-1.0/{name}")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        self._open: list[int] = []

    def open(self) -> None:
        """Let builds end, this one and any other."""
        self._open.append(os.open(self._pipe, os.O_RDWR))
        os.write(self._open[0], b"." * 64)

    def close(self) -> None:
        for each in self._open:
            os.close(each)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path)
    yield made
    made.close()


@pytest.fixture
def here(tmp_path: Path, gate: Gate) -> Iterator[Farm]:
    with farm(tmp_path / "farm") as made:
        made.start_worker("w1", "--slots", "1", "--find-links", str(gate.packages))
        yield made


@pytest.fixture
def client(here: Farm) -> Iterator[Client]:
    with here.client() as opened:
        here.until_ready(opened)
        yield opened


def add(a: int, b: int) -> int:
    return a + b


def hold(began: str, pipe: str) -> None:
    open(began, "w").close()
    with open(pipe) as told:
        told.read()


def _start(client: Client) -> Any:
    job = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["lsgated"])
    until(lambda: job.status == "preparing", what="its environment is built")
    return job


def _reasons(client: Client, job_id: str) -> str:
    return str(cast("dict[str, Any]", client.why(job_id))["reasons"])


def _story(job: Any, record: str) -> list[dict[str, Any]]:
    return [each for each in job.story() if each["type"] == record]


def test_others_run_while_a_job_is_prepared_also_over_a_crash_of_the_coordinator(
    here: Farm, client: Client, gate: Gate
) -> None:
    job = _start(client)
    before = client.submit(add, 1, 2).result(30)
    worker = here.here(client)["w1"]
    why = _reasons(client, job.id)
    assert here.coordinator is not None

    here.coordinator.kill()
    here.start_coordinator()
    after = client.submit(add, 3, 4).result(60)
    was_prepared_still = job.status == "preparing"
    gate.open()

    assert job.result(timeout=60) == "1.0"
    assert (before, after) == (3, 7)
    assert was_prepared_still
    assert worker["used_slots"] == 0
    assert "worker w1 prepares its environment" in why
    assert "no slot or GPU is taken for it meanwhile" in why
    assert [each["attempt"] for each in _story(job, "AttemptStarted")] == [1]
    assert [each["attempt"] for each in _story(job, "AttemptPlaced")] == [1]


def test_a_prepared_job_waits_for_the_slot_that_another_has(
    client: Client, gate: Gate, tmp_path: Path
) -> None:
    job = _start(client)
    began, go = tmp_path / "began", tmp_path / "go"
    os.mkfifo(go)
    holder = client.submit(hold, str(began), str(go))
    until(began.exists, what="another job has the slot")

    gate.open()
    until(lambda: job.status == "queued", what="it is prepared and waits")
    why = _reasons(client, job.id)
    go.write_text("on")

    assert job.result(timeout=60) == "1.0"
    holder.result(60)
    assert "w1: all its 1 slots are taken" in why


def test_a_requirement_that_cannot_be_had_takes_no_slot(client: Client) -> None:
    job = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["lsgated==7"])

    with pytest.raises(EnvironmentFailedError, match="lsgated==7"):
        job.result(timeout=60)

    assert [each["is_unplaced"] for each in _story(job, "AttemptStarted")] == [True]
    assert _story(job, "AttemptPlaced") == []


def test_a_worker_killed_while_it_prepares_a_job_prepares_it_again(
    here: Farm, client: Client, gate: Gate
) -> None:
    job = _start(client)

    here.workers["w1"].kill()
    gate.open()
    here.start_worker("w1", "--slots", "1", "--find-links", str(gate.packages))

    assert job.result(timeout=90) == "1.0"
    assert [each["cause"] for each in _story(job, "AttemptLeft")] == ["not_delivered"]


def test_a_job_that_is_cancelled_while_it_is_prepared_ends(here: Farm, client: Client) -> None:
    job = _start(client)

    job.cancel()

    until(lambda: job.status == "cancelled", what="it is cancelled")
    assert client.submit(add, 1, 2).result(30) == 3
    assert here.here(client)["w1"]["used_slots"] == 0
