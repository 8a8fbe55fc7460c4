"""Who takes a file over: the loop itself, or a thread.

To wake a thread and be woken by it takes longer than an idle disk does for a small file whose
maker had it begin. So a file that comes alone is taken over by the loop. What comes in numbers
goes to threads, because a disk is best used by several syncs at a time; so does what is large or
needs more of the disk than its own sync, and everything while the disk is slow, which must not hold
up the loop.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.store.disk_pace import DiskPace

_QUICK_BYTES_MAX: Final = 2 << 20
"""Longest file that the loop takes over itself."""
_ALONE_S: Final = 0.002
"""For so long no other must have come."""


class Adopting:
    """Takes over files for all sessions of one loop.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_threads_count = 0
        self._came_at = -_ALONE_S
        self._pace = DiskPace()

    def is_quick(self, store: BlobStore, blob_id: str, size_bytes: int) -> bool:
        """Whether `at_once` may be called for a file that comes now."""
        now = self._clock()
        is_alone = now - self._came_at >= _ALONE_S and not self._in_threads_count
        self._came_at = now
        return (
            is_alone
            and size_bytes <= _QUICK_BYTES_MAX
            and self._pace.is_quick(now)
            and not store.would_wait(blob_id, size_bytes)
        )

    def at_once(self, store: BlobStore, blob_id: str, path: Path, size_bytes: int) -> None:
        """Take a file over, here and now.

        Raises:
            BlobError: As `BlobStore.adopt`.
        """
        started = self._clock()
        try:
            store.adopt(blob_id, path, size_bytes)
        finally:
            now = self._came_at = self._clock()
            self._pace.note(now - started, now)

    async def in_thread(self, store: BlobStore, blob_id: str, path: Path, size_bytes: int) -> None:
        """Take a file over in a thread.

        Raises:
            BlobError: As `BlobStore.adopt`.
        """
        self._in_threads_count += 1
        try:
            await asyncio.to_thread(store.adopt, blob_id, path, size_bytes)
        finally:
            self._in_threads_count -= 1
