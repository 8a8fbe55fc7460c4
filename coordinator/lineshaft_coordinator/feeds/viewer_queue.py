"""What waits for one viewer: bounded, and of what is too much the oldest numbers go."""

from collections import deque
from dataclasses import dataclass

from lineshaft_coordinator.feeds.told import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What one viewer who does not read may cost."""

    messages: int = 256
    size_bytes: int = 1024 * 1024
    hard_factor: int = 4
    """So many times these limits, and the viewer is hopeless: what must not be dropped fills it."""


@dataclass(slots=True)
class Waiting:
    """One message that waits, and what went before it."""

    message: Message
    offered_at: float
    """When it was offered, on the loop's clock, in seconds."""
    skipped: int = 0
    """Messages dropped right before it."""


@dataclass(slots=True)
class Drops:
    """What all viewers of a hub have missed, those that are gone included."""

    count: int = 0


class ViewerQueue:
    """Holds messages for one viewer, in order.

    When there are too many, the oldest droppable ones go, and nothing else ever does: the limit is
    exceeded rather than an end lost.
    """

    def __init__(self, limits: QueueLimits, drops: Drops | None = None) -> None:
        self._limits, self._drops = limits, drops
        self._waiting: deque[Waiting] = deque()
        self._skipped = 0
        """Dropped behind the last message that waits."""
        self.size_bytes = 0
        self.dropped_count = 0
        """Since the viewer came."""

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room_for(self, message: Message) -> bool:
        """Whether it can be offered and nothing must go."""
        limits = self._limits
        size_bytes = self.size_bytes + len(message.data)
        return len(self._waiting) < limits.messages and size_bytes <= limits.size_bytes

    @property
    def is_half_free(self) -> bool:
        """Whether there is room for history, which comes at the viewer's own pace."""
        limits = self._limits
        return (
            len(self._waiting) * 2 <= limits.messages and self.size_bytes * 2 <= limits.size_bytes
        )

    @property
    def is_hopeless(self) -> bool:
        """Whether so much waits that must not be dropped that the viewer has to go."""
        limits = self._limits
        return (
            len(self._waiting) > limits.messages * limits.hard_factor
            or self.size_bytes > limits.size_bytes * limits.hard_factor
        )

    def offer(self, message: Message, now: float) -> None:
        """Add a message at the end."""
        self._waiting.append(Waiting(message, now, self._skipped))
        self._skipped = 0
        self.size_bytes += len(message.data)
        while self._is_full and self._drop_oldest():
            pass

    def take(self) -> Waiting | None:
        """Remove and return the first; None if none waits."""
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        self.size_bytes -= len(first.message.data)
        return first

    def stuck_since(self) -> float | None:
        """When the first one was offered that must not be dropped; None if there is none."""
        for waiting in self._waiting:
            if not waiting.message.is_droppable:
                return waiting.offered_at
        return None

    @property
    def _is_full(self) -> bool:
        limits = self._limits
        return len(self._waiting) > limits.messages or self.size_bytes > limits.size_bytes

    def _drop_oldest(self) -> bool:
        for index, waiting in enumerate(self._waiting):
            if waiting.message.is_droppable:
                del self._waiting[index]
                self.size_bytes -= len(waiting.message.data)
                self.dropped_count += 1
                if self._drops is not None:
                    self._drops.count += 1
                skipped = waiting.skipped + 1
                # The gap is told where it is: right before what follows it.
                if index < len(self._waiting):
                    self._waiting[index].skipped += skipped
                else:
                    self._skipped += skipped
                return True
        return False
