"""What must hold after any fault, seen by witnesses that do not know of each other.

The journal is written by the jobs, the ledger by the client that submitted them, the records by
the coordinator: what one of them lost, another one tells.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptStarted,
    CancelRequested,
    JobFinished,
    JobSubmitted,
    Record,
    decode,
)
from lineshaft_coordinator.store.sqlite import SqliteStore

WORKER_VARIABLE = "FAULTS_WORKER"
"""Tells jobs the name of their worker, for the journal."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a job, as the job itself saw it."""

    job: str
    worker: str
    pid: int
    began_ns: int
    ended_ns: int | None
    """None if it never came to its end."""


def work(job: str, journal: str, seconds: float = 0.01) -> str:
    """A job that keeps a journal of its own: a line at its start, one at its end."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    who = f"{job} {os.environ.get('FAULTS_WORKER', '-')} {os.getpid()}"
    began = time.monotonic_ns()
    os.write(descriptor, f"start {who} {began}\n".encode())
    while time.monotonic_ns() - began < seconds * 1e9:
        pass
    os.write(descriptor, f"stop {who} {time.monotonic_ns()}\n".encode())
    os.close(descriptor)
    return f"result of {job}"


def read_journal(path: Path) -> list[Run]:
    """All runs in the order they began."""
    runs: list[Run] = []
    going: dict[tuple[str, int], int] = {}
    for line in path.read_text().splitlines():
        what, job, worker, pid, at = line.split()
        if what == "start":
            going[job, int(pid)] = len(runs)
            runs.append(Run(job, worker, int(pid), int(at), None))
        else:
            index = going.pop((job, int(pid)))
            begun = runs[index]
            runs[index] = Run(job, worker, int(pid), begun.began_ns, int(at))
    return runs


def check_slots(runs: Sequence[Run], slots: Mapping[str, int]) -> None:
    """Never more at once on a worker than it has slots.

    A run that was cut off ended when its process was gone, which nobody wrote down: it is left
    out, and so it cannot accuse anybody.
    """
    for worker, count in slots.items():
        edges: list[tuple[int, int]] = []
        for run in runs:
            if run.worker == worker and run.ended_ns is not None:
                edges += [(run.began_ns, 1), (run.ended_ns, -1)]
        busy = 0
        for at, step in sorted(edges):
            busy += step
            assert busy <= count, f"{busy} jobs at once on the {count} slots of {worker} at {at}"


def overlapping(runs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Runs of one job that went on at the same time."""
    found: list[tuple[Run, Run]] = []
    by_job: dict[str, list[Run]] = {}
    for run in runs:
        by_job.setdefault(run.job, []).append(run)
    for mine in by_job.values():
        for first, second in pairwise(sorted(mine, key=lambda run: run.began_ns)):
            if first.ended_ns is not None and first.ended_ns > second.began_ns:
                found.append((first, second))
    return found


def read_records(data: Path) -> dict[str, list[Record]]:
    """Every job's records in order, read while no coordinator has the folder."""

    async def read() -> dict[str, list[Record]]:
        store = SqliteStore(data)
        await store.open()
        try:
            rows = await store.rows(limit=10_000_000)
            return {
                row.job_id: [decode(body) for _, _, body in await store.records_of(row.job_id)]
                for row in rows
            }
        finally:
            await store.close()

    return asyncio.run(read())


def check_records(stories: Mapping[str, Sequence[Record]]) -> None:
    """Each job's story is one that may happen, and is over.

    Submitted once and first; attempts counted from 1 without a gap, never two at once; finished
    once and last.
    """
    for job_id, story in stories.items():
        kinds = Counter(type(record).__name__ for record in story)
        assert isinstance(story[0], JobSubmitted), f"{job_id} begins with {story[0]!r}"
        assert kinds["JobSubmitted"] == 1, f"{job_id} was submitted twice"
        assert kinds["JobFinished"] == 1, f"{job_id} ended {kinds['JobFinished']} times"
        assert isinstance(story[-1], JobFinished), f"{job_id} went on after its end"
        attempt, is_leased = 0, False
        for record in story:
            assert record.job_id == job_id, f"{job_id} has a record of {record.job_id}"
            match record:
                case AttemptStarted():
                    assert not is_leased, f"{job_id} has two attempts at once"
                    assert record.attempt == attempt + 1, f"{job_id}: {record.attempt} is no next"
                    attempt, is_leased = record.attempt, True
                case AttemptLeft():
                    assert is_leased, f"{job_id} left attempt {record.attempt} that nobody had"
                    assert record.attempt == attempt, f"{job_id} left an older attempt"
                    is_leased = False
                case JobFinished():
                    assert record.outcome.attempt in (0, attempt), f"{job_id}: a stale result"
                case JobSubmitted() | CancelRequested():
                    pass


def finished(story: Sequence[Record]) -> JobFinished:
    """The last record of a job that ended."""
    last = story[-1]
    assert isinstance(last, JobFinished), f"it has not ended: {last!r}"
    return last
