"""A tiny parent for one runner: outlives the daemon, and leaves no process behind.

Runs as ``python -I -S shim.py FOLDER CGROUP LIMITS -- PROGRAM [ARGUMENT…]`` and imports the
standard library only, and little of it: one shim per runner stays in memory as long as the runner.

Theory. The shim leads a session and is a *subreaper*: whatever descends from the runner and loses
its parent, however often it forked or called setsid, becomes the shim's child. So the shim having
no child means that no process of the attempt is left. It ends in three steps: the runner ends
(by itself, or after SIGTERM and a grace, when the shim was sent SIGTERM), then everything left is
killed until the kernel says there is no child, then the exit record is written. The daemon sees
the end of the shim through a pidfd and never needs to be its parent, so a daemon that was killed
is followed by one that finds everything as it was.

The shim also holds the lease of what its runner executes. The runner says how long that is (in its
`current` page), the daemon since when it counts (in one page for all, `LEASE_PAGE`). When it is
over the shim ends the runner as if it was told to: a daemon that is alive has done so before, so
then it is dead or stands still, and the coordinator is about to start the attempt elsewhere.
"""

import contextlib
import ctypes
import os
import signal
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_S = 5.0
"""When asked to end by somebody who left no order."""
RECORD_BYTES = 512
LEASE_PAGE = "leases"
LEASES = struct.Struct("<dd")
"""Since when leases count, on CLOCK_BOOTTIME, and the lease of what has none; 0 for neither."""
CURRENT_BYTES = 4096
LEASE_LOOK_S_MAX = 30.0
"""A lease is looked at this often: what we wait with stands still while the machine sleeps."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SWEEP_ROUND_S = 0.02


def main(arguments: list[str]) -> int:
    """Run one program and see to it that nothing of it is left."""
    folder, cgroup, limits, _, *program = arguments
    signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1}
    # Blocked, not handled: sigtimedwait then takes them one by one, with no race.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel does not let us be a subreaper")
    os.umask(0o077)
    for name in ("HUP", "INT", "QUIT"):
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
    shim = Shim(folder, cgroup)
    # Before there is a runner: where a daemon finds no shim it removes the folder, and then this
    # fails, so a runner that nobody knows of cannot come to be.
    write(f"{folder}/shim.pid", f"{os.getpid()} {start_time(os.getpid())} {boot_id()}")
    shim.leave_word()
    if os.environ.get("LINESHAFT_SECRETS"):
        shim.start_redaction()
    shim.start(program, limits, prctl)
    shim.leave_output()
    write(f"{folder}/runner.pid", str(shim.runner))
    shim.wait_for_runner(signals)
    shim.sweep(signals)
    shim.write_record()
    return 0


class Shim:
    """The runner and what became of it."""

    def __init__(self, folder: str, cgroup: str) -> None:
        self.folder = folder
        self.cgroup = cgroup
        self.runner = 0
        self.redaction = 0
        """What takes secrets out of the output, until all who write have ended."""
        self.started = time.time()
        self.started_monotonic = time.monotonic()
        self.ooms = kernel_oom_kills()
        self.status: int | None = None
        self.peak_kib = 0
        self.was_told = False
        self.is_frozen = False
        self.killed = False
        self.is_lease_over = False
        # Room for the record, so that it can be written also when the disk is full by then.
        write(f"{folder}/exit.json.part", " " * RECORD_BYTES)

    def start_redaction(self) -> None:
        """Have all output from now on go through a process that takes the secrets out."""
        import resource  # noqa: PLC0415 - few jobs have secrets

        # A core dump would have them.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pipes = [os.pipe(), os.pipe()]
        self.redaction = os.fork()
        if not self.redaction:
            program = [sys.executable, "-I", "-S", os.environ["LINESHAFT_REDACTION"]]
            for target, (source, end) in enumerate(pipes, start=1):
                os.close(end)
                os.set_inheritable(source, True)
                program += [str(source), str(target)]
            # Whatever ends the runner must not end this before the last words are written.
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execv(program[0], program)  # noqa: S606 - our own file
        for target, (source, end) in enumerate(pipes, start=1):
            os.close(source)
            os.dup2(end, target)
            os.close(end)

    def leave_output(self) -> None:
        """Let go of the output, so that it ends with the last who writes."""
        if self.redaction:
            nothing = os.open(os.devnull, os.O_WRONLY)
            for target in (1, 2):
                os.dup2(nothing, target)
            os.close(nothing)

    def start(self, program: list[str], limits: str, prctl: "Callable[..., int]") -> None:
        """Fork, and become the runner's interpreter in the child."""
        self.runner = os.fork()
        if self.runner:
            with contextlib.suppress(OSError):  # The child does it too; whoever is first.
                os.setpgid(self.runner, self.runner)
            return
        try:
            # If somebody kills the shim, its runner must not go on unwatched.
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            os.setpgid(0, 0)
            if self.cgroup:
                write(f"{self.cgroup}/cgroup.procs", "0")
            for name in ("HUP", "INT", "QUIT"):
                signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            limit(limits)
            os.execv(program[0], program)  # noqa: S606 - this is what the shim is for
        except OSError as error:
            os.write(2, f"cannot start {program[0]}: {error}\n".encode())
            os._exit(127)

    def wait_for_runner(self, signals: "set[signal.Signals]") -> None:
        """Return when the runner has ended; pass on a request to end it."""
        kill_at: float | None = None
        while True:
            self.reap()
            if self.status is not None:
                return
            now = time.monotonic()
            if kill_at is not None and now >= kill_at:
                self.killed = True
                self.signal_group(signal.SIGKILL)
                kill_at = now + 1.0
            if kill_at is None:
                left_s, grace_s = self.lease_left()
                if left_s <= 0:
                    self.is_lease_over = True
                    kill_at = self.ask_to_end(grace_s)
                    continue
                wait_s = left_s
            else:
                wait_s = kill_at - now
            info = signal.sigtimedwait(signals, max(wait_s, 0.0))
            if info is not None and info.si_signo == signal.SIGUSR1:
                self.freeze(is_wanted=self.is_freeze_ordered())
            if info is not None and info.si_signo == signal.SIGTERM:
                self.was_told = True
                wanted = self.ask_to_end(self.ordered_grace())
                kill_at = wanted if kill_at is None else min(kill_at, wanted)

    def ask_to_end(self, grace_s: float) -> float:
        """Have the runner end itself; return when it has had its time, on the monotonic clock."""
        # What stands still would not hear it.
        self.freeze(is_wanted=False)
        if grace_s > 0:
            self.signal_group(signal.SIGTERM)
        return time.monotonic() + grace_s

    def lease_left(self) -> tuple[float, float]:
        """Return how long to wait before the lease is looked at again, and the grace after it.

        Seconds; the first is not above 0 when the lease is over. While nothing is executed nothing
        is leased, and who begins something with a shorter lease than before sends SIGUSR1.
        """
        try:
            with open(f"{self.folder}/current", "rb") as file:  # noqa: PTH123 - no pathlib here
                current = file.read(CURRENT_BYTES)
            with open(f"{self.folder}/../../{LEASE_PAGE}", "rb") as file:  # noqa: PTH123 - likewise
                since, otherwise_s = LEASES.unpack(file.read(LEASES.size))
            lease_s, grace_s = LEASES.unpack(current[-LEASES.size :])
        except (OSError, struct.error):
            return 3600.0, GRACE_S
        lease_s = lease_s or otherwise_s
        grace_s = grace_s or GRACE_S
        if not since or not lease_s:
            return 3600.0, grace_s
        # A daemon that is alive shall do it itself: it tells more, and knows of more.
        ends = since + lease_s + grace_s / 3
        left_s = ends - time.clock_gettime(time.CLOCK_BOOTTIME)
        if any(current[:4]):
            return min(left_s, LEASE_LOOK_S_MAX), grace_s
        # Nothing begins before a heartbeat is answered again, and then with most of its lease left.
        return max(left_s, lease_s / 8), grace_s

    def is_freeze_ordered(self) -> bool:
        """Read whether all processes shall stand still."""
        try:
            return read(f"{self.folder}/freeze") == "1"
        except OSError:
            return False

    def freeze(self, *, is_wanted: bool) -> None:
        """Stop all processes, or let them go on, and leave word of it."""
        if is_wanted == self.is_frozen:
            return
        if not (self.cgroup and self.freeze_group(is_wanted=is_wanted)):
            number = signal.SIGSTOP if is_wanted else signal.SIGCONT
            seen: set[int] = set()
            # Again and again: what was not stopped yet may have forked.
            while found := descendants(os.getpid()) - seen:
                for pid in found:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
                seen |= found
        self.is_frozen = is_wanted
        end = " " if is_wanted else "\n"
        # For a later daemon: what stands still does not run.
        with contextlib.suppress(OSError), open(f"{self.folder}/freezes", "a") as file:  # noqa: PTH123 - no pathlib here
            file.write(f"{time.monotonic()!r}{end}")
        self.leave_word()

    def leave_word(self) -> None:
        """Say whether the processes stand still; at the start, that we know how to do that."""
        with contextlib.suppress(OSError):
            write(f"{self.folder}/frozen.part", "1" if self.is_frozen else "0")
            os.replace(f"{self.folder}/frozen.part", f"{self.folder}/frozen")  # noqa: PTH105 - no pathlib here

    def freeze_group(self, *, is_wanted: bool) -> bool:
        """Have the kernel stop the cgroup; say whether it could."""
        try:
            write(f"{self.cgroup}/cgroup.freeze", "1" if is_wanted else "0")
        except OSError:
            return False
        return True

    def ordered_grace(self) -> float:
        """Read how long the runner may take; the daemon writes it before it sends SIGTERM."""
        try:
            return float(read(f"{self.folder}/stop"))
        except (OSError, ValueError):
            return GRACE_S

    def signal_group(self, number: int) -> None:
        """Send to the runner and those who stayed in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.runner, number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.runner, number)  # It may have left the group we made for it.

    def reap(self) -> bool:
        """Collect all who ended; say whether any child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.peak_kib = max(self.peak_kib, usage.ru_maxrss)
            if pid == self.runner:
                self.status = status

    def sweep(self, signals: "set[signal.Signals]") -> None:
        """Kill everything that descends from us until nothing is left."""
        if self.cgroup:
            with contextlib.suppress(OSError):  # Linux before 5.14 has no such file.
                write(f"{self.cgroup}/cgroup.kill", "1")
        round_s = SWEEP_ROUND_S
        while self.reap():
            # Stopped first: what is stopped cannot fork faster than we read.
            seen: set[int] = set()
            while found := descendants(os.getpid()) - seen - {self.redaction}:
                for pid in found:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGSTOP)
                seen |= found
            for pid in seen:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            signal.sigtimedwait(signals, round_s)
            round_s = min(round_s * 1.2, 1.0)  # Some sleep in the kernel and take their time.

    def write_record(self) -> None:
        """Leave the exit record, whole or not at all."""
        assert self.status is not None, "the record is written after the runner's end"
        number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0
        code = os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else -1
        ooms, peak = kernel_oom_kills(), self.peak_kib * 1024
        oom = self.ooms >= 0 and ooms > self.ooms
        if self.cgroup:
            oom, peak = self.cgroup_facts(oom=oom, peak=peak)
        is_oom = number == signal.SIGKILL and not self.killed and (oom or self.ooms < 0)
        record = (
            f'{{"exit_code": {code}, "signal": {number}, "is_oom": {int(is_oom)}, '
            f'"peak_bytes": {peak}, "was_told": {int(self.was_told)}, '
            f'"is_lease_over": {int(self.is_lease_over)}, '
            f'"started": {self.started!r}, "run_s": {time.monotonic() - self.started_monotonic!r}}}'
        )
        with open(f"{self.folder}/exit.json.part", "r+", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib here
            file.write(record.ljust(RECORD_BYTES))
        os.replace(f"{self.folder}/exit.json.part", f"{self.folder}/exit.json")  # noqa: PTH105 - no pathlib here

    def cgroup_facts(self, *, oom: bool, peak: int) -> tuple[bool, int]:
        """Ask the cgroup, which knows better than guesses, and remove it."""
        with contextlib.suppress(OSError, ValueError):
            peak = int(read(f"{self.cgroup}/memory.peak"))
        with contextlib.suppress(OSError, ValueError):
            events = dict(
                line.split() for line in read(f"{self.cgroup}/memory.events").splitlines()
            )
            oom = int(events["oom_kill"]) > 0
        with contextlib.suppress(OSError):
            os.rmdir(self.cgroup)  # noqa: PTH106 - no pathlib here
        return oom, peak


def limit(limits: str) -> None:
    """Limit this process and all it will start, as in `4=0,7=1024`; never above what it has."""
    import resource  # noqa: PLC0415 - in the runner's process only, not in each shim's memory

    for text in limits.split(","):
        kind, value = (int(part) for part in text.split("="))
        _, most = resource.getrlimit(kind)
        least = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (least, least))


def descendants(root: int) -> set[int]:
    """Return the processes below one, without those that only wait to be collected."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - no pathlib here
        if name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = read(f"/proc/{name}/stat").rpartition(")")[2].split()[:2]
                # A zombie is kept as a link: its children are found through it.
                children.setdefault(int(parent), []).append(
                    -int(name) if state == "Z" else int(name)
                )
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            waiting.append(abs(child))
            if child > 0:
                found.add(child)
    return found


def start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot: with its number it names one process."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]


def boot_id() -> str:
    """Return what the kernel calls the time since it was booted."""
    return read("/proc/sys/kernel/random/boot_id").strip()


def kernel_oom_kills() -> int:
    """Return how often the kernel has killed for memory since boot; -1 if it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in read("/proc/vmstat").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return -1


def read(path: str) -> str:
    """Return a small file's text."""
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - no pathlib here
        return file.read()


def write(path: str, text: str) -> None:
    """Write a small file."""
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib here
        file.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
