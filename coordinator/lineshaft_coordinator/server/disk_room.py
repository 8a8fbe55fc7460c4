"""What to do when the disk of the journal is full: nothing, until there is room."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lineshaft_coordinator.store.errors import StoreFullError

logger = logging.getLogger(__name__)

T = TypeVar("T")

STEP_S = 1.0
SAY_EVERY_S = 60.0


class DiskRoom:
    """Lets work on the store wait while its disk is full.

    Args:
        step_s: Pause before the store is tried again, in seconds.
    """

    def __init__(self, *, step_s: float = STEP_S) -> None:
        self._step_s = step_s
        self._waiting_count = 0
        self._said_at: float | None = None
        self.full_at: float | None = None
        """When the disk was last found full, on the monotonic clock, in seconds."""

    @property
    def obstacle(self) -> str | None:
        """Why nothing new can be kept now; ``None`` when it can."""
        return "disk full" if self._waiting_count else None

    async def wait_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do work, again and again while there is no room for it.

        Raises:
            StoreError: It failed for another reason.
        """
        try:
            return await work()
        except StoreFullError as error:
            self._say(error)
        self._waiting_count += 1
        try:
            while True:
                await asyncio.sleep(self._step_s)
                try:
                    done = await work()
                except StoreFullError as error:
                    self._say(error)
                else:
                    logger.info("there is room on the disk again")
                    return done
        finally:
            self._waiting_count -= 1

    def _say(self, error: StoreFullError) -> None:
        now = self.full_at = time.monotonic()
        if self._said_at is None or now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            fields = {"folder": str(error.folder), "why": str(error)}
            logger.error("disk full: nothing is accepted until there is room", extra=fields)
