"""Daemons of a system: started, measured, ended."""

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

READY_S = 120.0
STOP_S = 10.0
MIB = 1 << 20
PR_SET_CHILD_SUBREAPER = 36


class Daemons:
    """The processes of one system by what they are for: head or worker.

    Args:
        folder: Where their output goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[tuple[str, psutil.Popen]] = []

    def start(
        self,
        role: str,
        command: Sequence[str],
        environ: Mapping[str, str] | None = None,
        *,
        stdin: int = subprocess.DEVNULL,
    ) -> psutil.Popen:
        """Start a daemon; what it says goes to a file."""
        with self._log(role, len(self._processes)).open("ab") as log:
            process = psutil.Popen(
                [str(part) for part in command],
                env={**os.environ, **(environ or {})},
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self._processes.append((role, process))
        return process

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Poll until the condition holds; fail when a daemon ends or it takes too long."""
        deadline = time.monotonic() + READY_S
        while not condition():
            self._check(what)
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {READY_S:g} s: {what}")
            time.sleep(0.005)

    def _check(self, what: str) -> None:
        for number, (role, process) in enumerate(self._processes):
            if process.poll() is not None:
                lines = self._log(role, number).read_text(errors="replace").strip().splitlines()
                said = lines[-1] if lines else "nothing"
                raise RuntimeError(f"the {role} ended before {what}; it said: {said[-200:]}")

    def _log(self, role: str, number: int) -> Path:
        return self.folder / f"{role}-{number}.log"

    def roots(self) -> dict[str, list[int]]:
        """Process ids by role, without what these started."""
        found: dict[str, list[int]] = {}
        for role, process in self._processes:
            found.setdefault(role, []).append(process.pid)
        return found

    def stop(self) -> None:
        """End them in order of youth, by force if need be."""
        for _, process in reversed(self._processes):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            try:
                process.wait(STOP_S)
            except psutil.TimeoutExpired:
                process.kill()


def families(roots: Mapping[str, Iterable[int]]) -> dict[str, list[psutil.Process]]:
    """Each role's processes with all that they started; the innermost role claims a process."""
    found: dict[str, list[psutil.Process]] = {}
    named = {pid for pids in roots.values() for pid in pids}
    for role, pids in roots.items():
        members: list[psutil.Process] = []
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                members += _family(psutil.Process(pid), named)
        found[role] = members
    return found


def _family(process: psutil.Process, named: set[int]) -> list[psutil.Process]:
    members = [process]
    for child in process.children():
        if child.pid not in named:
            members += _family(child, named)
    return members


def cpu_s(roots: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """User and system time of each role so far, in seconds."""
    spent: dict[str, float] = {}
    for role, members in families(roots).items():
        spent[role] = 0.0
        for process in members:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[role] += times.user + times.system
    return spent


def pss_mib(roots: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Memory of each role with shared pages in proportion, in MiB."""
    held: dict[str, float] = {}
    for role, members in families(roots).items():
        held[role] = 0.0
        for process in members:
            with suppress(psutil.NoSuchProcess):
                held[role] += process.memory_full_info().pss / MIB
    return held


def free_port() -> int:
    """A TCP port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own, so that none is lost."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_descendants() -> int:
    """Kill whatever is left below this process; return how many there were."""
    count = 0
    for _ in range(10):  # What is killed may have started something meanwhile.
        left = psutil.Process().children(recursive=True)
        if not left:
            break
        for process in left:
            with suppress(psutil.NoSuchProcess):
                count += process.status() != psutil.STATUS_ZOMBIE
                process.kill()
        psutil.wait_procs(left, timeout=5)
    return count
