"""Measures a coordinator's start with many live jobs; prints one JSON line for each number of them.

Usage: python benchmarks/recovery.py [live jobs ...]   (default: 10000 100000)

The data folder is made by the real store: each job was submitted and has lost one worker, so a
third of them is between attempts when the coordinator died and the others wait. Then the real
daemon is started on it, as a process. `first_answer_s` is from its start to the first answer over
HTTP, `told_s` to the first answer about jobs to a client, `journal_s` what its log says of the
replay alone. Memory is the daemon's after that answer, `peak` the most it ever had.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from lineshaft import Client
from lineshaft_coordinator.core.records import AttemptLeft, AttemptStarted, JobSubmitted, encode
from lineshaft_coordinator.store.interface import Batch, JobRow
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_protocol.jobs import JobSpec, Payload

COUNTS = (10_000, 100_000)
BATCH_JOBS = 512
PAYLOAD = b"arguments, packed, of a small call: " * 5
READY_S = 300.0


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or COUNTS
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="bench-recovery-") as name:
            home = Path(name)
            asyncio.run(fill(home / "data", count))
            measure(home, count)


async def fill(data: Path, count: int) -> None:
    """Write the journal of a coordinator that died with these jobs live."""
    store = SqliteStore(data)
    epoch = await store.open()
    for first in range(0, count, BATCH_JOBS):
        numbers = range(first, min(first + BATCH_JOBS, count))
        batch = Batch(
            records=[record for number in numbers for record in records_of(number, epoch)],
            rows=[row_of(number) for number in numbers],
        )
        await store.append(batch)
    await store.close()


def records_of(number: int, epoch: int) -> list[tuple[str, float, bytes]]:
    job_id, at = id_of(number), time.time()
    spec = JobSpec(job_id=job_id, kind="function", name="train", payload=Payload.of_bytes(PAYLOAD))
    said = [
        JobSubmitted(job_id=job_id, client_id="c", job=spec),
        AttemptStarted(job_id=job_id, attempt=1, worker_id=f"w{number % 64}", epoch=epoch),
    ]
    if number % 3:
        said.append(AttemptLeft(job_id=job_id, attempt=1, cause="worker_lost", reason="lost"))
    return [(job_id, at, encode(record)) for record in said]


def row_of(number: int) -> JobRow:
    at = time.time()
    return JobRow(
        id_of(number), True, "queued", "train", "function", "c", at, None, None, 0, "", None
    )


def id_of(number: int) -> str:
    return f"{number:016x}"  # In order of time, as job ids should be.


def measure(home: Path, count: int) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LINESHAFT_")}
    environ["LINESHAFT_HOME"] = str(home)
    log = home / "log"
    command = [sys.executable, "-m", "lineshaft_coordinator", "--listen", "127.0.0.1:0"]
    command += ["--data", str(home / "data"), "--port-file", str(home / "port")]
    began = time.monotonic()
    with log.open("wb") as file:
        daemon = psutil.Popen([*command, "--log-style", "json"], env=environ, stderr=file)
    try:
        port = port_of(home / "port", daemon, log)
        first_answer_s = time.monotonic() - began
        told = ask(f"ws://127.0.0.1:{port}", (home / "token").read_text().strip())
        told_s = time.monotonic() - began
        if told != count:
            raise SystemExit(f"{told} live jobs were told of {count}")
        memory = daemon.memory_info().rss
        figures = {
            "what": f"start with {count} live jobs",
            "first_answer_s": round(first_answer_s, 2),
            "told_s": round(told_s, 2),
            "journal_s": journal_s(log),
            "cpu_s": round(sum(daemon.cpu_times()[:2]), 2),
            "rss_mib": mib(memory),
            "peak_mib": mib(peak_bytes(daemon.pid)),
            "data_mib": mib(
                sum(f.stat().st_size for f in (home / "data").glob("*") if f.is_file())
            ),
        }
        print(json.dumps(figures), flush=True)
    finally:
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()


def port_of(file: Path, daemon: psutil.Popen, log: Path) -> int:
    """Wait until the daemon answers over HTTP; returns its port."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise SystemExit(f"the coordinator ended:\n{log.read_text()[-3000:]}")
        try:
            port = int(file.read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60):
                return port
        except (OSError, ValueError, urllib.error.URLError):
            time.sleep(0.02)
    raise SystemExit(f"the coordinator did not answer within {READY_S:g} s")


def ask(url: str, token: str) -> int:
    with Client(url, token=token) as client:
        info = client.info()
        assert isinstance(info, dict)
        return int(str(info["live_jobs"]))


def journal_s(log: Path) -> float | None:
    for line in log.read_text().splitlines():
        if '"journal replayed"' in line:
            return float(json.loads(line)["seconds"])
    return None


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def mib(count: int) -> float:
    return round(count / (1 << 20), 1)


if __name__ == "__main__":
    main()
