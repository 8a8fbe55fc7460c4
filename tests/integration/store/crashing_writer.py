"""Appends batches until it is killed; says each number once its batch is acknowledged.

Run as a program: `crashing_writer.py <folder> <first number>`; a nursery forks it as a module.
"""

import asyncio
import itertools
import os
import sys
from pathlib import Path

from lineshaft_coordinator.store.interface import Batch, EventRow, JobRow
from lineshaft_coordinator.store.sqlite import SqliteStore

APPENDERS = 4
RECORDS = 3


def batch(number: int) -> Batch:
    """Make the batch of a number: three records, a row and two events that belong together."""
    job_id = f"j{number}"
    row = JobRow(job_id, True, "queued", "n", "plan", "c", float(number), None, None, 0, "", None)
    return Batch(
        records=[(job_id, float(number), b"%d.%d" % (number, part)) for part in range(RECORDS)],
        rows=[row],
        events=[EventRow(job_id, 1, seq, 0.0, b"x" * 500) for seq in range(2)],
    )


async def main(folder: Path, first: int) -> None:
    store = SqliteStore(folder)
    await store.open()
    numbers = itertools.count(first)

    async def append_for_ever() -> None:
        for number in numbers:
            await store.append(batch(number))
            os.write(1, b"%d\n" % number)

    await asyncio.gather(*(append_for_ever() for _ in range(APPENDERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
