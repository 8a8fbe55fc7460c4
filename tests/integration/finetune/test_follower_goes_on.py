"""What goes wrong with one training, or for a while, ends no follower and stops no feed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.runtime.recording import until
from tests.integration.store.samples import row

from lineshaft_coordinator.core.io import POLICY
from lineshaft_coordinator.core.records import JobFinished, JobSubmitted, encode
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.secrets import SecretBox
from lineshaft_coordinator.finetune.files import TrainingFiles
from lineshaft_coordinator.finetune.follower import Follower, Moved
from lineshaft_coordinator.finetune.line import CLIENT_ID
from lineshaft_coordinator.finetune.scribe import Scribe
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.store.errors import StoreDamagedError
from lineshaft_coordinator.store.interface import Batch, EventRow
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.client_messages import Cancel, Events
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import Session
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import Outcome


class Disk(SqliteStore):
    """A store whose disk fails so many times, where it is told to."""

    failures: dict[str, int]

    def fail(self, what: str) -> None:
        if self.failures.get(what, 0) > 0:
            self.failures[what] -= 1
            raise StoreDamagedError(Path("disk"), "input/output error")

    async def records_of(self, job_id: str) -> list[tuple[int, float, bytes]]:
        self.fail(f"records of {job_id}")
        return await super().records_of(job_id)

    async def events_of(
        self, job_id: str, *, after: tuple[int, int], limit: int, bytes_max: int
    ) -> list[EventRow]:
        self.fail(f"events of {job_id}")
        return await super().events_of(job_id, after=after, limit=limit, bytes_max=bytes_max)


@dataclass
class House:
    store: Disk
    daemon: Daemon
    files: TrainingFiles
    follower: Follower
    moved: list[Moved] = field(default_factory=list[Moved])

    @property
    def session(self) -> Session:
        """The newest session of the follower; those that submit are on behalf of somebody."""
        clients = self.daemon.core.shop.clients
        ours = (each for each in clients.values() if each.client_id == CLIENT_ID)
        return max(each.session for each in ours if each.owner is None)


def spec(job_id: str) -> JobSpec:
    return JobSpec(job_id=job_id, kind="function", payload=Payload(inline=""))


def says(job_id: str, seq: int) -> EventRow:
    body = {"metrics": {"loss": 1.0}, "step": seq}
    event = JobEvent(job_id=job_id, attempt=1, seq=seq, at=5.0, kind="metrics", body={**body})
    return EventRow(job_id, 1, seq, 5.0, event.model_dump_json().encode())


def ended(job_id: str) -> Batch:
    outcome = Outcome(job_id=job_id, status="succeeded", attempt=1)
    records = [
        JobSubmitted(job_id=job_id, client_id=CLIENT_ID, job=spec(job_id)),
        JobFinished(job_id=job_id, outcome=outcome),
    ]
    done = row(job_id, is_live=False, status="succeeded", finished_at=2.0, client_id=CLIENT_ID)
    return Batch(records=[(job_id, 1.0, encode(each)) for each in records], rows=[done])


def live(job_id: str) -> Batch:
    record = JobSubmitted(job_id=job_id, client_id=CLIENT_ID, job=spec(job_id))
    rows = [row(job_id, client_id=CLIENT_ID)]
    return Batch(records=[(job_id, 1.0, encode(record))], rows=rows, events=[says(job_id, 1)])


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., "asyncio.Future[House]"]]:
    """Starts a coordinator and a follower over a journal, and checks that both still run."""
    running: list[asyncio.Task[None]] = []
    stores: list[Disk] = []

    async def start(*journal: Batch, **failures: int) -> House:
        store = Disk(tmp_path)
        store.failures = {}
        stores.append(store)
        await store.open()
        for batch in journal:
            await store.append(batch)
        store.failures = {name.replace("_", " "): count for name, count in failures.items()}
        blobs = BlobStore(tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 20)
        daemon = Daemon(store, blobs, SecretBox(tmp_path), epoch=2, settings=CoreSettings())
        files = TrainingFiles(tmp_path / "training", TrainingSettings())
        scribe = Scribe(files, store)
        moved: list[Moved] = []
        shop = daemon.core.shop
        follower = Follower(daemon.sessions, shop, store, blobs, scribe, moved.append)
        running.extend(map(asyncio.create_task, (daemon.run(), follower.run())))
        return House(store, daemon, files, follower, moved)

    yield lambda *journal, **failures: asyncio.ensure_future(start(*journal, **failures))
    for task in running:
        assert not task.done(), task.exception()
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for store in stores:
        await store.close()


Opened = Callable[..., "asyncio.Future[House]"]


async def test_a_training_that_cannot_be_read_is_left_out_and_the_next_is_not(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable = ended("odd")
    unreadable.records.append(("odd", 3.0, b'{"type":"JobForgiven","job_id":"odd","by":"ada"}'))

    house = await opened(unreadable, ended("fine"), live("t"))
    await until(house.files.progress("fine").exists)
    await until(house.files.progress("t").exists)

    assert await house.follower.find("odd") is None
    (said,) = [each for each in caplog.records if each.getMessage() == "a training is left out"]
    assert vars(said)["job_id"] == "odd"


@pytest.mark.parametrize("what", ["records_of_t", "events_of_t"])
async def test_a_training_is_followed_once_the_disk_that_failed_works_again(
    opened: Opened, what: str
) -> None:
    house = await opened(live("t"), live("u"), **{what: 1})
    await until(house.files.progress("u").exists)
    await until(house.files.progress("t").exists)

    assert [each.fold.place for each in house.follower.live()] == [(1, 1), (1, 1)]


async def test_what_was_said_while_the_disk_failed_is_read_later(opened: Opened) -> None:
    house = await opened(live("t"))
    await until(house.files.progress("t").exists)
    (following,) = house.follower.live()
    house.store.failures = {"events of t": 1}

    session = house.follower.line._session
    assert session is not None
    session.on_messages([Events(events=(), left_out="t")])
    await until(lambda: not house.store.failures["events of t"])
    await house.store.append(Batch(records=[], rows=[], events=[says("t", 2)]))
    await until(lambda: following.fold.place == (1, 2))
    await until(lambda: not following.is_behind)


async def test_news_that_cannot_be_taken_in_cost_no_other_training_its_feed(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    house = await opened(live("t"), live("u"))
    await until(lambda: len(house.follower.live()) == 2)
    before = house.session

    def fail(is_move: bool) -> None:
        raise RuntimeError(f"a bug: {is_move}")

    for following in house.follower.live():
        if following.job_id == "t":
            following.listeners[1] = fail
    for job_id in ("t", "u"):
        house.daemon.sessions.speak(house.session, Cancel(job_id=job_id, reason="enough"))
    await until(lambda: not house.follower.live())

    assert [each.following.job_id for each in house.moved if each.following.job_id == "u"]
    assert house.session == before
    assert "what a training said is left out" in caplog.messages


async def test_a_session_that_the_core_ended_is_opened_again_and_hears_what_it_missed(
    opened: Opened,
) -> None:
    house = await opened(live("t"), live("u"))
    await until(lambda: len(house.follower.live()) == 2)
    first = house.session

    house.daemon.sessions.speak(first, Cancel(job_id="t", reason="enough"))
    house.daemon.sessions.close(first, POLICY, "silent for 30 s")
    refused = await house.follower.line.submit(spec("v"), "local")
    answer = await house.follower.line.pause("u", 1.0)
    await until(lambda: [each.job_id for each in house.follower.live()] == ["u"])
    kept = await house.follower.line.submit(spec("v"), "local")
    house.daemon.sessions.speak(house.session, Cancel(job_id="u", reason="enough"))
    u = await house.follower.of("u")
    await until(lambda: u.status == "cancelled")
    t = await house.follower.of("t")

    assert refused is not None
    assert "try again" in refused.message
    assert "try again" in (answer.error or "")
    assert kept is None
    assert house.session != first
    assert t.status == "cancelled"
