"""A coordinator and workers on this machine, as child processes of ours."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path

from lineshaft.cli.exits import FailedError

START_S = 30.0
STOP_S = 10.0
POLL_S = 0.03

_ENVIRONMENT = frozenset({"LINESHAFT_URL", "LINESHAFT_TOKEN", "LINESHAFT_TOKEN_FILE"})


@dataclass(frozen=True, slots=True)
class Daemon:
    """One child."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, as far as we know."""
        return self.process.returncode is None

    def last_line(self) -> str:
        """What it said last."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class LocalFarm:
    """Starts daemons in sessions of their own, so that Ctrl-C reaches us alone, and stops them.

    Args:
        home: Their `LINESHAFT_HOME`.
        logs: Folder for what they print.
    """

    def __init__(self, home: Path, *, logs: Path) -> None:
        self.home, self._logs = home, logs
        self.url = ""
        self.workers: list[Daemon] = []
        self.coordinator: Daemon | None = None
        self._states: list[Path] = []

    async def start_coordinator(self, *flags: str, listen: str = "127.0.0.1:0") -> str:
        """Start it, wait until it listens, and return its URL; workers get to know it then.

        Raises:
            FailedError: It ended at once, or did not listen in time; the text says what it said.
        """
        port_file = self._logs / "coordinator.port"
        port_file.unlink(missing_ok=True)
        arguments = ("--listen", listen, "--port-file", str(port_file), *flags)
        daemon = await self._start("coordinator", "lineshaft_coordinator", *arguments, told=DEVNULL)
        self.coordinator = daemon
        try:
            async with asyncio.timeout(START_S):
                while not port_file.exists():
                    if not daemon.is_running:
                        raise FailedError(f"the coordinator cannot start: {_plain(daemon)}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            text = f"the coordinator does not listen after {START_S:g} s: {daemon.last_line()}"
            raise FailedError(text) from error
        self.url = f"ws://127.0.0.1:{int(port_file.read_text())}"
        for worker in self.workers:
            await _tell(worker, self.url)
        return self.url

    async def start_worker(self, name: str, *flags: str) -> Daemon:
        """Start a worker of the coordinator; it may take a moment to be there.

        It may be started before the coordinator, and then loads its code while that one does.
        """
        state = self.home / "workers" / name
        self._states.append(state)
        arguments = ("-", "--name", name, "--state", str(state), *flags)
        daemon = await self._start(name, "lineshaft_worker", *arguments, told=PIPE)
        self.workers.append(daemon)
        if self.url:
            await _tell(daemon, self.url)
        return daemon

    def check(self) -> None:
        """Hold that all daemons are alive.

        Raises:
            FailedError: One is not; the text says what it said.
        """
        for daemon in self._all():
            if not daemon.is_running:
                raise FailedError(f"{daemon.name} has ended by itself: {_plain(daemon)}")

    async def wait_for_any(self) -> Daemon:
        """Wait until a daemon ends, and return it."""
        waits = {asyncio.create_task(each.process.wait()): each for each in self._all()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return waits[done.pop()]

    async def stop(self, *, timeout_s: float | None = STOP_S) -> list[str]:
        """Stop everything, workers first; return what had to be killed.

        Args:
            timeout_s: Longest wait for running jobs, in seconds; None waits as long as it takes.
        """
        killed = await _stop(self.workers, timeout_s)
        if self.coordinator is not None:
            killed += await _stop([self.coordinator], STOP_S)
        return killed + await self._sweep()

    async def kill(self) -> None:
        """Stop at once, and what jobs had started as well."""
        for daemon in self._all():
            _signal(daemon, signal.SIGKILL)
        await asyncio.gather(*(each.process.wait() for each in self._all()))
        await self._sweep()

    async def _start(self, name: str, module: str, *arguments: str, told: int) -> Daemon:
        log = self._logs / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        own = {key: value for key, value in os.environ.items() if key not in _ENVIRONMENT}
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=told,
                stdout=file,
                stderr=file,
                env=own | {"LINESHAFT_HOME": str(self.home)},
                start_new_session=True,
            )
        return Daemon(name, process, log)

    async def _sweep(self) -> list[str]:
        """End processes of jobs that outlived their worker: nobody will come for them."""
        killed: list[str] = []
        for pid in await asyncio.to_thread(_processes_of, self._states):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(f"process {pid} of a job")
        return killed

    def _all(self) -> list[Daemon]:
        return [*self.workers, *([self.coordinator] if self.coordinator else [])]


async def _tell(worker: Daemon, url: str) -> None:
    """Give a worker the URL that it waits for; one that has ended is found by ``check``."""
    line = worker.process.stdin
    assert line is not None, "opened by us"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        line.write(f"{url}\n".encode())
        await line.drain()
    line.close()


async def _stop(daemons: list[Daemon], timeout_s: float | None) -> list[str]:
    for daemon in daemons:
        _signal(daemon, signal.SIGTERM)
    waits = [asyncio.create_task(each.process.wait()) for each in daemons]
    if waits:
        await asyncio.wait(waits, timeout=timeout_s)
    killed = [each for each in daemons if each.is_running]
    for daemon in killed:
        _signal(daemon, signal.SIGKILL)
    await asyncio.gather(*waits)
    return [each.name for each in killed]


def _signal(daemon: Daemon, number: signal.Signals) -> None:
    if daemon.is_running:
        with contextlib.suppress(ProcessLookupError):
            daemon.process.send_signal(number)


def _plain(daemon: Daemon) -> str:
    return daemon.last_line().removeprefix(f"lineshaft-{daemon.name}: ")


def _processes_of(states: list[Path]) -> list[int]:
    """Runners have the folder of their worker in their environment, and so has what they start."""
    marks = [f"={state}/".encode() for state in states]
    if not marks:
        return []
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes()
            if any(mark in environment for mark in marks):
                found.append(int(folder.name))
    return found
