"""Real daemons in a folder of their own: started, killed and ended by the tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import psutil
from tests.e2e.nursery import can_fork, nursery_of

from lineshaft import Client

DEADLINE_S = 30.0
T = TypeVar("T")


def until(condition: Callable[[], T], *, what: str = "", within_s: float = DEADLINE_S) -> T:
    """Ask again and again until the answer is true; fail with `what` after the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or condition}")
        # Waits on a pipe that nobody writes to: a pause that is no promise about time.
        select_pause()


def select_pause() -> None:
    """Give the processor to somebody else for a moment."""
    signal.sigtimedwait((), 0.01)


class Running(Protocol):
    """A process, however it was started."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


@dataclass
class Process:
    """One daemon."""

    name: str
    popen: Running
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self, *, within_s: float = DEADLINE_S) -> int:
        """SIGTERM: it ends in order; returns its exit status."""
        self.popen.terminate()
        return self.popen.wait(within_s)

    def said(self) -> str:
        return self.log.read_text()


@dataclass
class Farm:
    """A coordinator and workers on loopback, with a home of their own."""

    folder: Path
    timings: tuple[str, ...] = ()
    home_name: str = "home"
    coordinator: Process | None = None
    workers: dict[str, Process] = field(default_factory=dict)
    port: int = 0
    _started: list[Process] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / self.home_name

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        # A terminal's size is the terminal's business: pytest's own must not stand above it.
        dropped = ("COLUMNS", "LINES", "REDIS_URL")
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("LINESHAFT_") and k not in dropped
        }
        # The scripts of version switchers are no interpreters; each worker would run them to ask.
        places = kept["PATH"].split(":")
        path = ":".join(place for place in places if Path(place).name != "shims")
        return kept | {"LINESHAFT_HOME": str(self.home), "PATH": path}

    def start_coordinator(self, *flags: str) -> Process:
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        command = ["-m", "lineshaft_coordinator", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data", str(self.folder / "data"), "--port-file", str(port_file)]
        for timing in self.timings:
            command += ["--set", timing]
        process = self.coordinator = self.start("coordinator", *command, *flags)
        until(
            lambda: port_file.exists() or process.popen.poll() is not None,
            what="the coordinator listens",
        )
        assert process.popen.poll() is None, process.said()
        self.port = int(port_file.read_text())
        return process

    def start_worker(
        self, name: str, *flags: str, environ: dict[str, str] | None = None
    ) -> Process:
        command = ["-m", "lineshaft_worker", "--name", name, "--grace", "3"]
        process = self.start(name, *command, *flags, environ=environ)
        self.workers[name] = process
        return process

    def start(self, name: str, *command: str, environ: dict[str, str] | None = None) -> Process:
        log = self.folder / f"{name}.log"
        if can_fork(command, environ or {}):
            asked = self.environ | (environ or {})
            popen: Running = nursery_of(command[1]).start(
                command, asked, folder=Path.cwd(), out=log, err=log
            )
        else:
            popen = self._open(command, environ or {}, log)
        process = Process(name, popen, log)
        self._started.append(process)
        return process

    def _open(self, command: tuple[str, ...], environ: dict[str, str], log: Path) -> Running:
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, *command],
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def client(self, **options: object) -> Client:
        token = (self.home / "token").read_text().strip()
        return Client(self.url, token=token, **options)  # type: ignore[arg-type]

    def until_ready(self, client: Client, *names: str) -> None:
        """Wait until these workers, or all that were started, are there."""
        wanted = set(names or self.workers)
        until(lambda: wanted <= set(self.here(client)), what=f"workers {wanted} registered")

    @staticmethod
    def here(client: Client) -> dict[str, dict[str, Any]]:
        """The workers that are connected, by name."""
        workers = cast("list[dict[str, Any]]", client.workers())
        return {w["worker_id"]: w for w in workers if w["status"] != "away"}

    def stray(self) -> list[psutil.Process]:
        """Processes that belong to this farm by their environment, daemons aside."""
        # What runs jobs does not get LINESHAFT_HOME, but a spool that lies there.
        home = f"LINESHAFT_HOME={self.home}".encode()
        spool = f"LINESHAFT_SPOOL={self.home}/".encode()
        own = {process.pid for process in self._started}
        found: list[psutil.Process] = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                marks = (path / "environ").read_bytes().split(b"\0")
                is_ours = any(mark == home or mark.startswith(spool) for mark in marks)
                if is_ours and int(path.name) not in own and int(path.name) != os.getpid():
                    found.append(psutil.Process(int(path.name)))
            except (OSError, psutil.Error):
                continue
        return found

    def close(self) -> None:
        """End everything that was started, hard, and whatever it left."""
        for process in self._started:
            if process.popen.poll() is None:
                process.kill()
        for stray in self.stray():
            with suppress(psutil.NoSuchProcess):  # Some end with those that ended before.
                stray.kill()


@contextmanager
def farm(folder: Path, *timings: str) -> Iterator[Farm]:
    """A farm with a coordinator; everything is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Farm(folder, timings)
    try:
        made.start_coordinator()
        yield made
    finally:
        made.close()
