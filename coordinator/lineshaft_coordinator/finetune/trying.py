"""Tries again what failed, ever more rarely: what goes wrong with a training is a line in the log.

A store that cannot be read now, a full disk, a bug of ours: none of it ends the coordinator, whose
other jobs go on, and none of it leaves a training where it was for ever without a word.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.store.errors import StoreError, UnreadableRecordError

logger = logging.getLogger(__name__)

Work: TypeAlias = Callable[[], Awaitable[object]]

FIRST_S: Final = 1.0
"""How long is waited after the first failure; after each further one twice as long."""
LONGEST_S: Final = 60.0


class Trying:
    """Does what may fail, and does it again."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing: set[tuple[str, str]] = set()

    async def until_done(
        self, what: str, work: Work, *, job_id: str | None = None, after_s: float = 0.0
    ) -> None:
        """Do it until it is done, or until it is clear that it cannot be; raises nothing.

        Args:
            what: What is not so while it is not done, for the log.
            work: Does it; may be called again.
            job_id: Which training it is about.
            after_s: How long the first try waits.
        """
        wait_s = FIRST_S
        if after_s:
            await asyncio.sleep(after_s)
        while True:
            try:
                await work()
            except UnreadableRecordError as error:
                _complain(what, job_id, error)
                return  # It will be no other the next time.
            except Exception as error:  # noqa: BLE001 - logged, and done again
                _complain(what, job_id, error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_S)
            else:
                return

    def begin(self, what: str, job_id: str, work: Work, *, after_s: float = 0.0) -> None:
        """Begin to do it until it is done."""
        task = asyncio.create_task(self.until_done(what, work, job_id=job_id, after_s=after_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def once(self, what: str, job_id: str, work: Work) -> None:
        """Do it now; if it fails, nobody waits for the next try, and until that, nobody else tries.

        The same is what has the same words and the same training.
        """
        key = what, job_id
        if key in self._failing:
            return

        async def again() -> None:
            await work()
            self._failing.discard(key)

        try:
            await work()
        except Exception as error:  # noqa: BLE001 - logged, and done again
            _complain(what, job_id, error)
            self._failing.add(key)
            if not isinstance(error, UnreadableRecordError):
                self.begin(what, job_id, again, after_s=FIRST_S)

    def close(self) -> None:
        """Give up what is still tried."""
        for task in self._tasks:
            task.cancel()


def _complain(what: str, job_id: str | None, error: Exception) -> None:
    fields = {"why": str(error)} if job_id is None else {"job_id": job_id, "why": str(error)}
    if isinstance(error, StoreError | BlobError | OSError):
        logger.warning(what, extra=fields)
    else:
        logger.error(what, exc_info=error, extra=fields)
