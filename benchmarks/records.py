"""Run records: what a log call, a flush, a close, a read and a list cost, beside expman-rs.

    python -m benchmarks.records [--expman PYTHON]

PYTHON is the interpreter of an environment with `pip install expman-rs`, usually our own; where it
has none, or expman fails, its rows are left out, and the table says why.
"""

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lineshaft_records import Run
from lineshaft_records.catalog import Catalog
from lineshaft_records.documents import RunInfo, write_info
from lineshaft_records.layout import run_folder
from lineshaft_records.rows import Row
from lineshaft_records.writer import RunWriter

ROWS = 1_000_000
FLUSH = 50
METRICS = ("loss", "acc", "lr", "grad_norm", "time")
CALLS = 5000
EXPMAN = """
import json, sys, time, resource, statistics
import expman
base, rows, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = expman.Experiment("bench", run_name="r", base_dir=base, redirect_console=False,
    system_metrics_interval_secs=0, capture_provenance=False)
values = {name: 0.5 for name in NAMES}
step = 0
def flush():
    # It flushes after fifty rows, in a thread of its own: all that the process spends until then.
    global step
    before = time.process_time()
    for _ in range(50):
        made.log_vector(values, step=step)
        step += 1
    time.sleep(0.2)
    return (time.process_time() - before) * 1e3
first = statistics.median(flush() for _ in range(10))
spent = []
for step in range(step, step + calls):
    began = time.perf_counter_ns()
    made.log_vector(values, step=step)
    spent.append(time.perf_counter_ns() - began)
    if step % 50 == 0: time.sleep(0.01)
for step in range(step + 1, rows):
    made.log_vector(values, step=step)
step = rows
while (busy := flush()) > 100: pass  # until all that waited is written
last = statistics.median(flush() for _ in range(10))
before = time.process_time(); began = time.perf_counter()
made.close()
spent.sort()
print(json.dumps({"log call, 5 metrics, p50, µs": spent[len(spent) // 2] / 1e3,
    "log call, 5 metrics, p99, µs": spent[len(spent) * 99 // 100] / 1e3,
    "flush of 50 rows at 0 rows, CPU ms": first,
    "flush of 50 rows at 1,000,000 rows, CPU ms": last,
    "close at 1,000,000 rows, CPU s": time.process_time() - before,
    "close at 1,000,000 rows, s": time.perf_counter() - began,
    "most memory, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
""".replace("NAMES", repr(METRICS))


def opened(base: Path, run: str) -> RunWriter:
    info = RunInfo(name=run, experiment="bench", started_at=datetime.now(UTC))
    return RunWriter(run_folder(base, "bench", run), info)


def rows_from(step: int, count: int = FLUSH) -> list[Row]:
    return [
        Row(1, n, n * 1000, {name: 1.0 / (n + place + 1) for place, name in enumerate(METRICS)})
        for n in range(step, step + count)
    ]


def cpu_of(work: Callable[[], object], repeat: int = 1) -> float:
    """CPU seconds of one call: what a busy machine does not change."""
    gc.collect()
    began = time.process_time()
    for _ in range(repeat):
        work()
    return (time.process_time() - began) / repeat


def log_call(base: Path) -> dict[str, float]:
    with Run("bench", "calls", base=base, console=False, provenance=False) as run:
        values = dict.fromkeys(METRICS, 0.5)
        spent: list[int] = []
        for step in range(CALLS):
            began = time.perf_counter_ns()
            run.log_metrics(values, step=step)
            spent.append(time.perf_counter_ns() - began)
    spent.sort()
    return {
        "log call, 5 metrics, p50, µs": spent[CALLS // 2] / 1e3,
        "log call, 5 metrics, p99, µs": spent[CALLS * 99 // 100] / 1e3,
    }


def flushes(base: Path) -> dict[str, float]:
    """A million rows, 50 a flush, in a process of their own for the memory."""
    writer = opened(base, "large")
    first = [cpu_of(lambda: writer.append(rows_from(0), {"offset": 1})) for _ in range(50)]
    step = writer.rows
    while writer.rows < ROWS:
        writer.append(rows_from(step), {"offset": step})
        step += FLUSH
    rows = rows_from(step)
    last = [cpu_of(lambda: writer.append(rows, {"offset": 1})) for _ in range(50)]
    before, began = time.process_time(), time.perf_counter()
    writer.close("FINISHED")
    return {
        "flush of 50 rows at 0 rows, CPU ms": statistics.median(first) * 1e3,
        "flush of 50 rows at 1,000,000 rows, CPU ms": statistics.median(last) * 1e3,
        "close at 1,000,000 rows, CPU s": time.process_time() - before,
        "close at 1,000,000 rows, s": time.perf_counter() - began,
        "most memory of the writer, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def reads(base: Path) -> dict[str, float]:
    catalog = Catalog(base)
    catalog.metrics(run="large", names=["loss"])
    found = {
        "2,000 points of 1,000,000, CPU ms": 1e3
        * cpu_of(lambda: catalog.metrics(run="large", names=["loss"]), 5)
    }
    many = base / "many"
    for number in range(1000):
        folder = run_folder(many, f"e{number % 10}", f"r{number}")
        folder.path.mkdir(parents=True)
        started = datetime.now(UTC) + timedelta(seconds=number)
        info = RunInfo(
            name=folder.name,
            experiment=folder.experiment,
            started_at=started,
            vectors={f"metric_{n}": 0.5 for n in range(500)},
        )
        write_info(folder, info)
    listing = Catalog(many)
    listing.runs(limit=1000)
    found["list of 1,000 runs with 500 last values, CPU ms"] = 1e3 * cpu_of(
        lambda: listing.runs(limit=1000), 3
    )
    return found


def killed(base: Path) -> dict[str, float]:
    """A trainer that is killed the moment its last call has returned."""
    from benchmarks.records_killed import lost_rows  # noqa: PLC0415 - starts processes

    return lost_rows(base, sys.executable, "lineshaft")


PARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "log": log_call,
    "flush": flushes,
    "read": reads,
    "killed": killed,
}


def expman(python: str, base: Path) -> dict[str, float] | str:
    """Its figures, or why there are none."""
    command = [python, "-c", EXPMAN, str(base), str(ROWS), str(CALLS)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        from benchmarks.records_killed import lost_rows  # noqa: PLC0415 - starts processes

        return dict(json.loads(run.stdout)) | lost_rows(base, python, "expman")
    return (run.stderr.strip().splitlines() or [f"it ended with {run.returncode}"])[-1]


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.records")
    help_text = "interpreter of an environment with expman-rs; usually our own"
    flags.add_argument("--expman", default=sys.executable, help=help_text)
    flags.add_argument("--part", choices=PARTS, help="used by the benchmark itself")
    flags.add_argument("--folder", type=Path)
    chosen = flags.parse_args()
    if chosen.part:
        print(json.dumps(PARTS[chosen.part](chosen.folder)))
        return 0
    with tempfile.TemporaryDirectory(prefix="lineshaft-records-") as folder:
        for part in PARTS:
            command = [sys.executable, "-m", "benchmarks.records", "--part", part]
            run = subprocess.run(
                [*command, "--folder", folder], stdout=subprocess.PIPE, text=True, check=True
            )
            for what, value in json.loads(run.stdout).items():
                print(f"{what:50} {value:10.2f}", flush=True)
        found = expman(chosen.expman, Path(folder) / "expman")
        if isinstance(found, str):
            print(f"expman-rs: left out: {found}")
            return 0
        for what, value in found.items():
            print(f"{'expman-rs: ' + what:50} {value:10.2f}", flush=True)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
