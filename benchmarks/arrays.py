"""Measures a large job array: its submit, memory, and how soon its first item runs.

    python -m benchmarks.arrays [items ...] [--at-most N]      (default: 1000 100000)

A real coordinator and a worker with one slot, as processes, and a client in this one. Prints one
JSON line for each number of items. `client_submit_cpu_s` is what `client.array` itself takes here,
`kept_*` what it took until every item was on disk, `first_item_*` until the code of the first one
ran; each counted from the call, in processor seconds of client and coordinator, which other work
on the machine disturbs least, and on the wall. `found_*` is `client.find_array` after that,
`status_*` one question for how many items are where. Only the first items run.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.processes import MIB, Daemons
from lineshaft import Client

COUNTS = (1000, 100_000)
POLL_S = 0.01
CODE = """
import pathlib, time

def main(item, folder):
    pathlib.Path(folder, str(item)).touch()
    while pathlib.Path(folder).exists():  # It is gone when all is measured.
        time.sleep(0.5)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arrays", description=__doc__)
    parser.add_argument("items", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--at-most", type=int, default=None)
    asked = parser.parse_args()
    for count in asked.items:
        with tempfile.TemporaryDirectory(prefix="bench-arrays-") as name:
            print(json.dumps(measure(Path(name), count, asked.at_most)), flush=True)


def measure(folder: Path, count: int, at_most: int | None) -> dict[str, object]:
    daemons = Daemons(folder)
    environ = {"LINESHAFT_HOME": str(folder / "home")}
    try:
        port_file = folder / "port"
        coordinator = daemons.start(
            "head",
            [
                sys.executable, "-m", "lineshaft_coordinator", "--listen", "127.0.0.1:0",
                "--port-file", str(port_file), "--data", str(folder / "data"),
            ],
            environ,
        )  # fmt: skip
        daemons.until(lambda: port_file.exists() and port_file.read_text(), "it listens")
        url = f"ws://127.0.0.1:{port_file.read_text().strip()}"
        worker = [sys.executable, "-m", "lineshaft_worker", url, "--slots", "1"]
        daemons.start("worker", worker, environ)
        token = (folder / "home" / "token").read_text().strip()
        with Client(url, token=token) as client:
            daemons.until(client.workers, "a worker is here")
            return _figures(client, coordinator, folder, count, at_most)
    finally:
        daemons.stop()


def _figures(
    client: Client, coordinator: psutil.Popen, folder: Path, count: int, at_most: int | None
) -> dict[str, object]:
    (folder / "item.py").write_text(CODE)
    marks = folder / "marks"
    marks.mkdir()
    params = [{"item": number, "folder": str(marks)} for number in range(count)]
    meter = _Meter(coordinator)
    figures: dict[str, object] = {"what": f"array of {count} items", "at_most": at_most}
    rss = coordinator.memory_info().rss
    array = client.array("item.py:main", params, files={"item.py": CODE.encode()}, at_most=at_most)
    figures["client_submit_cpu_s"] = meter.read()["client_cpu_s"]
    waiting = {"first_item": lambda: any(marks.iterdir()), "kept": lambda: _kept(client) == count}
    while waiting:
        for what in [what for what, is_done in waiting.items() if is_done()]:
            del waiting[what]
            figures |= {f"{what}_{name}": value for name, value in meter.read().items()}
        time.sleep(POLL_S)
    figures["coordinator_mib"] = round(coordinator.memory_info().rss / MIB, 1)
    figures["coordinator_grown_mib"] = round((coordinator.memory_info().rss - rss) / MIB, 1)
    figures["client_peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    meter = _Meter(coordinator)
    assert sum(array.status.values()) == count, "each of its items is somewhere"
    figures |= {f"status_{name}": value for name, value in meter.read().items()}
    meter = _Meter(coordinator)
    found = client.find_array(array.id)
    assert len(found) == count, "it has all its items"
    figures |= {f"found_{name}": value for name, value in meter.read().items()}
    return figures


def _kept(client: Client) -> int:
    info = client.info()
    assert isinstance(info, dict)
    return int(str(info["live_jobs"]))


class _Meter:
    """Processor time of this process and the coordinator since now, and time."""

    def __init__(self, coordinator: psutil.Popen) -> None:
        self._coordinator = coordinator
        self._began = self._now()

    def read(self) -> dict[str, float]:
        names = ("wall_s", "client_cpu_s", "coordinator_cpu_s")
        return {
            name: round(after - before, 2)
            for name, before, after in zip(names, self._began, self._now(), strict=True)
        }

    def _now(self) -> tuple[float, float, float]:
        times = self._coordinator.cpu_times()
        return time.monotonic(), time.process_time(), float(times.user + times.system)


if __name__ == "__main__":
    main()
