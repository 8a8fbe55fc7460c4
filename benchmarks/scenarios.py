"""What is measured. Each scenario gets a running system and returns figures with units."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks import tasks
from benchmarks.processes import cpu_s, pss_mib
from benchmarks.systems import Kind, System

MEGABYTE = 1e6
ARRAY_FLOATS = 1 << 18
ARRAY_BYTES = ARRAY_FLOATS * 4
ARRAY_COUNT = 256
SEQUENTIAL_COUNT = 1000
SEQUENTIAL_S = 4.0
WARM_UP_S = 1.0
IMPORT_COUNT = 5
IDLE_S = 5.0
SETTLE_S = 2.0
TRIAL_COUNT = 500

Figures = dict[str, float]


class CannotMeasureError(Exception):
    """The scenario makes no sense here, or takes too long; the text says why."""


@dataclass(slots=True)
class Session:
    """One life of a system, and what is known about it."""

    kind: Kind
    system: System
    started_s: float = 0.0
    """From the start of the first process to the first result."""
    budget_s: float = 60.0
    """What would take longer is left out."""

    def roots(self) -> dict[str, list[int]]:
        """All processes by role, this one included."""
        given = self.system.processes()
        return {role: list(pids) for role, pids in given.items()} | {"client": [os.getpid()]}


Measure = Callable[[Session], Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing to measure."""

    measure: Measure
    worker_count: int = 1
    has_values: bool = False
    """Arguments or results matter: nothing for a system whose tasks return nothing."""
    limit_s: float = 120.0
    """Taken for a hang after this time."""
    is_once: bool = False
    """Long enough for one round to do."""


# --- small tasks ---


def start(session: Session) -> Figures:
    return {"first_result_s": session.started_s}


def import_time(session: Session) -> Figures:
    program = f"import time; t = time.perf_counter()\n{session.kind.imports}\n"
    program += "print(time.perf_counter() - t)"
    times: list[float] = []
    for _ in range(IMPORT_COUNT):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(float(done.stdout))
    return {"import_ms": 1e3 * statistics.median(times)}


def idle(session: Session) -> Figures:
    time.sleep(SETTLE_S)
    roots = {role: pids for role, pids in session.roots().items() if role != "client"}
    before = cpu_s(roots)
    time.sleep(IDLE_S)
    spent = cpu_s(roots)
    figures = {f"{role}_pss_mib": held for role, held in pss_mib(roots).items()}
    for role in roots:
        figures[f"{role}_cpu_percent"] = 100 * (spent[role] - before[role]) / IDLE_S
    return figures


def noop_latency(session: Session) -> Figures:
    system = session.system

    def once(number: int) -> None:
        system.gather(system.submit(tasks.noop, [number]))

    return sequential(once)


def noops(count: int) -> Measure:
    """Many no-ops at once, and what each costs every process."""

    def measure(session: Session) -> Figures:
        system = session.system
        trial_s = timed(lambda: system.gather(system.submit(tasks.noop, range(TRIAL_COUNT))))
        if (needed_s := trial_s * count / TRIAL_COUNT) > session.budget_s:
            rate = TRIAL_COUNT / trial_s
            raise CannotMeasureError(f"at {rate:.0f} tasks/s it would take {needed_s:.0f} s")
        before = cpu_s(session.roots())
        results: list[object] = []
        took_s = timed(
            lambda: results.extend(system.gather(system.submit(tasks.noop, range(count))))
        )
        after = cpu_s(session.roots())
        assert len(results) == count, len(results)
        assert session.kind.no_values or results == list(range(count))
        costs = {role: after[role] - before.get(role, 0.0) for role in after}
        figures = {"tasks_per_s": count / took_s}
        return figures | {f"{role}_us": 1e6 * cost / count for role, cost in costs.items()}

    return measure


# --- arrays ---


def array_latency(session: Session) -> Figures:
    system = session.system
    array = np.ones(ARRAY_FLOATS, np.float32)

    def once(number: int) -> None:
        array[0] = number
        (result,) = system.gather(system.submit(tasks.double, [array.copy()]))
        assert result[0] == 2 * number

    return sequential(once, warm_up=5)


def arrays_both(session: Session) -> Figures:
    system = session.system
    arrays = made_arrays()
    results: list[tasks.Array] = []
    took_s = timed(lambda: results.extend(system.gather(system.submit(tasks.double, arrays))))
    for array, result in zip(arrays, results, strict=True):
        assert np.array_equal(result[::4096], 2 * array[::4096])
    return {"megabytes_per_s": rate_of(took_s)}


def arrays_up(session: Session) -> Figures:
    system = session.system
    # Others than before: Lineshaft does not send again what the coordinator has.
    arrays = made_arrays(ARRAY_COUNT)
    results: list[float] = []
    took_s = timed(lambda: results.extend(system.gather(system.submit(tasks.ends, arrays))))
    assert results == [float(array[0] + array[-1]) for array in arrays]
    return {"megabytes_per_s": rate_of(took_s)}


def arrays_down(session: Session) -> Figures:
    system = session.system
    results: list[tasks.Array] = []
    numbers = range(ARRAY_COUNT)
    took_s = timed(lambda: results.extend(system.gather(system.submit(tasks.ramp, numbers))))
    for number, result in zip(numbers, results, strict=True):
        assert len(result) == ARRAY_FLOATS
        assert result[0] == number
    return {"megabytes_per_s": rate_of(took_s)}


def one_big_array(session: Session) -> Figures:
    system = session.system
    system.gather(system.submit(tasks.double, [np.ones(1 << 20, np.float32)]))
    array = np.arange(ARRAY_COUNT * ARRAY_FLOATS, dtype=np.float32)
    results: list[tasks.Array] = []
    took_s = timed(lambda: results.extend(system.gather(system.submit(tasks.double, [array]))))
    assert np.array_equal(results[0][::65536], 2 * array[::65536])
    return {"there_and_back_s": took_s}


def made_arrays(first: int = 0) -> list[tasks.Array]:
    """Arrays of which no two are equal, so that nobody saves one by its content."""
    base = np.random.default_rng(0).random(ARRAY_FLOATS, dtype=np.float32)
    return [base + np.float32(first + number) for number in range(ARRAY_COUNT)]


def rate_of(took_s: float) -> float:
    return ARRAY_COUNT * ARRAY_BYTES / MEGABYTE / took_s


def timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def sequential(once: Callable[[int], None], *, warm_up: int = 20) -> Figures:
    """Quantiles of one call after the other."""
    deadline = time.perf_counter() + WARM_UP_S
    for number in range(warm_up):
        once(number)
        if time.perf_counter() > deadline:
            break
    times: list[float] = []
    deadline = time.perf_counter() + SEQUENTIAL_S
    while len(times) < SEQUENTIAL_COUNT and (len(times) < 3 or time.perf_counter() < deadline):
        begin = time.perf_counter()
        once(len(times))
        times.append(time.perf_counter() - begin)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98], "count": len(times)}


# In the order of measuring: what is idle comes before what leaves memory behind.
SCENARIOS: Mapping[str, Scenario] = {
    "import": Scenario(measure=import_time, is_once=True),
    "start": Scenario(measure=start),
    "idle": Scenario(measure=idle, is_once=True),
    "noop-latency": Scenario(measure=noop_latency),
    "noop-1k": Scenario(measure=noops(1000)),
    "noop-10k": Scenario(measure=noops(10_000)),
    "noop-100k": Scenario(measure=noops(100_000), is_once=True, limit_s=240.0),
    "array-latency": Scenario(measure=array_latency, has_values=True),
    "arrays-both": Scenario(measure=arrays_both, has_values=True),
    "arrays-up": Scenario(measure=arrays_up, has_values=True),
    "arrays-down": Scenario(measure=arrays_down, has_values=True),
    "array-256": Scenario(measure=one_big_array, has_values=True),
    "noop-10k-two": Scenario(measure=noops(10_000), worker_count=2),
}
