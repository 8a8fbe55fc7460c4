"""A runner's processes as the daemon holds them: a shim's pidfd and a folder."""

import asyncio
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from lineshaft_runtime import redaction
from lineshaft_runtime.spool import ENVIRONMENT_VARIABLE
from lineshaft_worker.execution import shim
from lineshaft_worker.execution.orders import Shape
from lineshaft_worker.runner.files import SPOOL, STDERR, STDOUT
from lineshaft_worker.runner.link import POKE

MARK = "LINESHAFT_RUNNER"
"""Variable that says of each process to which runner it belongs."""
_SHIM = str(Path(shim.__file__))
_NOT_INHERITED = ("LINESHAFT_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
_OF_OUR_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_")


class Launch(NamedTuple):
    """How runners of an environment are started."""

    interpreter: Path
    variables: Mapping[str, str] = {}
    inherited: tuple[int, ...] = ()
    """Descriptors that stay open for as long as any process of the runner is there."""
    limits: tuple[tuple[int, int], ...] = ((resource.RLIMIT_CORE, 0),)
    """Limits of every process, by the kernel's number: a dump would have the job's secrets."""


class ExitRecord(NamedTuple):
    """What the shim wrote when no process of the runner was left."""

    exit_code: int
    signal: int
    is_oom: bool
    peak_bytes: int
    was_told: bool
    run_s: float
    is_lease_over: bool = False
    """The shim ended it because nobody had heard of the coordinator for too long."""


class RunnerProcess:
    """One shim with what is below it, whether this daemon started it or found it."""

    def __init__(
        self, folder: Path, pidfd: int, started: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.folder = folder
        self._pidfd = pidfd
        self._started = started

    @classmethod
    def spawn(
        cls, folder: Path, launch: Launch, shape: Shape, *, cgroup: Path | None = None
    ) -> Self:
        """Start a shim and a runner in a folder that exists; takes some milliseconds.

        Raises:
            OSError: No process could be made.
        """
        program = (str(launch.interpreter), "-P", "-m", "lineshaft_worker.runner", str(folder))
        # The shim is ours, so is its interpreter; only the runner's may be another.
        limits = ",".join(f"{kind}={value}" for kind, value in launch.limits)
        command = (sys.executable, "-I", "-S", _SHIM, str(folder), str(cgroup or ""), limits, "--")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        # All that grows is made now: a full disk shall refuse before there is a process.
        os.close(os.open(folder / SPOOL, flags, 0o600))
        stdout = os.open(folder / STDOUT, flags, 0o600)
        stderr = os.open(folder / STDERR, flags, 0o600)
        try:
            with _on_cpus(shape.cpus):
                started = subprocess.Popen(  # noqa: S603 - our own file
                    [*command, *program],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd=folder,
                    env=_environment(folder, shape, launch),
                    pass_fds=launch.inherited,
                    start_new_session=True,
                )
        finally:
            os.close(stdout)
            os.close(stderr)
        try:
            return cls(folder, os.pidfd_open(started.pid), started)
        except OSError:
            # Nobody would watch it, nor find it: its folder is about to be deleted.
            started.kill()
            started.wait()
            with contextlib.suppress(OSError):
                kill_marked(folder.name)
            raise

    @classmethod
    def adopt(cls, folder: Path) -> Self | None:
        """Find the shim that an earlier daemon started; None if it has ended."""
        try:
            pid, started, boot_id = shim.read(f"{folder}/shim.pid").split()
            pidfd = os.pidfd_open(int(pid))
        except (OSError, ValueError):
            return None
        # Asked after the pidfd is open: so it is this process and not a later one of its number.
        with contextlib.suppress(OSError):
            is_it = (shim.start_time(int(pid)), shim.boot_id()) == (started, boot_id)
            # One that has ended stays in the table until its parent looks, which is not us.
            if is_it and not select.select([pidfd], [], [], 0)[0]:
                return cls(folder, pidfd)
        os.close(pidfd)
        return None

    @classmethod
    def ended(cls, folder: Path) -> Self:
        """Stand for a runner that ended while there was no daemon."""
        return cls(folder, -1)

    @property
    def runner_id(self) -> str:
        """Name of the folder."""
        return self.folder.name

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Have a function called once, when no process of the runner is left."""
        loop = asyncio.get_running_loop()
        if self._pidfd < 0:
            loop.call_soon(on_gone)
            return

        def gone() -> None:
            loop.remove_reader(self._pidfd)
            self._close()
            on_gone()

        loop.add_reader(self._pidfd, gone)

    def forget(self) -> None:
        """Stop watching, and leave the processes as they are."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._started is not None:
            # It stays our child until we end; told so, it does not warn.
            self._started.returncode = 0

    def stop(self, grace_s: float) -> None:
        """Have the shim end everything: SIGTERM, and after the grace SIGKILL."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(OSError):  # A full disk: the shim then takes its own grace.
            shim.write(f"{self.folder}/stop", repr(grace_s))
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def signal_shim(self, number: signal.Signals) -> None:
        """Send the shim a signal that it waits for."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def poke(self) -> None:
        """Have a runner that has said hello once look at its socket."""
        try:
            pid = int(shim.read(f"{self.folder}/runner.pid"))
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            shim_pid = shim.read(f"{self.folder}/shim.pid").split()[0]
            parent = shim.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1]
            if parent == shim_pid:  # Else the runner is gone and its number is another's.
                signal.pidfd_send_signal(pidfd, POKE)
        except (OSError, IndexError):
            return
        finally:
            os.close(pidfd)

    def runner_pid(self) -> int:
        """Return the process that runs user code; 0 if it is not known."""
        with contextlib.suppress(OSError, ValueError):
            return int(shim.read(f"{self.folder}/runner.pid"))
        return 0

    def _close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._started is not None:
            self._started.wait()


@contextlib.contextmanager
def _on_cpus(cpus: tuple[int, ...]) -> Generator[None]:
    """Have what this thread starts run on these CPUs; a child inherits its maker's mask."""
    before = os.sched_getaffinity(0)
    if not cpus:
        yield
        return
    # They may have been taken from us since they were looked up: then all of ours will do.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def is_of_another_boot(folder: Path) -> bool:
    """Say whether the machine was restarted since a runner was started in the folder.

    A file that is empty or not there was lost with the power: a shim writes it before there is a
    runner.
    """
    try:
        return shim.read(f"{folder}/shim.pid").split()[2] != shim.boot_id()
    except (OSError, IndexError):
        return True


def read_exit(folder: Path) -> ExitRecord | None:
    """Return what the shim wrote at its end; None if it was killed."""
    try:
        record = json.loads(shim.read(f"{folder}/exit.json"))
    except (OSError, ValueError):
        return None
    return ExitRecord(
        record["exit_code"],
        record["signal"],
        bool(record["is_oom"]),
        record["peak_bytes"],
        bool(record["was_told"]),
        record["run_s"],
        bool(record.get("is_lease_over")),  # Not in the records of older shims.
    )


def kill_marked(runner_id: str) -> bool:
    """Kill what a shim that was itself killed has left; say whether nothing is left.

    Processes are known by a variable in their environment, which a job could have removed: the
    best that can be done without the shim.
    """
    mark = f"{MARK}={runner_id}\0".encode()
    for _ in range(20):
        found = [pid for pid in _processes() if mark in _environment_of(pid)]
        if not found:
            return True
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return False


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - texts


def _environment_of(pid: int) -> bytes:
    # What has ended and is not yet collected has an empty environment.
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return b""


def _environment(folder: Path, shape: Shape, launch: Launch) -> Mapping[str, str]:
    left_out = _NOT_INHERITED + (_OF_OUR_PYTHON if shape.environment else ())
    own = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    return (
        own
        | dict(launch.variables)
        | dict(shape.variables)
        | {
            "CUDA_VISIBLE_DEVICES": ",".join(shape.devices),
            ENVIRONMENT_VARIABLE: str(folder / SPOOL),
            MARK: folder.name,
            redaction.PATH_VARIABLE: redaction.__file__,
        }
    )


def own_interpreter(environment: str) -> Launch:
    """Start every runner with the worker's own Python."""
    del environment
    return Launch(Path(sys.executable))
