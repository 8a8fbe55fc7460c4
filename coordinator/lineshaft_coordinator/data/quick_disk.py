"""When the loop may use the disk itself, and when a thread has to.

To wake a thread and be woken by it takes longer than an idle disk does for a small file. So what
comes alone is done by the loop. What comes in numbers goes to threads, because a disk is best used
by several syncs at a time; so does what is large or needs more of the disk than its own sync, and
everything while the disk is slow, which must not hold up the loop.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from lineshaft_coordinator.store.disk_pace import DiskPace

_QUICK_BYTES_MAX: Final = 2 << 20
"""Longest file that the loop cares for itself."""
_ALONE_S: Final = 0.002
"""For so long no other must have come."""


class QuickDisk:
    """Knows what came lately, and how long the disk took; for all sessions of one loop.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_threads_count = 0
        self._came_at = -_ALONE_S
        self._pace = DiskPace()

    def is_for_loop(self, size_bytes: int) -> bool:
        """Say who cares for a file that comes now: the loop, or a thread."""
        now = self._clock()
        is_alone = now - self._came_at >= _ALONE_S and not self._in_threads_count
        self._came_at = now
        return is_alone and size_bytes <= _QUICK_BYTES_MAX and self._pace.is_quick(now)

    @contextmanager
    def on_loop(self) -> Generator[None]:
        """Use the disk, here and now; the time it takes is noted."""
        started = self._clock()
        try:
            yield
        finally:
            now = self._came_at = self._clock()
            self._pace.note(now - started, now)

    @contextmanager
    def in_thread(self) -> Generator[None]:
        """Wait while a thread uses the disk."""
        self._in_threads_count += 1
        try:
            yield
        finally:
            self._in_threads_count -= 1
