"""Ends that the coordinator does not take at once are brought to the disk, in groups.

Theory. Nearly every end is settled some milliseconds after it was reported, and then its files are
deleted: to sync them would cost each call more than all else here. An end is worth a sync when
nobody takes it. So ends are put into a basket that is changed every `SAVE_S`; what is still there
when its basket comes round the second time is saved by one thread, one basket at a time. From then
on it outlives a loss of power, with its result, output and events. The event loop only touches two
dictionaries. An attempt that is settled while it is being saved is forgotten afterwards: nobody
deletes files under the thread that writes them.
"""

import asyncio
import logging
import os
from collections.abc import Callable

from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.runner.files import attempt_file, save_end, write_whole
from lineshaft_worker.runner.frames import encode

logger = logging.getLogger(__name__)

SAVE_S = 0.25
"""An end is on the disk at most twice this time after it was reported, unless it is settled."""

Sync = Callable[[int], None]


class Safekeeping:
    """See the module.

    Args:
        on_saved: Called in the loop's thread when an attempt that was settled meanwhile is free.
        sync: Brings what a descriptor stands for to the disk.
    """

    def __init__(self, on_saved: Callable[[AttemptKey], None], sync: Sync = os.fsync) -> None:
        self._on_saved, self._sync = on_saved, sync
        self._young: dict[AttemptKey, Attempt] = {}
        self._old: dict[AttemptKey, Attempt] = {}
        self._saving: dict[AttemptKey, Attempt] = {}
        self._settled: list[AttemptKey] = []
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def add(self, attempt: Attempt) -> None:
        """Take an attempt whose end was reported."""
        if not attempt.ticket or attempt.folder is None or attempt.done is None:
            return  # It never came to a runner: nothing tells of it, and nothing need.
        self._young[attempt.key] = attempt
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="safekeeping")

    def settle(self, key: AttemptKey) -> bool:
        """Leave an attempt out; False if it is being saved: then `on_saved` follows."""
        self._young.pop(key, None)
        self._old.pop(key, None)
        if key in self._saving:
            self._settled.append(key)
            return False
        return True

    def leave_word(self, attempt: Attempt) -> None:
        """Note an end, now that the runner that kept it is gone, for the next daemon.

        Not synced: this is called in the loop's thread, and only our own death is near.
        """
        if attempt.done is None or attempt.is_saved or attempt.key in self._saving:
            return
        path = attempt_file(str(attempt.folder), attempt.ticket, "ended")
        try:
            write_whole(path, encode(attempt.done))
        except OSError:
            logger.warning("an attempt's end could not be noted", exc_info=True)

    async def drained(self) -> None:
        """Save what is here now, without waiting for its time."""
        self._hurry.set()
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        while self._young or self._old:
            try:
                async with asyncio.timeout(SAVE_S):
                    await self._hurry.wait()
            except TimeoutError:
                self._saving, self._old, self._young = self._old, self._young, {}
            else:
                self._saving, self._old, self._young = self._old | self._young, {}, {}
            if self._saving:
                await asyncio.to_thread(self._save, list(self._saving.values()))
                self._saving = {}
            settled, self._settled = self._settled, []
            for key in settled:
                self._on_saved(key)
        self._task = None

    def _save(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            assert attempt.done is not None, "only ends come here"
            # Its files go when it is settled, also if saving breaks off half-way.
            attempt.has_files = True
            try:
                save_end(str(attempt.folder), attempt.ticket, encode(attempt.done), self._sync)
                attempt.is_saved = True
            except OSError as error:
                fields = {"job": attempt.key.job_id, "attempt": attempt.key.attempt}
                logger.warning(
                    "an end that nobody took is not safe from a loss of power: %s",
                    error, extra=fields,
                )  # fmt: skip
