"""Who takes a file over: the loop itself, or a thread.

To wake a thread and be woken by it takes longer than an idle disk does for a small file whose
maker had it begin. So a file that comes alone is taken over by the loop. What comes in numbers
goes to threads, because a disk is best used by several syncs at a time; so does what is large, and
everything while the disk is slow, which must not hold up the loop.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lineshaft_coordinator.data.blobs import BlobStore

_QUICK_BYTES_MAX: Final = 2 << 20
"""Longest file that the loop takes over itself."""
_ALONE_S: Final = 0.002
"""For so long no other must have come."""
_QUICK_S_MAX: Final = 0.01
"""What took the loop longer was slow."""
_SLOW_MAX: Final = 3
"""So many slow ones in a row tell of a slow disk."""
_STALL_S: Final = 0.1
"""So does a single one that took this long: somebody writes much, and the next wait for it too."""
_SLOW_DISK_S: Final = 30.0
"""How long threads then do it all, until the disk is tried again."""


class Adopting:
    """Takes over files for all sessions of one loop.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_threads_count = 0
        self._came_at = -_ALONE_S
        self._slow_count = 0
        self._is_slow_until = 0.0

    def is_quick(self, store: BlobStore, blob_id: str, size_bytes: int) -> bool:
        """Whether `at_once` may be called for a file that comes now."""
        now = self._clock()
        is_alone = now - self._came_at >= _ALONE_S and not self._in_threads_count
        self._came_at = now
        return (
            is_alone
            and size_bytes <= _QUICK_BYTES_MAX
            and now >= self._is_slow_until
            # Else the loop would wait for whoever sends the same blob.
            and not store.is_under_way(blob_id)
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
            took_s = now - started
            self._slow_count = self._slow_count + 1 if took_s > _QUICK_S_MAX else 0
            if self._slow_count >= _SLOW_MAX or took_s > _STALL_S:
                self._slow_count, self._is_slow_until = 0, now + _SLOW_DISK_S

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
