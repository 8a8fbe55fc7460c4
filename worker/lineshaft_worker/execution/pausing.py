"""Having an attempt pause: by a file and a signal, or by stopping all its processes.

Theory. The daemon says what it wants by writing files into the runner's folder, so that the wish
outlives it: ``aN.pause`` for the job, ``freeze`` for the shim. The shim stops or continues every
process below it, notes in ``freezes`` when, and leaves ``frozen``. A tick compares what is wanted
with what was told, so an attempt that has not begun is told when it has.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from lineshaft_worker.execution import shim
from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.reports import AttemptFroze
from lineshaft_worker.runner.files import attempt_file


def is_still(host: Host) -> bool:
    """Say whether the processes of a runner stand still, as far as its shim has said."""
    try:
        return shim.read(f"{host.folder}/frozen") == "1"
    except OSError:
        return False


def carry_out(attempt: Attempt, host: Host, now: float) -> AttemptFroze | None:
    """Tell an attempt that runs what is wanted of it; returns what became of it, once known."""
    if attempt.pause != attempt.pause_told:
        attempt.pause_told = attempt.pause
        try:
            _set_flag(attempt, host, is_wanted=attempt.pause == "checkpoint")
        except OSError as error:
            problem = f"it could not be asked to pause: {error}"
            return AttemptFroze(attempt.key, is_frozen=False, problem=problem)
        is_freeze = attempt.pause == "freeze"
        if is_freeze or host.is_freeze_asked:
            if not _ask_shim(host, freeze=is_freeze):
                problem = "its processes were started by an older worker, which cannot freeze them"
                return AttemptFroze(attempt.key, is_frozen=False, problem=problem)
            host.is_freeze_asked = True
    if not host.is_freeze_asked:
        return None
    is_frozen = is_still(host)
    if is_frozen == (attempt.froze_at is not None):
        # Asked to move and to stand still again between two ticks, it never moved; who asked
        # waits for word of it all the same.
        is_due, attempt.is_answer_due = attempt.is_answer_due, False
        is_as_wanted = is_frozen and attempt.pause == "freeze"
        return AttemptFroze(attempt.key, is_frozen) if is_due and is_as_wanted else None
    attempt.is_answer_due = False
    if is_frozen:
        attempt.froze_at = now
    else:
        assert attempt.froze_at is not None, "what moves again stood still"
        # The time it stood still does not count as run.
        attempt.began = (attempt.began or now) + now - attempt.froze_at
        attempt.froze_at = None
    return AttemptFroze(attempt.key, is_frozen)


def _set_flag(attempt: Attempt, host: Host, *, is_wanted: bool) -> None:
    path = Path(attempt_file(str(host.folder), attempt.ticket, "pause"))
    if not is_wanted:
        path.unlink(missing_ok=True)
        return
    attempt.has_files = True
    path.touch(0o600)
    _signal_if_handled(host.process.runner_pid(), signal.SIGUSR1)


def _signal_if_handled(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that has a handler for it; others would die of it."""
    if pid == 0:
        return
    with contextlib.suppress(OSError, ValueError):
        pidfd = os.pidfd_open(pid)
        try:
            if _handles(pid, number):
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def _ask_shim(host: Host, *, freeze: bool) -> bool:
    with contextlib.suppress(OSError):
        # A shim that knows the signal leaves this file at its start; it would kill an older one.
        shim.read(f"{host.folder}/frozen")
        shim.write(f"{host.folder}/freeze", "1" if freeze else "0")
        host.process.signal_shim(signal.SIGUSR1)
        return True
    return False


def _handles(pid: int, number: signal.Signals) -> bool:
    for line in shim.read(f"/proc/{pid}/status").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def adopt(attempt: Attempt, host: Host) -> None:
    """Find out what an attempt of an earlier daemon was told, and how long it stood still."""
    assert attempt.began is not None, "who is adopted was being executed"
    began = attempt.began
    freezes = [(max(a, began), b) for a, b in _freezes(host) if b is None or b > began]
    attempt.began += sum(b - a for a, b in freezes if b is not None)
    if is_still(host):
        host.is_freeze_asked = True
        attempt.pause = attempt.pause_told = "freeze"
        is_noted = freezes and freezes[-1][1] is None
        attempt.froze_at = freezes[-1][0] if is_noted else time.monotonic()
    elif Path(attempt_file(str(host.folder), attempt.ticket, "pause")).exists():
        attempt.pause = attempt.pause_told = "checkpoint"


def _freezes(host: Host) -> list[tuple[float, float | None]]:
    """Return when a runner's processes stood still, on the monotonic clock; None: they still do."""
    try:
        lines = [line.split() for line in shim.read(f"{host.folder}/freezes").splitlines()]
        return [(float(start), float(rest[0]) if rest else None) for start, *rest in lines]
    except (OSError, ValueError):  # A shim of an older worker, or a full disk.
        return []
