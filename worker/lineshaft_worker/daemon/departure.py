"""How the daemon leaves when it is told to stop, and what ends together with it.

Slurm at scancel, at preemption and at the time limit, and a machine that shuts down, send SIGTERM
to every process at once: to the daemon and to its runners. An attempt that dies of that has not
failed: its machine was taken away, and its job belongs back into the queue. A SIGTERM that came to
the attempt alone is a failure as any other. Which it was shows only together with the daemon's own
signal, and the runner's end may be seen first: so such an end, and no other, is held back a moment.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace

from lineshaft_worker.core import io
from lineshaft_worker.execution.reports import AttemptEnded, Failed, Failure, Stopped

logger = logging.getLogger(__name__)

SHARED_SIGNAL_S = 2.0
"""How long after an attempt's SIGTERM one to the daemon counts as the same."""
TAKEN_AWAY = "a signal to stop came to all processes of its worker"
_EXIT_OF_SIGTERM = 128 + 15
"""The status that shells, and programs that catch SIGTERM, leave with."""


class Departure:
    """Drains when told to stop, then ends what still runs.

    Args:
        post: Gives the core an event.
        spawn: Runs work beside the caller.
        drain_s: How long what runs may take to finish.
        shared_s: How long an end by SIGTERM waits for one to the daemon, in seconds.
    """

    def __init__(
        self,
        post: Callable[[io.Event], None],
        spawn: Callable[[Coroutine[None, None, None]], None],
        *,
        drain_s: float,
        shared_s: float = SHARED_SIGNAL_S,
    ) -> None:
        self._post, self._spawn = post, spawn
        self._drain_s, self._shared_s = drain_s, shared_s
        self._is_told = asyncio.Event()
        self.left = asyncio.Event()
        """Set when everything is finished or handed back."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Wait until told to stop, and have everything finished or handed back."""
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self.left.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self.left.is_set():
                await self._drain()
        finally:
            for wait in waits:
                wait.cancel()

    async def _drain(self) -> None:
        self._post(io.DrainAsked())
        # After that was posted: the coordinator hears that we leave before it hears of such ends.
        self._is_told.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self.left.wait()
        if not self.left.is_set():
            logger.warning("ending what still runs: the time to finish is over")
            self._post(io.DrainAsked(is_hurried=True))
            await self.left.wait()

    def judge(self, ended: AttemptEnded, tell: Callable[[AttemptEnded], None]) -> None:
        """Tell of an end: at once, but for one that may have come to the whole machine."""
        if not _is_of_sigterm(ended):
            tell(ended)
        elif self._is_told.is_set():
            tell(_taken_away(ended))
        else:
            self._spawn(self._judge_later(ended, tell))

    async def _judge_later(self, ended: AttemptEnded, tell: Callable[[AttemptEnded], None]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._shared_s):
                await self._is_told.wait()
        tell(_taken_away(ended) if self._is_told.is_set() else ended)


def _is_of_sigterm(ended: AttemptEnded) -> bool:
    match ended.outcome:
        case Failed(error=Failure(cause="signal", signal_name="SIGTERM")):
            return True
        case Failed(error=Failure(cause="exit", exit_code=code)):
            return code == _EXIT_OF_SIGTERM
        case _:
            return False


def _taken_away(ended: AttemptEnded) -> AttemptEnded:
    fields = {"job": ended.key.job_id, "attempt": ended.key.attempt, "why": TAKEN_AWAY}
    logger.info("an attempt goes back to its line", extra=fields)
    return replace(ended, outcome=Stopped(TAKEN_AWAY))
