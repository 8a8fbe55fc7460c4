"""Jobs cancelled while their environments are made leave no process and no half-built folder."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.farm import Farm, farm, until
from tests.faults.scale import rounds, tell
from tests.integration.environments.wheels import make_wheel

from lineshaft import Client
from lineshaft.blocking_job import Job

CANCELS = rounds(8, 200)
AT_ONCE = 4
ENDED = ("cancelled", "succeeded")
SCRIPT = b"import lslarge\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Farm]:
    packages = tmp_path / "packages"
    make_wheel(packages, "lslarge", files={f"lslarge_{n}.py": b"x = 1\n" * 50 for n in range(2000)})
    with farm(tmp_path / "farm") as made:
        made.start_worker(
            "w1", "--slots", "2", "--find-links", str(packages),
            environ={"UV_NO_INDEX": "1", "UV_CACHE_DIR": str(tmp_path / "uv-cache")},
        )  # fmt: skip
        yield made


def asked(client: Client, number: int) -> Job[object]:
    """A job whose environment nobody has built, though all have the same packages."""
    wanted = ["lslarge", f"lslarge ; python_version > '3.{number}'"]
    return client.run("job.py", files={"job.py": SCRIPT}, requirements=wanted)


def builders(made: Farm) -> list[str]:
    """What the worker runs to build, and whatever of it got away from the worker."""
    found: list[str] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            is_of_ours = str(made.home) in process.environ().get("LINESHAFT_HOME", "")
            if is_of_ours and ("builder.py" in command or "/uv " in command):
                found.append(command)
    return found


def leftovers(made: Farm) -> list[str]:
    root = made.home / "environments"
    return [each.name for each in root.iterdir() if each.name.startswith((".partial", ".trash"))]


def test_cancels_at_random_moments_of_a_build_leave_nothing(made: Farm) -> None:
    draw = random.Random(5)
    phases: dict[str, int] = {}
    with made.client() as client:
        made.until_ready(client)
        asked(client, 100).result(timeout=120)
        began = time.monotonic()
        asked(client, 101).result(timeout=120)  # Its packages are in uv's cache by now.
        whole_s = time.monotonic() - began

        for first in range(0, CANCELS, AT_ONCE):
            numbers = range(1000 + first, 1000 + min(first + AT_ONCE, CANCELS))
            # Two of them want the same, so that one cancel must leave the other's build alone.
            jobs = [asked(client, max(numbers.start, n - n % 2)) for n in numbers]
            now = time.monotonic()
            moments = [(now + draw.random() * whole_s, job) for job in jobs]
            for moment, job in sorted(moments, key=lambda each: each[0]):
                until(lambda: time.monotonic() >= moment)  # noqa: B023 - called at once
                status: str = job.status  # It may be another one a moment later.
                phases[status] = phases.get(status, 0) + 1
                job.cancel()
            for job in jobs:
                until(lambda: job.status in ENDED, what=f"{job.id} ends")  # noqa: B023 - called at once

        until(lambda: builders(made) == [], what="all builders are gone")
        assert leftovers(made) == []
        assert asked(client, 100).result(timeout=120) is None
    tell("F18", "cancelled while an environment was made", CANCELS, f"nothing left; {phases}")
