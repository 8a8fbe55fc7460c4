"""Measures where a lone array of 1 MiB there and back takes its time, beside what it cannot avoid.

    python -m benchmarks.large_values [--calls N] [--folder FOLDER] [--by-wire]

A coordinator, a worker with one slot and a client, as processes. Three things are done N times, one
after the other: a no-op; a no-op beside which caller and job hash and double 1 MiB of their own, so
that nothing is passed but caches are as full of data as with an array; and the array. Each is one
JSON line: p50 on the wall, without the caller's own work in the second one, and the processor time
of each process for one call. `--folder /dev/shm` leaves the disk out.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.processes import cpu_s
from benchmarks.scenarios import ARRAY_FLOATS, Session
from benchmarks.systems import SYSTEMS
from benchmarks.systems.lineshaft_farm import Adapter
from benchmarks.tasks import Array, double, noop

WARM_UP_COUNT = 50
SETTLE_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_values", description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--by-wire", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-large-", dir=asked.folder) as name:
        farm = Adapter(Path(name), 1, by_wire=asked.by_wire)
        try:
            farm.start()
            for what, once in calls_of(farm).items():
                figures = measure(farm, once, asked.calls)
                print(json.dumps({"what": what, **figures}), flush=True)
        finally:
            farm.stop()


def touch() -> None:
    """Do to 1 MiB what is done to an array that is passed."""
    array: Array = np.ones(ARRAY_FLOATS, np.float32)
    hashlib.sha256(memoryview(double(array)).cast("B")).hexdigest()


def touching(value: object) -> object:
    """Do to 1 MiB what a job does to an array; of this module, so it goes by value."""
    touch()
    return value


def calls_of(farm: Adapter) -> dict[str, Callable[[int], float]]:
    """What is measured: each does one call and returns how long it took, in seconds."""
    array: Array = np.ones(ARRAY_FLOATS, np.float32)

    def pass_nothing(number: int) -> float:
        return timed(lambda: farm.gather(farm.submit(noop, [number])))

    def pass_nothing_beside_data(number: int) -> float:
        touch()
        return timed(lambda: farm.gather(farm.submit(touching, [number])))

    def pass_an_array(number: int) -> float:
        array[0] = number
        given, results = array.copy(), list[Array]()
        took_s = timed(lambda: results.extend(farm.gather(farm.submit(double, [given]))))
        assert results[0][0] == 2 * number
        return took_s

    return {
        "a no-op": pass_nothing,
        "a no-op, caller and job touch 1 MiB each": pass_nothing_beside_data,
        "1 MiB there and back": pass_an_array,
    }


def timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def measure(farm: Adapter, once: Callable[[int], float], count: int) -> dict[str, float]:
    session = Session(SYSTEMS["lineshaft"], farm)
    for number in range(WARM_UP_COUNT):
        once(number)
    time.sleep(SETTLE_S)
    before = cpu_s(session.roots())
    times = [once(WARM_UP_COUNT + number) for number in range(count)]
    after = cpu_s(session.roots())
    figures = {"p50_ms": round(1e3 * statistics.median(times), 2)}
    for role, spent_s in after.items():
        figures[f"{role}_cpu_ms"] = round(1e3 * (spent_s - before[role]) / count, 2)
    return figures


if __name__ == "__main__":
    main()
