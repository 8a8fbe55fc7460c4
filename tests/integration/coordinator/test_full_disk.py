"""A full disk stops acceptance, not the coordinator."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
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


def submit(job_id: str) -> Wire:
    # Enough bytes for each that the room SQLite has in files that are there already is used up.
    payload = Payload.of_bytes(NOISE)
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
