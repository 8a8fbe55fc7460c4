"""What the coordinator holds while gigabytes pass through it.

    python -m benchmarks.memory [--gigabytes 4] [--mebibytes 16] [--by-wire]

Arrays go to a worker and come back, a few at a time, each another one. The coordinator's memory is
looked at all the while. Prints a JSON line: its RSS before, at most and after, in MiB, and how far
the most is from the first. Ends with 1 if that is more than 64 MiB.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.processes import MIB, adopt_orphans, end_descendants
from benchmarks.systems.lineshaft_farm import Adapter
from benchmarks.tasks import double

UNDER_WAY = 4
WARM_UP = 4
LOOK_S = 0.05
GROWN_MIB_MAX = 64.0


class Watch:
    """Follows the memory of a process in a thread of its own."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stopping = threading.Event()
        self.most_mib = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stopping.wait(LOOK_S):
            self.most_mib = max(self.most_mib, self.now_mib())

    def now_mib(self) -> float:
        """Without pages of files: what the process itself made."""
        memory = self._process.memory_info()
        return float(memory.rss - memory.shared) / MIB

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="to pass, both ways together")
    parser.add_argument("--mebibytes", type=int, default=16, help="of each array")
    parser.add_argument("--by-wire", action="store_true", help="as between machines")
    chosen = parser.parse_args()
    count = max(1, int(chosen.gigabytes * 1e9 / (2 * chosen.mebibytes * MIB)))
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        farm = Adapter(Path(folder), 1, by_wire=chosen.by_wire)
        try:
            farm.start()
            pass_arrays(farm, WARM_UP, chosen.mebibytes)
            watch = Watch(farm.processes()["head"][0])
            before_mib = watch.now_mib()
            watch.start()
            begin = time.perf_counter()
            pass_arrays(farm, count, chosen.mebibytes)
            took_s = time.perf_counter() - begin
            watch.stop()
            line = {
                "what": "coordinator memory",
                "gigabytes": 2 * count * chosen.mebibytes * MIB / 1e9,
                "array_mib": chosen.mebibytes,
                "way": "wire" if chosen.by_wire else "files",
                "before_mib": before_mib,
                "most_mib": watch.most_mib,
                "after_mib": watch.now_mib(),
                "grown_mib": watch.most_mib - before_mib,
                "took_s": took_s,
            }
            shown = {key: round(v, 1) if isinstance(v, float) else v for key, v in line.items()}
            print(json.dumps(shown), flush=True)
            if watch.most_mib - before_mib > GROWN_MIB_MAX:
                raise SystemExit(1)
        finally:
            farm.stop()
            end_descendants()


def pass_arrays(farm: Adapter, count: int, mebibytes: int) -> None:
    """Send arrays and take them back, a few at a time."""
    base = np.arange(mebibytes * (MIB // 4), dtype=np.float32)
    offset = time.time_ns() % 1000
    for first in range(0, count, UNDER_WAY):
        numbers = range(first, min(first + UNDER_WAY, count))
        arrays = [base + np.float32(offset + number) for number in numbers]
        for array, result in zip(arrays, farm.gather(farm.submit(double, arrays)), strict=True):
            assert result[0] == 2 * array[0]


if __name__ == "__main__":
    main()
