"""Keeps attempts within their memory where no cgroup does."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable

from lineshaft_worker.execution import shim
from lineshaft_worker.execution.attempts import Attempt

LOOK_S = 0.25
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Looks now and then how much memory an attempt's processes have.

    A peak between two looks goes unseen, and shared pages count for each process: the guard of a
    machine whose cgroups were not delegated to us, not an exact limit.
    """

    def __init__(self, on_over: Callable[[Attempt], None]) -> None:
        self._on_over = on_over
        self._next = 0.0
        self._looking: asyncio.Future[None] | None = None

    def look(self, attempts: Iterable[Attempt], now: float) -> None:
        """Look at those that have a limit, in another thread, if it is time."""
        if now < self._next or (self._looking is not None and not self._looking.done()):
            return
        limited = [
            (attempt, attempt.host.process.runner_pid())
            for attempt in attempts
            if attempt.memory_bytes is not None and attempt.host is not None
        ]
        if not limited:
            return
        self._next = now + LOOK_S
        loop = asyncio.get_running_loop()
        self._looking = loop.run_in_executor(None, self._measure, loop, limited)

    def _measure(self, loop: asyncio.AbstractEventLoop, limited: list[tuple[Attempt, int]]) -> None:
        for attempt, pid in limited:
            used = sum(map(resident_bytes, {pid} | shim.descendants(pid))) if pid else 0
            if attempt.memory_bytes is not None and used > attempt.memory_bytes:
                with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                    loop.call_soon_threadsafe(self._on_over, attempt)


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has; 0 for one that is gone."""
    try:
        return int(shim.read(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0
