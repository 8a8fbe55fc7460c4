"""How long a runner of a job's environment is kept for what may come."""

import asyncio
import time
from collections.abc import Sequence

from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.orders import Shape

WARM_S_MAX = 600.0
"""An idle runner keeps its environment from being pruned, and some memory."""


def worth_repeating(host: Host, victim: Attempt | None, sent: Sequence[Attempt]) -> Shape | None:
    """Say which runner is likely to be wanted in the place of one that is gone.

    After a pipeline job of an environment, which takes its runner with it, the next of the same
    shape often follows. Variables may be somebody's secrets: they are not kept in an idle process.
    """
    is_pipeline = victim is None and any(each.kind == "pipeline" for each in sent)
    is_plain = bool(host.shape.environment) and not host.shape.variables
    return host.shape if is_pipeline and is_plain else None


class Warmth:
    """Ends the idle runner of one lane after a while."""

    def __init__(self) -> None:
        self._host: Host | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def rest(self, host: Host) -> None:
        """The runner has nothing to do from now on; runners of no environment may stay."""
        if not host.shape.environment:
            return
        self._host, self._since = host, time.monotonic()
        if self._timer is None:
            self._arm(WARM_S_MAX)

    def clear(self) -> None:
        """Nothing is kept."""
        self._host = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, wait_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        self._timer = None
        host = self._host
        if host is None or host.sent or host.is_closing:
            return
        left_s = self._since + WARM_S_MAX - time.monotonic()
        if left_s > 0:
            self._arm(left_s)
        else:
            host.stop(0.0)
