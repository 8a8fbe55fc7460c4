"""Measures what daemons cost that have nothing to do; prints one JSON line for each.

Usage: python benchmarks/idle.py [seconds]   (how long to watch; default 10)

A coordinator and one worker with one slot, on loopback. `pss_mib` counts each shared page in
proportion, `uss_mib` only pages of the process alone; with the worker come its idle runners.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

READY_S = 30.0
SETTLE_S = 2.0


def main() -> None:
    watch_s = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as name:
        home = Path(name)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LINESHAFT_")}
        environ["LINESHAFT_HOME"] = str(home)
        listen = ("--listen", "127.0.0.1:0")
        with daemon(environ, "lineshaft_coordinator", *listen) as coordinator:
            until(home / "coordinator.json")
            with daemon(environ, "lineshaft_worker", "--name", "w1", "--slots", "1") as worker:
                until(home / "workers" / "w1")
                time.sleep(SETTLE_S)
                watched = {"coordinator": coordinator, "worker": worker}
                runners = worker.children(recursive=True)
                watched |= {f"runner {number}": each for number, each in enumerate(runners)}
                report(watched, watch_s)


def report(watched: dict[str, psutil.Process], watch_s: float) -> None:
    before = {name: process.cpu_times() for name, process in watched.items()}
    switches = {name: process.num_ctx_switches().voluntary for name, process in watched.items()}
    time.sleep(watch_s)
    for name, process in watched.items():
        after, memory = process.cpu_times(), process.memory_full_info()
        cpu_s = after.user - before[name].user + after.system - before[name].system
        woken = process.num_ctx_switches().voluntary - switches[name]
        figures = {
            "what": f"idle {name}",
            "rss_mib": mib(memory.rss),
            "pss_mib": mib(memory.pss),
            "uss_mib": mib(memory.uss),
            "cpu_percent": round(100 * cpu_s / watch_s, 2),
            "wakes_per_s": round(woken / watch_s, 1),
            "threads": process.num_threads(),
            "files": process.num_fds(),
        }
        print(json.dumps(figures), flush=True)


@contextmanager
def daemon(environ: dict[str, str], module: str, *flags: str) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", module, "--log-level", "warning", *flags]
    process = psutil.Popen(command, env=environ)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def until(path: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{path} did not appear within {READY_S:g} s")
        time.sleep(0.05)


def mib(count: int) -> float:
    return round(count / (1 << 20), 1)


if __name__ == "__main__":
    main()
