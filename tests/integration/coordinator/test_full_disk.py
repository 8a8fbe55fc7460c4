"""A full disk stops acceptance, not the coordinator."""

import hashlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.cli.shell import LINESHAFT
from tests.e2e.farm import Farm, until
from tests.e2e.rawclient import RawClient

from lineshaft_coordinator.server.disk_room import DiskRoom
from lineshaft_coordinator.store.errors import StoreFailedError, StoreFullError
from lineshaft_protocol.blob_messages import BlobOffer, BlobRefused
from lineshaft_protocol.client_messages import Accepted, Ping, Pong, Submit
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.wire import Wire

NOISE = os.urandom(24_000)


def test_nothing_is_accepted_while_the_disk_is_full_and_all_of_it_once_there_is_room(
    site: Farm, small_disk: Path
) -> None:
    data, ballast = small_disk / "data", small_disk / "ballast"
    coordinator = site.start_coordinator("--data", str(data), "--log-style", "json")
    assert readiness(site) == (200, "ok\n")
    with RawClient(site) as client:
        fill(small_disk, ballast)
        jobs = [submit(f"j{n}") for n in range(8)]
        client.say(*jobs)

        until(lambda: readiness(site) == (503, "disk full\n"), what="it says so")
        with pytest.raises(TimeoutError):
            client.hear(Accepted, within_s=0.5)
        ballast.unlink()
        answers = [client.hear(Accepted, within_s=30) for _ in jobs]
        until(lambda: readiness(site) == (200, "ok\n"), what="it is ready again")
        client.say(Ping())
        client.hear(Pong)

    told = sorted(answer.job_id for answer in answers if isinstance(answer, Accepted))
    assert told == [f"j{n}" for n in range(8)]
    assert coordinator.said().count('"error"') == 1, coordinator.said()
    assert "no room left on the disk" in coordinator.said()
    assert coordinator.terminate() == 0


def test_people_are_told_that_the_disk_is_full(site: Farm, small_disk: Path) -> None:
    site.start_coordinator("--data", str(small_disk / "data"))
    with RawClient(site) as client:
        client.say(submit("kept"))
        client.hear(Accepted)
        fill(small_disk, small_disk / "ballast")
        client.say(submit("first"))
        until(lambda: readiness(site)[0] == 503, what="it is full")

    late = command(site, "jobs")
    checks = json.loads(command(site, "doctor", "--json").stdout)["checks"]

    assert late.returncode == 3
    assert "not ready: disk full" in late.stderr
    found = [(each["what"], each["verdict"], each["text"]) for each in checks]
    (asked,) = [each for each in found if each[0] == "coordinator"]
    assert asked[1] == "broken"
    assert "not ready: disk full" in asked[2]
    assert any(
        what == "disk" and verdict == "broken" and str(small_disk / "data") in text
        for what, verdict, text in found
    )


def test_a_submit_says_what_it_waits_for_and_ends_once_there_is_room(
    site: Farm, small_disk: Path
) -> None:
    site.start_coordinator("--data", str(small_disk / "data"))
    site.folder.joinpath("quick.py").write_text("print('quick')\n")
    with RawClient(site) as client:
        client.say(submit("kept", NOISE[:10]))
        client.hear(Accepted)  # It has all the files that it makes at its start.
    fill(small_disk, small_disk / "ballast")
    # What it has to send fits into its message, and not into what is left in the journal's files.
    words = [*LINESHAFT, "submit", "quick.py", "--param", f"noise={NOISE[:8000].hex()}"]
    with subprocess.Popen(
        words,
        env=site.environ,
        cwd=site.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        (small_disk / "ballast").unlink()
        out, rest = waiting.communicate(timeout=60)

    assert said.startswith("waiting until ws://")
    assert "not ready: disk full" in said
    assert (waiting.returncode, rest) == (0, "")
    assert len(out.split()) == 1


def command(site: Farm, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LINESHAFT, *words], env=site.environ, capture_output=True, text=True, check=False
    )


def test_a_coordinator_on_a_full_disk_can_be_stopped_and_lost_nothing(
    site: Farm, small_disk: Path
) -> None:
    flags = ("--data", str(small_disk / "data"))
    coordinator = site.start_coordinator(*flags)
    with RawClient(site) as client:
        client.say(submit("kept"))
        client.hear(Accepted)
        fill(small_disk, small_disk / "ballast")
        client.say(submit("late"))
        until(lambda: readiness(site)[0] == 503, what="it is full")

        status = coordinator.terminate()
    (small_disk / "ballast").unlink()
    site.start_coordinator(*flags)

    assert status == 0, coordinator.said()
    with site.client() as again:
        jobs = again.jobs()
    assert [job["job_id"] for job in jobs] == ["kept"]  # type: ignore[index,call-overload,union-attr]


def test_a_blob_that_finds_no_room_is_refused_with_the_reason(site: Farm, small_disk: Path) -> None:
    site.start_coordinator("--data", str(small_disk / "data"))
    content = bytes(100_000)
    blob_id = hashlib.sha256(content).hexdigest()

    with RawClient(site) as client:
        client.say(BlobOffer(blob_id=blob_id, size_bytes=len(content)))
        answer = client.hear(BlobRefused)

    assert isinstance(answer, BlobRefused)
    assert answer.blob_id == blob_id
    assert "no room for blob" in answer.message
    assert "must stay free on the disk" in answer.message


async def test_only_a_full_disk_is_waited_for_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    room = DiskRoom(step_s=0.0)
    outcomes: list[Exception | None] = [
        StoreFullError(tmp_path),
        StoreFullError(tmp_path),
        StoreFailedError(tmp_path, "broken"),
    ]
    obstacles: list[str | None] = []

    async def work() -> None:
        obstacles.append(room.obstacle)
        if (error := outcomes.pop(0)) is not None:
            raise error

    with pytest.raises(StoreFailedError):
        await room.wait_for(work)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert obstacles == [None, "disk full", "disk full"]
    assert room.obstacle is None


def submit(job_id: str, noise: bytes = NOISE) -> Wire:
    # Enough bytes for each that the room SQLite has in files that are there already is used up.
    payload = Payload.of_bytes(noise)
    return Submit(job=JobSpec(job_id=job_id, kind="function", payload=payload))


def fill(disk: Path, ballast: Path) -> None:
    room = os.statvfs(disk)
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize))


def readiness(site: Farm) -> tuple[int, str]:
    url = f"http://127.0.0.1:{site.port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
