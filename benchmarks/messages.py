"""What a no-op costs in messages, records and rows alone: Lineshaft without its state machines.

    python -m benchmarks.messages [--jobs 20000] [--folder /dev/shm]

Makes, writes and reads what client, coordinator and worker daemon make, write and read for each
brief call of a flood, in frames of 100, and keeps its records and rows in a store; nobody decides
anything. Prints a JSON line for each process: microseconds of processor time for one job.
"""

import argparse
import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lineshaft_coordinator.core.io import Append
from lineshaft_coordinator.core.records import AttemptStarted, JobFinished, JobSubmitted, Record
from lineshaft_coordinator.server.facts import Facts
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.client_messages import Accepted, Finished, Submit
from lineshaft_protocol.codec import FROM_CLIENT, FROM_WORKER, TO_CLIENT, TO_WORKER, Codec
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import AttemptResult, Outcome
from lineshaft_protocol.wire import Wire, unchecked
from lineshaft_protocol.worker_messages import Assign, Ended, Settled
from lineshaft_runtime.loops import GC_MIDDLE, GC_OLD, GC_YOUNG

JOBS = 20_000
FRAME = 100
"""Jobs in a frame."""
COMMIT = 280
"""Jobs in a commit, as counted in a flood of 10,000."""
CODE = "c0de" * 16
_accepted, _finished, _outcome = unchecked(Accepted), unchecked(Finished), unchecked(Outcome)
_assign, _settled = unchecked(Assign), unchecked(Settled)
_submitted, _started = unchecked(JobSubmitted), unchecked(AttemptStarted)
_ended = unchecked(JobFinished)
PAYLOAD, RESULT = Payload.of_bytes(bytes(60)), Payload.of_bytes(bytes(20))


def costs(job_count: int, folder: Path) -> dict[str, dict[str, float]]:
    """Measure: by process and by what it does, microseconds for one job.

    Args:
        job_count: How many jobs.
        folder: Where the store is made.
    """
    frames = max(1, job_count // FRAME)
    jobs = [_job(number) for number in range(FRAME)]
    submits, ends = _frame(_submits(jobs)), _frame(_ends(jobs))
    to_client = [told for job in jobs for told in _to_client(job)]
    to_worker = [told for job in jobs for told in _to_worker(job)]
    client_frame, worker_frame = _frame(to_client), _frame(to_worker)

    def timed(*actions: Callable[[], object]) -> float:
        return sum(_timed(action, frames) for action in actions) / FRAME

    return {
        "client": {
            "make and write": timed(lambda: _frame(_submits(jobs))),
            "read": timed(lambda: TO_CLIENT.decode(client_frame)),
        },
        "coordinator": {
            "read": timed(lambda: FROM_CLIENT.decode(submits), lambda: FROM_WORKER.decode(ends)),
            "make": timed(lambda: [(_to_client(j), _to_worker(j), _records(j)) for j in jobs]),
            "write": timed(lambda: _frame(to_client), lambda: _frame(to_worker)),
            "rows and store": asyncio.run(_keep(job_count, folder)),
        },
        "worker": {
            "make and write": timed(lambda: _frame(_ends(jobs))),
            "read": timed(lambda: TO_WORKER.decode(worker_frame)),
        },
    }


def _timed(action: Callable[[], object], count: int) -> float:
    """Processor time of one call, in microseconds."""
    action()
    begin = time.process_time()
    for _ in range(count):
        action()
    return (time.process_time() - begin) / count * 1e6


async def _keep(job_count: int, folder: Path) -> float:
    store, facts = SqliteStore(folder), Facts({})
    await store.open()
    made = [_records(_job(number)) for number in range(job_count)]
    begin = time.process_time()
    for start in range(0, job_count, COMMIT):
        # In a flood the three are far apart: what is submitted now is given away much later.
        for moment in range(3):
            records = [records[moment] for records in made[start : start + COMMIT]]
            batch = facts.batch([Append(record) for record in records], time.time())
            assert batch is not None, "there are records"
            await store.append(batch)
    cost_us = (time.process_time() - begin) / job_count * 1e6
    await store.close()
    return cost_us


def _frame(messages: Sequence[Wire]) -> bytes:
    return b"".join(Codec.encode_batches(map(Codec.encode, messages)))


def _job(number: int) -> JobSpec:
    return JobSpec(
        job_id=f"1pu5c0n8k2vt-{number}",
        kind="function",
        payload=PAYLOAD,
        name="nothing",
        code=CODE,
        python="3.11",
    )


def _submits(jobs: list[JobSpec]) -> list[Submit]:
    return [Submit(job=job.like(job.job_id, job.payload), is_fresh=True) for job in jobs]


def _ends(jobs: list[JobSpec]) -> list[Ended]:
    return [
        Ended(
            result=AttemptResult(
                job_id=job.job_id, attempt=1, status="succeeded", result=RESULT, run_s=4e-5
            )
        )
        for job in jobs
    ]


def _outcome_of(job: JobSpec) -> Outcome:
    return _outcome(
        job_id=job.job_id,
        status="succeeded",
        attempt=1,
        result=RESULT,
        worker_id="w1",
        run_s=4e-5,
    )


def _to_client(job: JobSpec) -> list[Wire]:
    return [_accepted(job_id=job.job_id), _finished(outcome=_outcome_of(job))]


def _to_worker(job: JobSpec) -> list[Wire]:
    assign = _assign(job=job, attempt=1, epoch=1, expected_s=4e-5, lease_s=120, lease_grace_s=30)
    return [assign, _settled(job_id=job.job_id, attempt=1)]


def _records(job: JobSpec) -> tuple[Record, Record, Record]:
    """What is said of the job, in the order in which it becomes true."""
    return (
        _submitted(job_id=job.job_id, client_id="c", job=job),
        _started(job_id=job.job_id, attempt=1, worker_id="w1", epoch=1, incarnation="i1"),
        _ended(job_id=job.job_id, outcome=_outcome_of(job)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    chosen = parser.parse_args()
    gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)  # As daemons do.
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for process, parts in costs(chosen.jobs, Path(folder) / "store").items():
            rounded = {part: round(cost_us, 1) for part, cost_us in parts.items()}
            whole = round(sum(parts.values()), 1)
            print(json.dumps({"what": "messages", "process": process, "us": whole, **rounded}))


if __name__ == "__main__":
    main()
