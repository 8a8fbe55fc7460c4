"""Measure the way daemon → runner → daemon, and the run API. Prints one JSON object a line.

python benchmarks/runner.py [--count 20000]
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cloudpickle

from lineshaft_runtime.packing import pack_bytes
from lineshaft_worker.execution.orders import AttemptKey, AttemptOrder
from lineshaft_worker.execution.pool import Execution
from lineshaft_worker.execution.reports import AttemptEnded, Report, Succeeded

WINDOW = 64
"""Attempts that are given to the lane in advance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    count: int = parser.parse_args().count
    asyncio.run(measure_calls(count))
    asyncio.run(measure_start())
    measure_run_api()


class Bench:
    """One lane, and what to do when an attempt ends."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.code = cloudpickle.dumps(lambda: None)
        self.payload = pack_bytes(((), {}))
        self.on_end: Callable[[AttemptKey], None] = lambda _key: None
        self.started = 0

    def start(self) -> None:
        self.started += 1
        order = AttemptOrder(
            key=AttemptKey(f"job-{self.started}", 1),
            kind="function",
            name="no-op",
            payload=self.payload,
            code_id="no-op",
            code=self.code,
        )
        self.execution.start(order, 0)

    def hear(self, report: Report) -> None:
        if isinstance(report, AttemptEnded):
            assert isinstance(report.outcome, Succeeded), report
            self.execution.settled(report.key)
            self.on_end(report.key)


async def opened(folder: str) -> Bench:
    bench: list[Bench] = []
    # The bench needs the execution and the other way round.
    execution = Execution(Path(folder, "state"), report=lambda report: bench[0].hear(report))  # noqa: PLW0108
    bench.append(Bench(execution))
    await execution.open()
    return bench[0]


async def measure_calls(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = await opened(folder)
        await one_by_one(bench, 200)
        times = await one_by_one(bench, min(count, 5000))
        emit("round_trip_us", p50=quantile(times, 0.5) * 1e6, p99=quantile(times, 0.99) * 1e6)
        begin = time.perf_counter()
        await pipelined(bench, count)
        emit("pipelined_calls_per_s", value=count / (time.perf_counter() - begin), window=WINDOW)
        await bench.execution.close(keep_running=False)


async def one_by_one(bench: Bench, count: int) -> list[float]:
    times: list[float] = []
    finished = asyncio.Event()
    begin = 0.0

    def next_one() -> None:
        nonlocal begin
        begin = time.perf_counter()
        bench.start()

    def on_end(_key: AttemptKey) -> None:
        times.append(time.perf_counter() - begin)
        if len(times) < count:
            asyncio.get_running_loop().call_soon(next_one)
        else:
            finished.set()

    bench.on_end = on_end
    next_one()
    await finished.wait()
    return times


async def pipelined(bench: Bench, count: int) -> None:
    ended = 0
    first = bench.started
    finished = asyncio.Event()

    def on_end(_key: AttemptKey) -> None:
        nonlocal ended
        ended += 1
        if bench.started - first < count:
            bench.start()
        elif ended == count:
            finished.set()

    bench.on_end = on_end
    for _ in range(WINDOW):
        bench.start()
    await finished.wait()


async def measure_start() -> None:
    """From a lane without a runner to a result."""
    with tempfile.TemporaryDirectory() as folder:
        bench = await opened(folder)
        (time_s,) = await one_by_one(bench, 1)
        emit("cold_start_ms", value=time_s * 1e3)
        await bench.execution.close(keep_running=False)


def measure_run_api() -> None:
    program = """
import os, sys, time
begin = time.perf_counter()
from lineshaft import run
import_ms = (time.perf_counter() - begin) * 1e3
times = []
for step in range(20000):
    metrics = {"loss": 0.25, "accuracy": 0.5, "lr": 1e-3, "epoch": 3, "grad_norm": 1.5}
    begin = time.perf_counter_ns()
    run.log(metrics, step=step)
    times.append(time.perf_counter_ns() - begin)
times.sort()
print(import_ms, times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3)
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"LINESHAFT_SPOOL": f"{folder}/spool"},
            capture_output=True,
            text=True,
            check=True,
        )
    import_ms, p50, p99 = map(float, done.stdout.split())
    emit("run_api_import_ms", value=import_ms)
    emit("run_log_5_metrics_us", p50=p50, p99=p99)


def quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=1000, method="inclusive")[int(share * 1000) - 1]


def emit(name: str, **numbers: float) -> None:
    line = {"name": name} | {key: round(value, 2) for key, value in numbers.items()}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
