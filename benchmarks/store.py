"""Measures the store beside the disk it is on; prints one JSON line for each figure.

Usage: python benchmarks/store.py [folder]   (a folder on the disk in question; default: here)
"""

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.store.interface import Batch, JobRow
from lineshaft_coordinator.store.sqlite import SqliteStore

RECORD = b"x" * 300
BATCH = 512
SINGLES = 3000
GROUPED = 100
RECORDS_PER_JOB = 3


def main() -> None:
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    with tempfile.TemporaryDirectory(dir=where, prefix="bench-store-") as name:
        folder = Path(name)
        sync_alone(folder / "raw")
        asyncio.run(appends(folder / "appends"))
        for live_count in (10_000, 100_000):
            asyncio.run(recovery(folder / f"recovery{live_count}", live_count))
        small_blobs(folder / "blobs")


def sync_alone(path: Path) -> None:
    """Append 200 bytes and sync them: what no durable store can beat."""
    with path.open("wb", buffering=0) as file:

        def write() -> None:
            file.write(bytes(200))
            os.fdatasync(file.fileno())

        say("fdatasync of 200 bytes", **quantiles(write))


async def appends(folder: Path) -> None:
    store = SqliteStore(folder)
    await store.open()
    await store.append(batch(range(1)))
    times: list[float] = []
    for _ in range(SINGLES):
        start = time.perf_counter()
        await store.append(batch(range(1)))
        times.append(time.perf_counter() - start)
    say("append of 1 record and 1 row", **spread(times))

    for what, stride in (("new jobs", BATCH), ("the same jobs", 0)):
        start = time.perf_counter()
        for number in range(GROUPED):
            first = 1 + number * stride
            await store.append(batch(range(first, first + BATCH)))
        rate = GROUPED * BATCH / (time.perf_counter() - start)
        say(f"append of {BATCH} records and rows, {what}", records_per_s=round(rate))

    numbers = itertools.count()

    async def appender() -> None:
        while next(numbers) < SINGLES * 4:
            await store.append(batch(range(1)))

    start = time.perf_counter()
    await asyncio.gather(*(appender() for _ in range(64)))
    rate = SINGLES * 4 / (time.perf_counter() - start)
    say("append of 1 record, 64 at once", records_per_s=round(rate))
    await behind_a_busy_loop(store)
    await store.close()


async def behind_a_busy_loop(store: SqliteStore) -> None:
    """The writer shares the interpreter with an event loop that has no time at all."""
    times: list[float] = []
    for _ in range(50):
        start = time.perf_counter()
        waiting = asyncio.ensure_future(store.append(batch(range(1, 1 + BATCH))))
        while not waiting.done():
            sum(range(2000))
            await asyncio.sleep(0)
        times.append(time.perf_counter() - start)
    say(f"append of {BATCH} records and rows behind a busy loop", **spread(times))


async def recovery(folder: Path, live_count: int) -> None:
    store = SqliteStore(folder)
    await store.open()
    for _ in range(RECORDS_PER_JOB):
        for first in range(0, live_count, BATCH):
            await store.append(batch(range(first, min(first + BATCH, live_count))))
    await store.close()

    store = SqliteStore(folder)
    start = time.perf_counter()
    await store.open()
    opened = time.perf_counter()
    count = sum(1 for _ in store.live_records())
    read = time.perf_counter()
    await store.close()
    say(
        f"recovery of {live_count} live jobs",
        open_s=round(opened - start, 3),
        read_s=round(read - opened, 3),
        records=count,
    )


def small_blobs(folder: Path) -> None:
    blobs = BlobStore(folder, blob_bytes_max=1 << 30, total_bytes_max=1 << 30)
    numbers = itertools.count()
    say("blob of 1 KiB", **quantiles(lambda: blobs.put_bytes(b"%01024d" % next(numbers))))


def batch(numbers: range) -> Batch:
    jobs = [f"{number:016x}" for number in numbers]  # in order of time, as job ids should be
    return Batch(
        records=[(job_id, 1.0, RECORD) for job_id in jobs],
        rows=[
            JobRow(job_id, True, "queued", "train", "plan", "c", 1.0, None, None, 0, "", None)
            for job_id in jobs
        ],
    )


def quantiles(action: Callable[[], object], count: int = 1000) -> dict[str, float]:
    times: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return spread(times)


def spread(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    at = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {name: round(times[int(len(times) * part)] * 1e3, 3) for name, part in at.items()}


def say(what: str, **figures: float) -> None:
    print(json.dumps({"what": what, **figures}), flush=True)


if __name__ == "__main__":
    main()
