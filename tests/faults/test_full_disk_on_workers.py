"""F10: the disk of a worker is full, at each place where it writes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.farm import Farm, until
from tests.faults.machines import start_worker
from tests.faults.scale import rounds, tell

from lineshaft import Client
from lineshaft.blocking_job import Job
from lineshaft.errors import JobError
from lineshaft.futures import LineshaftFuture
from lineshaft.job_events import Notice

FILLS = rounds(1, 20)
MIB = 1024**2

TELLING = """
import os
from lineshaft import run

open(run.params["began"], "w").close()
while not os.path.exists(run.params["full"]):
    pass
for step in range(20_000):
    run.progress(step, 20_000)
open(run.params["told"], "w").close()
while not os.path.exists(run.params["room"]):
    pass
run.progress(20_000, 20_000)
run.result("went on")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root to be mounted")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def made(tmp_path: Path, small_disk: Path) -> Iterator[Farm]:
    made = Farm(tmp_path / "farm")
    made.folder.mkdir()
    try:
        made.start_coordinator()
        start_worker(made, "w1", "--slots", "1", "--state", str(small_disk / "state"))
        yield made
    finally:
        made.close()


def fill(folder: Path) -> Path:
    """Use up all room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return ballast


def take(data: bytes) -> int:
    return len(data)


def make(size: int) -> bytes:
    return bytes(size)


def failure_of(future: LineshaftFuture[object] | Job[object]) -> str:
    with pytest.raises(JobError) as caught:
        future.result(60)
    return str(caught.value)


def works(client: Client) -> bool:
    """Whether each of the ways that use the disk is open again."""
    blob = client.submit(take, os.urandom(MIB))
    result = client.submit(make, MIB)
    fresh = client.run("job.py", files={"job.py": "print('here')"})
    return (blob.result(60), len(result.result(60)), fresh.result(60)) == (MIB, MIB, None)


def test_a_full_disk_of_a_worker_fails_what_needs_it_and_ends_nothing_else(
    made: Farm, small_disk: Path
) -> None:
    with made.client() as client:
        made.until_ready(client)
        for _ in range(FILLS):
            assert works(client)
            assert client.submit(pow, 2, 4).result(60) == 16
            ballast = fill(small_disk)

            # The warm runner needs no file for this.
            assert client.submit(pow, 2, 5).result(60) == 32
            refused = {
                "blob": failure_of(client.submit(take, os.urandom(MIB))),
                "result": failure_of(client.submit(make, MIB)),
                "runner": failure_of(client.run("job.py", files={"job.py": "pass"})),
                "assignment": failure_of(client.submit(pow, 2, 5, resources={"memory": "100MiB"})),
            }
            for site, text in refused.items():
                assert "No space left" in text or "start" in text, (site, text)
            assert "No space left" in refused["blob"]
            assert "No space left" in refused["result"]
            assert made.workers["w1"].popen.poll() is None, made.workers["w1"].said()[-2000:]

            ballast.unlink()
            assert works(client)
    said = made.workers["w1"].said()
    assert "Traceback" not in said, said[-3000:]
    tell("F10", "full disk under a worker", 4 * FILLS, "each told its cause, went on by itself")


def test_what_a_job_cannot_tell_on_a_full_disk_is_counted(
    made: Farm, small_disk: Path, tmp_path: Path
) -> None:
    places = {name: str(tmp_path / name) for name in ("began", "full", "told", "room")}
    with made.client() as client:
        made.until_ready(client)
        job = client.run("job.py", files={"job.py": TELLING}, params=places)
        until(Path(places["began"]).exists, what="it runs")
        ballast = fill(small_disk)
        Path(places["full"]).touch()
        until(Path(places["told"]).exists, what="it told what it could")
        ballast.unlink()
        Path(places["room"]).touch()

        assert job.result(60) == "went on"
        notices = [event for event in job.events() if isinstance(event, Notice)]
        assert "events could not be written" in str(notices[0].body["text"]), notices
        assert works(client)
    tell("F10", "full disk under a job's spool", 1, "the gap was told, the job went on")
