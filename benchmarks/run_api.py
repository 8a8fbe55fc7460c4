"""Measures what a call of the run API costs user code; prints one JSON line for each case.

Usage: python benchmarks/run_api.py [calls]   (how many of each; default 20000)

A call logs five metrics. No daemon, coordinator or network is there in any state: a call never
talks to them, so `nobody reads` is also how it is when all of them are dead. `cpu_us` is the
processor time of a call, which other load on the machine changes less than the times do.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lineshaft import run
from lineshaft_runtime import spool

IMPORTS = 20


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory(prefix="bench-run-api-") as name:
        folder = Path(name)
        full = folder / "full"
        full.symlink_to("/dev/full")
        measure("nobody reads", folder / "spool", count)
        measure("disk full", full, count)
        measure("folder gone", folder / "gone" / "spool", count)
    measure("no job", None, count)
    measure_import()


def measure(state: str, path: Path | None, count: int) -> None:
    writer = None if path is None else spool.SpoolWriter(str(path))
    spool.attach(spool.JobContext(writer))
    metrics = {"loss": 0.4375, "accuracy": 0.875, "lr": 3e-4, "grad_norm": 1.25, "epoch": 3}
    for step in range(1000):
        run.log(metrics, step=step)
    times_ns = [0] * count
    cpu_ns = time.process_time_ns()
    for step in range(count):
        started_ns = time.perf_counter_ns()
        run.log(metrics, step=step)
        times_ns[step] = time.perf_counter_ns() - started_ns
    cpu_ns = time.process_time_ns() - cpu_ns
    spool.attach(None)
    times_ns.sort()
    print(
        json.dumps(
            {
                "what": f"log of 5 metrics, {state}",
                "p50_us": times_ns[count // 2] / 1000,
                "p99_us": times_ns[count * 99 // 100] / 1000,
                "max_us": times_ns[-1] / 1000,
                "cpu_us": round(cpu_ns / count / 1000, 2),
            }
        )
    )


def measure_import() -> None:
    """Say what the import costs beyond an interpreter's start."""
    times_ms = {"pass": [], "import lineshaft.run": []}  # type: dict[str, list[float]]
    for _ in range(IMPORTS):
        for program, found in times_ms.items():
            before = os.times()
            subprocess.run([sys.executable, "-c", program], check=True)
            after = os.times()
            spent_s = after.children_user - before.children_user
            found.append(1000 * (spent_s + after.children_system - before.children_system))
    bare, whole = (sum(found) / IMPORTS for found in times_ms.values())
    print(json.dumps({"what": "import lineshaft.run", "cpu_ms": round(whole - bare, 1)}))


if __name__ == "__main__":
    main()
