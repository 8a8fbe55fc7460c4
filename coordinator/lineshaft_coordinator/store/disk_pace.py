"""Whether the disk is quick enough for the event loop to wait for it.

To wake a thread and be woken by it takes longer than an idle disk does for a little, so the loop
does that itself; but a disk that is slow must not hold up everything else that the loop does.
"""

from typing import Final

QUICK_S_MAX: Final = 0.01
"""What took the loop longer was slow."""
SLOW_MAX: Final = 3
"""So many slow ones in a row, which no checkpoint explains, tell of a slow disk."""
STALL_S: Final = 0.1
"""So does a single one that took this long: somebody writes much, and the next wait for it too."""
SLOW_DISK_S: Final = 30.0
"""How long threads then do it all, until the disk is tried again."""


class DiskPace:
    """What the loop learns of a disk each time it waits for it."""

    def __init__(self) -> None:
        self._slow_count = 0
        self._is_slow_until = 0.0

    def is_quick(self, now: float) -> bool:
        """Whether the loop may wait for the disk itself, at a moment of a clock that only rises."""
        return now >= self._is_slow_until

    def note(self, took_s: float, now: float) -> None:
        """The loop waited for so long, until now."""
        self._slow_count = self._slow_count + 1 if took_s > QUICK_S_MAX else 0
        if self._slow_count >= SLOW_MAX or took_s > STALL_S:
            self._slow_count, self._is_slow_until = 0, now + SLOW_DISK_S
