"""What it costs the recorder to take committed events of many runs at a given rate."""

import asyncio
import json
import resource
from pathlib import Path

from lineshaft_coordinator.recorder.job_run import JobRun
from lineshaft_coordinator.recorder.source import Source
from lineshaft_coordinator.store.interface import Batch, EventRow, JobRow
from lineshaft_coordinator.store.sqlite import SqliteStore

RUNS = 100
RATE = 20_000
SECONDS = 5
TURNS = SECONDS
"""With so many busy runs the recorder looks once a second."""


def body(job: str, seq: int) -> bytes:
    metrics = dict.fromkeys(("loss", "acc", "lr", "grad_norm", "time"), 1.0 / seq)
    event = {"job_id": job, "attempt": 1, "seq": seq, "at": 1.7e9 + seq / 100, "kind": "metrics"}
    return json.dumps({**event, "body": {"metrics": metrics, "step": seq}}).encode()


async def commit(store: SqliteStore, turn: int) -> None:
    each = RATE * SECONDS // TURNS // RUNS
    for number in range(RUNS):
        job = f"j{number}"
        seqs = range(turn * each + 1, (turn + 1) * each + 1)
        events = [EventRow(job, 1, seq, 1.7e9, body(job, seq)) for seq in seqs]
        row = JobRow(job, True, "running", "bench", "pipeline", "c", 1.7e9, None, None, 1, "", None)
        submitted = json.dumps(
            {
                "type": "JobSubmitted",
                "job_id": job,
                "client_id": "c",
                "job": {"job_id": job, "kind": "pipeline", "name": "bench"},
            }
        ).encode()
        records = [(job, 1.7e9, submitted)] if turn == 0 else []
        await store.append(Batch(records=records, rows=[row], events=events))


def share_of_a_core(base: Path) -> float:
    """CPU seconds of the recorder's work for each second of rows."""
    data = base / "data"
    store = SqliteStore(data)
    spent = 0.0

    async def work() -> None:
        nonlocal spent
        await store.open()
        source: Source | None = None
        runs: list[JobRun] = []
        for turn in range(TURNS):
            await commit(store, turn)
            before = cpu()
            if source is None:
                source = Source(data)
                found = [source.begun(f"j{number}") for number in range(RUNS)]
                runs = [JobRun(data / "runs", each) for each in found if each is not None]
            for run in runs:
                run.advance(source)
            spent += cpu() - before
        assert sum(run.writer.rows for run in runs) == RATE * SECONDS
        for run in runs:
            run.writer.leave()
        if source is not None:
            source.close()
        await store.close()

    asyncio.run(work())
    return spent / SECONDS


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
