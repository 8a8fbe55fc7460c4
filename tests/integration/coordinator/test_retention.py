"""Finished jobs go in time, and blobs with the last job that names them, never before."""

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.store.samples import row

from lineshaft_coordinator.core.ledger import Job
from lineshaft_coordinator.core.records import FileKept, JobFinished, JobSubmitted, encode
from lineshaft_coordinator.data.blob_files import blob_path
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.server.disk_room import DiskRoom
from lineshaft_coordinator.server.upkeep import BLOB_GRACE_S, QUIET_S, SWEEP_EVERY_S, Upkeep
from lineshaft_coordinator.settings import parse_duration
from lineshaft_coordinator.store.errors import StoreFullError
from lineshaft_coordinator.store.interface import Batch
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.ids import ClientId, JobId
from lineshaft_protocol.jobs import JobSpec, Payload, Timeouts
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import Outcome

DAY_S = 86400.0
KEEP_S = 10 * DAY_S


@dataclass
class Bench:
    folder: Path
    store: SqliteStore
    blobs: BlobStore
    room: DiskRoom = field(default_factory=lambda: DiskRoom(step_s=0.0))
    live: dict[JobId, Job] = field(default_factory=dict[JobId, Job])
    ahead_s: float = 0.0
    """How far this bench's clocks are ahead of the real ones."""
    named: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Blobs by the job that names them."""
    finished_at: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        self.upkeep = Upkeep(
            self.store,
            self.blobs,
            self.room,
            self.live,
            keep_finished_s=KEEP_S,
            wall=self.wall,
            clock=lambda: time.monotonic() + self.ahead_s,
        )
        self.ahead_s += 2 * QUIET_S

    def wall(self) -> float:
        return time.time() + self.ahead_s

    def put(self, data: bytes) -> str:
        return self.blobs.put_bytes(data)

    def age(self, blob_id: str, age_s: float) -> None:
        at = self.wall() - age_s
        os.utime(blob_path(self.folder / "blobs", blob_id), (at, at))

    async def submit(
        self, job_id: str, blob: str | None, code: str | None = None, value: str | None = None
    ) -> None:
        payload = Payload(inline="") if blob is None else Payload(blob=blob, size_bytes=1)
        files = None if value is None else (value,)
        spec = JobSpec(job_id=job_id, kind="function", payload=payload, code=code, files=files)
        record = encode(JobSubmitted(job_id=job_id, client_id="c1", job=spec))
        await self.store.append(Batch(records=[(job_id, 1.0, record)], rows=[row(job_id)]))
        self.named[job_id] = {each for each in (blob, code, value) if each is not None}

    async def finish(self, job_id: str, blob: str | None, *, ago_s: float = 0.0) -> None:
        at = self.wall() - ago_s
        result = None if blob is None else Payload(blob=blob, size_bytes=1)
        outcome = Outcome(job_id=job_id, status="succeeded", attempt=1, result=result)
        record = encode(JobFinished(job_id=job_id, outcome=outcome))
        done = row(job_id, is_live=False, status="succeeded", finished_at=at)
        await self.store.append(Batch(records=[(job_id, 1.0, record)], rows=[done]))
        self.named[job_id] |= set() if blob is None else {blob}
        self.finished_at[job_id] = at

    def needed(self) -> set[str]:
        expired = {j for j, at in self.finished_at.items() if at < self.wall() - KEEP_S}
        return {blob for j, blobs in self.named.items() if j not in expired for blob in blobs}

    def missing(self) -> set[str]:
        return {blob for blob in self.needed() if not self.blobs.is_complete(blob)}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = SqliteStore(tmp_path)
    await store.open()
    blobs = BlobStore(
        tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 30, free_bytes_min=0
    )
    yield Bench(tmp_path, store, blobs)
    await store.close()


@pytest.fixture(params=range(4))
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


async def test_whatever_comes_no_blob_of_a_live_or_kept_job_goes_and_all_others_do(
    bench: Bench, rng: random.Random
) -> None:
    # All clocks are days ahead of the disk's: only names protect a blob, never its age.
    bench.ahead_s += 5 * DAY_S
    live: list[str] = []
    removed = 0

    def some_blob() -> str | None:
        return bench.put(b"%d" % rng.randrange(30)) if rng.random() < 0.8 else None

    for number in range(300):
        match rng.choice(("submit", "submit", "finish", "finish", "wait", "tidy")):
            case "submit":
                live.append(f"j{number}")
                await bench.submit(live[-1], some_blob(), some_blob(), some_blob())
            case "finish" if live:
                await bench.finish(live.pop(rng.randrange(len(live))), some_blob())
            case "wait":
                bench.ahead_s += rng.choice((0.1, 0.5, 3.0)) * DAY_S
            case _:
                removed += (await bench.upkeep.tidy()).count
                assert bench.missing() == set(), f"after step {number}"
    for job_id in live:
        await bench.finish(job_id, some_blob())
    bench.ahead_s += KEEP_S + SWEEP_EVERY_S
    await bench.upkeep.tidy()

    assert removed > 0
    assert bench.blobs.names() == []
    assert await bench.store.counts() == {}


async def test_a_job_submitted_during_a_collection_keeps_its_old_code(bench: Bench) -> None:
    codes = [bench.put(b"code %d" % n) for n in range(200)]
    for code in codes:
        bench.age(code, 30 * DAY_S)
    await bench.submit("pruned", None)
    await bench.finish("pruned", None, ago_s=2 * KEEP_S)
    accepted: list[str] = []

    async def submit_all() -> None:
        for number, code in enumerate(codes):
            # What the daemon does with a Submit: the check, and some time later the record.
            if bench.blobs.refer(code):
                accepted.append(code)
                await asyncio.sleep(0)
                await bench.submit(f"j{number}", None, code)

    await asyncio.gather(bench.upkeep.tidy(), submit_all())

    assert accepted
    assert [code for code in accepted if not bench.blobs.is_complete(code)] == []


async def test_a_blob_without_a_job_is_kept_for_its_grace(bench: Bench) -> None:
    young, old = bench.put(b"young"), bench.put(b"old")
    bench.ahead_s += SWEEP_EVERY_S
    bench.age(young, BLOB_GRACE_S - 60)
    bench.age(old, BLOB_GRACE_S + 60)

    await bench.upkeep.tidy()

    assert bench.blobs.names() == [young]


async def test_a_result_waits_for_its_worker_as_long_as_its_job_may_wait(bench: Bench) -> None:
    spec = JobSpec(
        job_id="j1",
        kind="pipeline",
        payload=Payload(inline=""),
        timeouts=Timeouts(lost_after_s=7 * DAY_S),
    )
    bench.live[JobId("j1")] = Job(spec, ClientId("c1"))
    result = bench.put(b"result of j1")
    bench.ahead_s += 7 * DAY_S + SWEEP_EVERY_S
    bench.age(result, 7 * DAY_S)

    await bench.upkeep.tidy()
    kept = bench.blobs.is_complete(result)
    bench.live.clear()
    bench.ahead_s += SWEEP_EVERY_S
    await bench.upkeep.tidy()

    assert kept
    assert not bench.blobs.is_complete(result)


@pytest.mark.parametrize("why", ["just started", "disk full", "disk was full"])
async def test_nothing_is_collected_while_records_may_be_on_their_way(
    bench: Bench, why: str
) -> None:
    blob = bench.put(b"x")
    bench.age(blob, 30 * DAY_S)
    waiting: asyncio.Task[None] | None = None
    if why == "just started":
        bench.ahead_s -= QUIET_S + 1
        await bench.submit("pruned", None)
        await bench.finish("pruned", None, ago_s=2 * KEEP_S)
    else:
        bench.ahead_s += SWEEP_EVERY_S
        full = asyncio.Event()
        waiting = asyncio.create_task(bench.room.wait_for(lambda: _refused(full, bench.folder)))
        await asyncio.sleep(0)
        bench.room.full_at = time.monotonic() + bench.ahead_s
        if why == "disk was full":
            full.set()
            await waiting

    await bench.upkeep.tidy()

    assert bench.blobs.is_complete(blob)
    if waiting is not None:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _refused(there_is_room: asyncio.Event, folder: Path) -> None:
    if not there_is_room.is_set():
        raise StoreFullError(folder)


async def test_a_damaged_record_stops_the_collection_not_the_coordinator(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    blob = bench.put(b"x")
    bench.age(blob, 30 * DAY_S)
    bench.ahead_s += SWEEP_EVERY_S
    await bench.submit("j1", blob)
    database = bench.folder / "lineshaft.sqlite"
    await bench.store.close()
    data = database.read_bytes()
    assert data.count(blob.encode()) == 1
    other = hashlib.sha256(b"other").hexdigest()
    database.write_bytes(data.replace(blob.encode(), other.encode()))
    await bench.store.open()

    running = asyncio.create_task(bench.upkeep.run())
    async with asyncio.timeout(10):
        while not caplog.records:  # noqa: ASYNC110 - a log record is no event
            await asyncio.sleep(0)

    assert "nothing was collected" in caplog.text
    assert not running.done()
    assert bench.blobs.is_complete(blob)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("45m", 2700.0), ("1.5h", 5400.0), ("30d", 30 * DAY_S)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "30", "0d", "-1d", "nand", "infd", "1e999d", "3 weeks"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="30d"):
        parse_duration(text)


async def test_a_checkpoint_that_later_ones_replaced_goes_and_the_others_stay(
    bench: Bench,
) -> None:
    await bench.submit("j", None)
    blobs = [bench.put(f"weights {n}".encode()) for n in range(3)]
    for number, blob in enumerate(blobs):
        file = KeptFile(
            file_id=f"1.{number}", kind="checkpoint", name="m", attempt=1, at=0.0, blob=blob
        )
        dropped = (f"1.{number - 2}",) if number >= 2 else ()
        record = encode(FileKept(job_id="j", file=file, dropped=dropped))
        await bench.store.append(Batch(records=[("j", 1.0, record)], rows=[]))
        bench.age(blob, 3 * BLOB_GRACE_S)
    bench.ahead_s += SWEEP_EVERY_S

    await bench.upkeep.tidy()

    assert [bench.blobs.is_complete(blob) for blob in blobs] == [False, True, True]


async def test_a_record_of_a_later_version_keeps_what_it_names_and_all_else_goes(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    named, unneeded = bench.put(b"named by it"), bench.put(b"named by nobody")
    await bench.submit("j", None)
    record = b'{"type":"FileKept","job_id":"j","file":{"pieces":["%s"]}}' % named.encode()
    await bench.store.append(Batch(records=[("j", 1.0, record)], rows=[]))
    for blob in (named, unneeded):
        bench.age(blob, 3 * BLOB_GRACE_S)
    bench.ahead_s += SWEEP_EVERY_S

    await bench.upkeep.tidy()
    bench.ahead_s += SWEEP_EVERY_S
    await bench.upkeep.tidy()

    assert bench.blobs.names() == [named]
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert vars(said)["job_id"] == "j"


async def test_a_disk_that_fails_under_a_collection_ends_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (bench.folder / "blobs" / "partial").rmdir()

    running = asyncio.create_task(bench.upkeep.run())
    async with asyncio.timeout(10):
        while "not all was collected" not in caplog.text:  # noqa: ASYNC110 - a log record is no event
            await asyncio.sleep(0)

    assert not running.done()
    running.cancel()
