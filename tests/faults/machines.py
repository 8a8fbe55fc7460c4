"""What happens to a whole machine, done to one worker's processes."""

import contextlib
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
from tests.e2e.farm import Farm, Process, until
from tests.faults.oracles import WORKER_VARIABLE


def start_worker(made: Farm, name: str, *flags: str) -> Process:
    """Start a worker whose processes can be told from those of others."""
    return made.start_worker(name, *flags, environ={WORKER_VARIABLE: name})


def processes_of(made: Farm, worker: str) -> list[psutil.Process]:
    """The worker's daemon, its shims and runners, and whatever jobs started."""
    mark = f"{WORKER_VARIABLE}={worker}".encode()
    found: list[psutil.Process] = []
    # A daemon that was forked shows the variables of who forked it: it is known by its pid.
    if (daemon := made.workers.get(worker)) is not None and daemon.popen.poll() is None:
        found.append(psutil.Process(daemon.pid))
    for process in made.stray():
        with contextlib.suppress(OSError, psutil.Error):
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
    return found


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def cut_power(made: Farm, worker: Process) -> int:
    """End all processes of a worker's machine; returns how many there were.

    What is left looks as after a reboot: its files name another boot of the machine.
    """
    mine = processes_of(made, worker.name)
    # All stand still before the first one dies: none sees another one's end.
    send(mine, signal.SIGSTOP)
    send(mine, signal.SIGKILL)
    worker.popen.wait()
    until(lambda: not processes_of(made, worker.name), what="the power is off")
    for path in made.home.glob(f"workers/{worker.name}/execution/runners/*/shim.pid"):
        pid, started, _ = path.read_text().split()
        path.write_text(f"{pid} {started} another-boot")
    return len(mine)


def ends_of(story: Sequence[dict[str, object]]) -> list[str]:
    """The types of a job's records, with the cause where an attempt was left."""
    return [
        f"{record['type']}:{record['cause']}" if "cause" in record else str(record["type"])
        for record in story
    ]
