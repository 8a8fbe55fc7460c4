"""A pipeline job in several processes on one machine: its ranks, started and watched together.

Theory. The runner becomes the *launcher*: before any code of the user's ran it forks once for each
rank, and each rank goes on as a runner would, with the variables that torchrun sets. The launcher
runs nothing of the user's. It passes on what the ranks print, and waits:

    all run ── every rank left with 0 ──► done; what rank 0 returned is the result
       ├── one left otherwise, or a signal killed it ──► the others get SIGTERM, later SIGKILL
       └── SIGTERM from the shim ──► ranks had it too, being of one group; the shim ends what stays

Whatever the ranks started is below the shim, which leaves nothing of it behind when we end.
"""

import atexit
import contextlib
import os
import pickle
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn, cast

from lineshaft_runtime import spool
from lineshaft_runtime.redaction import Redactor
from lineshaft_worker.runner.failures import (
    FailureError,
    RankFailedError,
    describe,
    exit_status,
    print_failure,
)
from lineshaft_worker.runner.files import write_whole
from lineshaft_worker.runner.link import POKE
from lineshaft_worker.runner.rank_output import RankStream
from lineshaft_worker.runner.results import BytesLike, load, store

GRACE_S = 5.0
"""How long the other ranks may take to end after SIGTERM when one is dead, in seconds."""


class Ranks:
    """Starts the ranks of an attempt on this machine, and waits for them.

    Args:
        count: How many.
        prefix: Of the names of the attempt's files.
        run: What each does; returns its packed result.
        redactor: Takes the secrets out of what is told of a failure; None if there are none.
    """

    def __init__(
        self,
        count: int,
        prefix: str,
        run: Callable[[], list[BytesLike]],
        redactor: Redactor | None,
    ) -> None:
        self._count, self._prefix, self._run, self._redactor = count, prefix, run, redactor
        self._ranks: list[_Rank] = []
        self._failed: _Rank | None = None
        self._kill_at: float | None = None
        self._oom_kills = _oom_kills()

    def execute(self) -> list[BytesLike]:
        """Run them all; returns the packed result of the first.

        Raises:
            FailureError: One of them failed, and all have ended.
            OSError: A process could not be made.
        """
        places = [variables_of(os.environ, local, self._count) for local in range(self._count)]
        if "MASTER_PORT" not in os.environ:
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
            places = [place | meeting for place in places]
        try:
            for local, place in enumerate(places):
                self._ranks.append(self._start(local, place))
        except OSError:
            self._signal_all(signal.SIGKILL)
            raise
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_pause)
        self._wait()
        for rank in self._ranks:
            rank.finish()
        if self._failed is not None:
            raise FailureError("exit", RankFailedError(self._told_of(self._failed)))
        first = self._ranks[0]
        if not os.path.exists(f"{self._prefix}rank0"):  # noqa: PTH110 - no pathlib in a runner
            raise FailureError("exit", RankFailedError(self._told_of(first)))
        return [load(f"{self._prefix}rank0")]

    def _start(self, local: int, place: Mapping[str, str]) -> "_Rank":
        rank = _Rank(local, int(place["RANK"]))
        rank.pid = os.fork()
        if rank.pid == 0:
            self._become(rank, place)
        rank.pidfd = os.pidfd_open(rank.pid)
        for stream in rank.streams:
            stream.leave()
        return rank

    def _become(self, rank: "_Rank", place: Mapping[str, str]) -> NoReturn:
        """Be the rank, in its process."""
        status, pid = 1, os.getpid()
        try:
            signal.signal(POKE, signal.SIG_IGN)
            for other in self._ranks:
                other.close()
            for stream in rank.streams:
                stream.take_over()
            os.environ.update(place)
            context = spool.current()
            context.is_child = True
            context.spool = spool.SpoolWriter(os.environ[spool.ENVIRONMENT_VARIABLE])
            status = self._outcome(rank, pid)
            atexit._run_exitfuncs()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - there is no public way to have them run in a fork
        finally:
            for number in (1, 2):
                with contextlib.suppress(Exception):  # The user may have closed or replaced it.
                    _flush(number)
            os._exit(status)

    def _outcome(self, rank: "_Rank", pid: int) -> int:
        """Run the user's code, leave word of its end, and return the status to leave with."""
        try:
            packed = self._run()
            # A child that user code forked may come back here: it is not the rank.
            if rank.local == 0 and os.getpid() == pid:
                inline, _, _ = store(packed, f"{self._prefix}rank0")
                if inline is not None:
                    write_whole(f"{self._prefix}rank0", inline)
        except FailureError as error:
            fields = describe(error.error, error.cause, self._redactor)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            print_failure(error)
            fields = describe(error, "exception", self._redactor)
            if isinstance(error, SystemExit):
                return exit_status(error) & 0xFF or 1
        else:
            return 0
        with contextlib.suppress(OSError):  # A full disk: then its status is all that is known.
            write_whole(f"{self._prefix}rank{rank.local}.failed", pickle.dumps(fields))
        return 1

    # --- the launcher ---

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank in self._ranks:
                selector.register(rank.pidfd, selectors.EVENT_READ, rank)
                for stream in rank.streams:
                    selector.register(stream.source, selectors.EVENT_READ, stream)
            while any(rank.status is None for rank in self._ranks):
                for key, _ in selector.select(self._patience_s()):
                    found: object = key.data
                    if isinstance(found, RankStream):
                        if not found.pass_on():
                            selector.unregister(found.source)
                    elif isinstance(found, _Rank):
                        selector.unregister(found.pidfd)
                        self._on_ended(found)
                if self._kill_at is not None and time.monotonic() >= self._kill_at:
                    self._signal_all(signal.SIGKILL)
                    self._kill_at = None

    def _patience_s(self) -> float | None:
        return None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())

    def _on_ended(self, rank: "_Rank") -> None:
        _, status = os.waitpid(rank.pid, 0)
        rank.status = status
        if status != 0 and self._failed is None:
            # Its peers wait for it in vain: the first dead one ends all.
            self._failed = rank
            self._end_others()

    def _end_others(self) -> None:
        self._signal_all(signal.SIGTERM)
        self._kill_at = time.monotonic() + GRACE_S

    def _signal_all(self, number: signal.Signals) -> None:
        for rank in self._ranks:
            if rank.status is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(rank.pidfd, number)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        # The shim leaves its order in this file, tells the whole group, and kills those who stay.
        if not os.path.exists(f"{os.path.dirname(self._prefix)}/stop"):  # noqa: PTH110, PTH120 - no pathlib in a runner
            self._end_others()

    def _on_pause(self, _number: int, _frame: FrameType | None) -> None:
        for rank in self._ranks:
            if rank.status is None and _handles(rank.pid, signal.SIGUSR1):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(rank.pidfd, signal.SIGUSR1)

    def _told_of(self, rank: "_Rank") -> list[object]:
        """Return how the rank ended, in the fields of a failure, with its last lines."""
        status = rank.status or 0
        fields: list[object] = ["exit", "", "", "", None, None, None]
        with contextlib.suppress(OSError, ValueError, pickle.UnpicklingError):
            with open(f"{self._prefix}rank{rank.local}.failed", "rb") as file:  # noqa: PTH123 - no pathlib in a runner
                fields = cast("list[object]", pickle.load(file))  # noqa: S301 - our own
            return [*fields[:2], f"rank {rank.number}: {fields[2]}", *fields[3:], rank.last_lines()]
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            is_oom = number == signal.SIGKILL and _oom_kills() > self._oom_kills >= 0
            name = _signal_name(number)
            fields[0], fields[6] = "oom" if is_oom else "signal", name
            why = ", by the kernel for its memory" if is_oom else ""
            fields[2] = f"rank {rank.number} was ended by {name}{why}"
        else:
            fields[5] = os.WEXITSTATUS(status)
            why = "" if status else " before there was a result"
            fields[2] = f"rank {rank.number} left with status {fields[5]}{why}"
        return [*fields, rank.last_lines()]


class _Rank:
    """One process of the job."""

    def __init__(self, local: int, number: int) -> None:
        self.local, self.number = local, number
        self.pid = self.pidfd = -1
        self.status: int | None = None
        self.streams = [RankStream(number, target) for target in (1, 2)]

    def close(self) -> None:
        """In another rank: let go of it."""
        os.close(self.pidfd)
        for stream in self.streams:
            os.close(stream.source)

    def finish(self) -> None:
        os.close(self.pidfd)
        for stream in self.streams:
            stream.finish()

    def last_lines(self) -> list[str]:
        """Return the end of what it wrote to stderr; of stdout if that is empty."""
        return self.streams[1].last_lines() or self.streams[0].last_lines()


def variables_of(environ: Mapping[str, str], local: int, count: int) -> dict[str, str]:
    """Return what tells a rank its place, in the variables that torchrun sets.

    Args:
        environ: Of the launcher; in a gang it says which of how many workers this is.
        local: Which rank on this machine, from 0.
        count: How many there are on it.
    """
    group, groups = int(environ.get("GROUP_RANK", "0")), int(environ.get("GROUP_WORLD_SIZE", "1"))
    made = {
        "RANK": str(group * count + local),
        "WORLD_SIZE": str(groups * count),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": str(group),
        "GROUP_WORLD_SIZE": str(groups),
    }
    # As torchrun does: or each rank starts as many threads as there are cores.
    if count > 1 and "OMP_NUM_THREADS" not in environ:
        made["OMP_NUM_THREADS"] = "1"
    devices = [each for each in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    if devices:
        made["CUDA_VISIBLE_DEVICES"] = ",".join(devices_of(devices, local, count))
    return made


def devices_of(devices: list[str], local: int, count: int) -> list[str]:
    """Return the devices of one rank: as many as of each other; shared if there are fewer."""
    if len(devices) >= count:
        share = len(devices) // count
        return devices[local * share : (local + 1) * share]
    return [devices[local * len(devices) // count]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _flush(number: int) -> None:
    import sys  # noqa: PLC0415 - names are looked up late: the user may have replaced them

    (sys.stdout if number == 1 else sys.stderr).flush()


def _handles(pid: int, number: signal.Signals) -> bool:
    """Say whether a process has a handler for the signal; others would die of it."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - no pathlib in a runner
            caught = next(line for line in file if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _oom_kills() -> int:
    """Return how often the kernel has killed for memory since boot; -1 if it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:  # noqa: PTH123 - no pathlib in a runner
            return next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, ValueError, StopIteration):
        return -1


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
