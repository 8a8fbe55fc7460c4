"""When the core wants to be woken, and what for."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

HEAP_MIN = 64
"""A heap no longer than this is never cleaned up."""

KeyT = TypeVar("KeyT", bound=Hashable)


class Deadlines(Generic[KeyT]):
    """One moment for each key; setting a key again replaces its moment.

    Replaced entries stay in the heap until they surface or outnumber the others, so each change
    costs O(log n), and a far deadline that was cleared costs no memory.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, KeyT]] = []
        self._at: dict[KeyT, float] = {}
        self._count = 0

    def set(self, key: KeyT, at: float) -> None:
        """Wake at this moment for the key, and not at the one set before."""
        self._at[key] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > HEAP_MIN and len(self._heap) > 4 * len(self._at):
            self._heap = [entry for entry in self._heap if self._at.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def clear(self, key: KeyT) -> float | None:
        """Do not wake for the key; returns the moment that was set for it."""
        return self._at.pop(key, None)

    def at(self, key: KeyT) -> float | None:
        """The moment set for the key."""
        return self._at.get(key)

    def __contains__(self, key: KeyT) -> bool:
        return key in self._at

    def next(self) -> float | None:
        """The earliest moment set, or ``None``."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> Iterator[KeyT]:
        """Take out every key whose moment has come, earliest first."""
        while (at := self.next()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            if self._at.get(key) == at:
                del self._at[key]
                yield key
