"""A thousand simulated workers and a hundred thousand waiting jobs at one real coordinator.

    python -m benchmarks.scale [--workers 1000] [--queued 100000] [--run-s 4] [--window 10]

The workers are sessions that speak the worker protocol, heartbeats included, spread over a few
processes; only their runners are fake: an attempt is a pause. A client keeps the queue as long as
it is: each job that ends is followed by another, of one of 20 shapes. Prints a JSON line for a
queue of 1,000 and one for the long queue: how long a slot that became free waits for its next
attempt (two hops and two commits), what a job costs the coordinator, and its memory.
"""

import argparse
import asyncio
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from benchmarks.processes import MIB, Daemons
from benchmarks.simulated_workers import run_workers
from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.dialing import dial

SHAPE_COUNT = 20
SHORT_QUEUE = 1000
PROCESS_COUNT = 4
BATCH = 500
REGISTERED_S = 120.0
SETTLE_S = 5.0
VERSIONS = {"protocol_min": 1, "protocol_max": 1, "python": "3.11"}


class Load:
    """A client that keeps so many jobs waiting or running."""

    def __init__(self) -> None:
        self.finished = 0
        self.accepted = 0
        self.submitted = 0
        self.refused = ""
        self._numbers = itertools.count(1)
        self._connection: Connection | None = None

    def on_open(self, connection: Connection) -> None:
        self._connection = connection
        hello = {"type": "ClientHello", "client_id": "load", "versions": VERSIONS}
        connection.send_text(json.dumps(hello))

    def on_text(self, connection: Connection, data: bytes) -> None:
        del connection
        told = json.loads(data)
        ended = 0
        for message in told if isinstance(told, list) else [told]:
            if message["type"] == "Finished":
                ended += 1
            elif message["type"] == "Accepted":
                self.accepted += 1
            elif message["type"] == "Refused":
                self.refused = message["message"]
        self.finished += ended
        self.submit(ended)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        del connection, data

    def on_writable(self, connection: Connection) -> None:
        del connection

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        del connection
        self.refused = self.refused or f"the session ended: {code} {reason}"

    def submit(self, count: int) -> None:
        """Add so many jobs."""
        assert self._connection is not None
        self.submitted += count
        jobs = [_job(number) for number in itertools.islice(self._numbers, count)]
        for first in range(0, count, BATCH):
            self._connection.send_text(json.dumps(jobs[first : first + BATCH]))

    async def keep(self, count: int) -> None:
        """Bring what is submitted and not finished up to this many, and wait for the answers."""
        while (missing := count - (self.submitted - self.finished)) > 0:
            self.submit(min(missing, BATCH))
            while self.accepted < self.submitted - BATCH:
                await self.pause(0.002)
        while self.accepted < self.submitted - BATCH:
            await self.pause(0.01)

    async def pause(self, seconds: float) -> None:
        """Wait, unless the coordinator takes no more.

        Raises:
            SystemExit: It refused a job or ended the session.
        """
        await asyncio.sleep(seconds)
        if self.refused:
            raise SystemExit(f"the coordinator: {self.refused}")


def _job(number: int) -> dict[str, object]:
    job = {
        "job_id": f"{number:016x}",
        "kind": "function",
        "payload": {"inline": "aGk="},
        "resources": {"memory_bytes": (1 + number % SHAPE_COUNT) * MIB},
    }
    return {"type": "Submit", "job": job}


class Bench:
    """Coordinator, simulated workers and the load."""

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self._daemons = Daemons(folder)
        self._home = folder / "home"
        self._chosen = chosen
        self._crews: list[tuple[BaseProcess, Pipe]] = []
        self._load = Load()

    async def run(self) -> None:
        self._home.mkdir()
        environ = {"LINESHAFT_HOME": str(self._home)}
        command = [sys.executable, "-m", "lineshaft_coordinator", "--listen", "127.0.0.1:0"]
        quiet = ("--log-level", "warning")
        coordinator = self._daemons.start("head", [*command, *quiet], environ)
        address = self._home / "coordinator.json"
        self._daemons.until(address.exists, "the coordinator listens")
        url = str(json.loads(address.read_text())["url"])
        token = (self._home / "token").read_text().strip()
        try:
            await self._start_workers(url, token)
            await dial(f"{url}/v1/client", self._load, token=token, limits=Limits())
            for queued in (SHORT_QUEUE, self._chosen.queued):
                before = coordinator.cpu_times()
                added = self._chosen.workers + queued - self._load.submitted + self._load.finished
                await self._load.keep(self._chosen.workers + queued)
                spent = coordinator.cpu_times()
                cost_s = spent.user + spent.system - before.user - before.system
                say("submitted", queued=queued, cpu_us_per_job=1e6 * cost_s / max(added, 1))
                await self._load.pause(SETTLE_S)
                await self._watch(coordinator, queued)
        finally:
            for process, _ in self._crews:
                process.kill()
                process.join()
            self._daemons.stop()

    async def _start_workers(self, url: str, token: str) -> None:
        spawn = get_context("spawn")
        names = [f"w{number}" for number in range(self._chosen.workers)]
        for number in range(PROCESS_COUNT):
            pipe, child_pipe = spawn.Pipe()
            crew = tuple(names[number::PROCESS_COUNT])
            arguments = (url, token, crew, self._chosen.run_s, child_pipe)
            process = spawn.Process(target=run_workers, args=arguments, daemon=True)
            process.start()
            self._crews.append((process, pipe))
        async with asyncio.timeout(REGISTERED_S):
            for _, pipe in self._crews:
                await asyncio.to_thread(pipe.recv)

    async def _watch(self, coordinator: psutil.Popen, queued: int) -> None:
        """One window of steady work."""
        self._waits()
        finished, before = self._load.finished, coordinator.cpu_times()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await self._load.pause(self._chosen.window)
        took_s, after = loop.time() - begin, coordinator.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        ended = self._load.finished - finished
        waits = sorted(self._waits())
        memory = coordinator.memory_full_info()
        say(
            "steady",
            workers=self._chosen.workers,
            queued=queued,
            jobs_per_s=ended / took_s,
            placement_p50_ms=1e3 * statistics.median(waits),
            placement_p99_ms=1e3 * waits[len(waits) * 99 // 100],
            placements=len(waits),
            cpu_us_per_job=1e6 * cpu_s / max(ended, 1),
            cpu_percent=100 * cpu_s / took_s,
            system_percent=100 * (after.system - before.system) / took_s,
            rss_mib=memory.rss / MIB,
            load=os.getloadavg()[0],
        )

    def _waits(self) -> Iterator[float]:
        """How long free slots waited since we last asked."""
        for _, pipe in self._crews:
            pipe.send("waits")
        found: list[float] = []
        for _, pipe in self._crews:
            found += pipe.recv()
        return iter(found)


def say(what: str, **figures: float) -> None:
    shown = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"what": what, **shown}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--run-s", type=float, default=4.0, help="how long an attempt takes")
    parser.add_argument("--window", type=float, default=10.0, help="seconds to watch")
    chosen = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        asyncio.run(Bench(Path(folder), chosen).run())


if __name__ == "__main__":
    main()
