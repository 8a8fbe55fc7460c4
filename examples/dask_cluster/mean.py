"""A Dask cluster that lives as long as the job: scheduler and program on rank 0, workers elsewhere.

On three workers: lineshaft run mean.py:main -r requirements.txt --nodes 3
On one worker:    lineshaft run mean.py:main -r requirements.txt --processes 3
"""

import logging
import os

from distributed import Client, Scheduler, Worker, as_completed

from lineshaft import run

PORT = int(os.environ["MASTER_PORT"])
SCHEDULER = f"tcp://{os.environ['MASTER_ADDR']}:{PORT}"
RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def part(first: int, last: int) -> tuple[int, int, str]:
    """Sum up some numbers; says which rank did it."""
    return sum(range(first, last)), last - first, os.environ["RANK"]


async def program(client: Client, count: int, size: int) -> dict[str, object]:
    """What the cluster is for: here the mean of many numbers."""
    bounds = range(0, count, size)
    futures = [client.submit(part, first, min(first + size, count)) for first in bounds]
    parts: list[tuple[int, int, str]] = []
    async for done in as_completed(futures):
        parts.append(await done)
        run.progress(len(parts), len(futures), phase="sum")
    total, number = sum(each[0] for each in parts), sum(each[1] for each in parts)
    return {"mean": total / number, "ranks": sorted({each[2] for each in parts})}


logging.getLogger("distributed").setLevel(logging.WARNING)


async def lead(count: int, size: int) -> dict[str, object]:
    """Rank 0: the scheduler, and the program as its client."""
    async with (
        Scheduler(port=PORT, dashboard=False),
        Client(SCHEDULER, asynchronous=True) as client,
    ):
        await client.wait_for_workers(WORLD - 1)
        result = await program(client, count, size)
        await client.shutdown()  # Ends the workers, and the scheduler.
        return result


async def follow() -> None:
    """Another rank: a Dask worker, until the scheduler lets it go."""
    async with Worker(SCHEDULER, nthreads=1, dashboard=False) as worker:
        await worker.finished()


async def main(count: int = 1_000_000, size: int = 50_000) -> dict[str, object] | None:
    """Be what this rank is."""
    if RANK == 0:
        return await lead(count, size)
    await follow()
    return None
