"""What the whole coordinator pays for metrics: a worker session sends 20,000 rows a second.

    python -m benchmarks.ingest [--runs 100] [--rate 20000] [--seconds 10]

The coordinator and its recorder are real, so is the session; the worker's runners are fake: each
run says its share of rows four times a second, as a worker daemon does. Counted is the processor
time of coordinator and recorder until every row is acknowledged and in the records, rows of five
metrics. Prints a JSON line.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import MIB, Daemons
from lineshaft_records.layout import RunFolder
from lineshaft_records.reading import RunReader
from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.dialing import dial

VERSIONS = {"protocol_min": 1, "protocol_max": 1, "python": "3.11"}
TURN_S = 0.25
NAMES = ("loss", "acc", "lr", "grad_norm", "time")
DONE_S = 60.0


class Session:
    """One end of a connection that remembers what it was told."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.heard: list[dict[str, Any]] = []
        self._first = first
        self._connection: Connection | None = None

    def on_open(self, connection: Connection) -> None:
        self._connection = connection
        self.say(self._first)

    def on_text(self, connection: Connection, data: bytes) -> None:
        del connection
        told = json.loads(data)
        self.heard += told if isinstance(told, list) else [told]

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        del connection, data

    def on_writable(self, connection: Connection) -> None:
        del connection

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        del connection
        self.heard.append({"type": "closed", "code": code, "reason": reason})

    def say(self, message: object) -> None:
        assert self._connection is not None, "it was dialled"
        self._connection.send_text(message if isinstance(message, str) else json.dumps(message))

    def take(self, kind: str) -> list[dict[str, Any]]:
        """Return what came of this kind; the rest is forgotten.

        Raises:
            SystemExit: The coordinator ended the session.
        """
        heard, self.heard = self.heard, []
        for message in heard:
            if message["type"] in ("closed", "Refused"):
                raise SystemExit(f"the coordinator: {message}")
        return [message for message in heard if message["type"] == kind]

    async def until(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Wait for so many of a kind."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(DONE_S):
            while len(found) < count:
                found += self.take(kind)
                await asyncio.sleep(0.01)
        return found


def rows(job_id: str, first: int, count: int) -> str:
    """Return a message with so many rows of a run, the first one this step."""
    events = [
        {
            "job_id": job_id,
            "attempt": 1,
            "seq": step,
            "at": time.time(),
            "kind": "metrics",
            "body": {"metrics": dict.fromkeys(NAMES, 1.0 / step), "step": step},
        }
        for step in range(first, first + count)
    ]
    return json.dumps({"type": "JobEvents", "events": events})


async def measure(folder: Path, runs: int, rate: int, seconds: int) -> dict[str, float]:
    """Return what a farm in this folder needed for so many rows."""
    daemons = Daemons(folder)
    home = folder / "home"
    home.mkdir()
    command = [sys.executable, "-m", "lineshaft_coordinator", "--listen", "127.0.0.1:0"]
    coordinator = daemons.start(
        "head", [*command, "--log-level", "warning"], {"LINESHAFT_HOME": str(home)}
    )
    address = home / "coordinator.json"
    daemons.until(address.exists, "the coordinator listens")
    try:
        url = str(json.loads(address.read_text())["url"])
        worker = await _start(url, (home / "token").read_text().strip(), runs)
        jobs = [str(each["job"]["job_id"]) for each in await worker.until("Assign", runs)]
        begin, before, alone = time.perf_counter(), _spent(coordinator), _alone(coordinator)
        sent = await _send(worker, jobs, rate, seconds)
        await asyncio.to_thread(_until_recorded, home / "data" / "runs", jobs, sent)
        cpu_s, took_s = _spent(coordinator) - before, time.perf_counter() - begin
        alone_s = _alone(coordinator) - alone
        memory = sum(each.memory_info().rss for each in _family(coordinator))
    finally:
        daemons.stop()
    return {
        "runs": runs,
        "rows": sent * runs,
        "rows_per_s": sent * runs / seconds,
        "share_of_a_core": cpu_s / seconds,
        "cpu_us_per_row": 1e6 * cpu_s / (sent * runs),
        "coordinator_us_per_row": 1e6 * alone_s / (sent * runs),
        "recorder_us_per_row": 1e6 * (cpu_s - alone_s) / (sent * runs),
        "recorded_after_s": took_s - seconds,
        "rss_mib": memory / MIB,
    }


async def _start(url: str, token: str, runs: int) -> Session:
    worker = Session(
        {
            "type": "Register",
            "worker_id": "w1",
            "capabilities": {},
            "versions": VERSIONS,
            "capacity": {"slots": runs, "cpus": 4.0 * runs, "memory_bytes": 1 << 40},
            "pythons": ["3.11"],
            "incarnation": "first",
        }
    )
    await dial(f"{url}/v1/worker", worker, token=token, limits=Limits())
    await worker.until("Registered", 1)
    client = Session({"type": "ClientHello", "client_id": "ingest", "versions": VERSIONS})
    await dial(f"{url}/v1/client", client, token=token, limits=Limits())
    for number in range(runs):
        job = {"job_id": f"run{number}", "kind": "pipeline", "payload": {"inline": "aGk="}}
        client.say({"type": "Submit", "job": {**job, "name": "ingest"}})
    await client.until("Accepted", runs)
    return worker


async def _send(worker: Session, jobs: list[str], rate: int, seconds: int) -> int:
    """Say so many rows a second for so long; returns how many each run said."""
    for job_id in jobs:
        worker.say({"type": "Began", "job_id": job_id, "attempt": 1})
    each = round(rate * TURN_S / len(jobs))
    begin, said = time.perf_counter(), 0
    for turn in range(round(seconds / TURN_S)):
        await asyncio.sleep(max(0.0, begin + turn * TURN_S - time.perf_counter()))
        worker.say({"type": "Heartbeat", "worker_id": "w1", "load": {}, "sent_at": time.time()})
        for job_id in jobs:
            worker.say(rows(job_id, said + 1, each))
        said += each
    acknowledged: dict[str, int] = {}
    async with asyncio.timeout(DONE_S):
        while sum(acknowledged.values()) < said * len(jobs):
            for ack in worker.take("EventsAck"):
                job_id = ack["job_id"]
                acknowledged[job_id] = max(acknowledged.get(job_id, 0), ack["seq"])
            await asyncio.sleep(0.01)
    return said


def _until_recorded(base: Path, jobs: list[str], count: int) -> None:
    deadline = time.monotonic() + DONE_S
    for job_id in jobs:
        while not any(_rows_of(run) == count for run in base.glob(f"*/{job_id}")):
            if time.monotonic() > deadline:
                raise SystemExit(f"the rows of {job_id} are not in its record after {DONE_S:g} s")
            time.sleep(0.1)


def _rows_of(run: Path) -> int:
    found = RunReader(RunFolder(run)).points(["loss"]).get("loss")
    return len(found.values) if found is not None else 0


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _spent(process: psutil.Process) -> float:
    return sum(map(_alone, _family(process)))


def _alone(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rate", type=int, default=20_000, help="rows a second, of all runs")
    parser.add_argument("--seconds", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        found = asyncio.run(measure(Path(folder), chosen.runs, chosen.rate, chosen.seconds))
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
