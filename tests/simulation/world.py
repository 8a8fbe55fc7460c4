"""A deterministic world: one thread, virtual time, one seed."""

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from random import Random

STORY_MAX = 4000
"""How many of the last lines of the story are kept."""

SPIN_MAX = 20_000
"""So many steps without time moving mean that somebody wakes himself for ever."""


class SimulationError(AssertionError):
    """Something that must never happen happened."""


class World:
    """Runs actions in the order of (time, insertion); nothing else decides anything."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.marks: Counter[str] = Counter()
        """How often each rare thing happened."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._spins = 0
        self._trace = hashlib.sha256()
        self._story: deque[tuple[float, str, str | bytes]] = deque(maxlen=STORY_MAX)

    def random(self, stream: str) -> Random:
        """Make dice of their own for one purpose, so that a new throw elsewhere moves none here."""
        return Random(f"{self.seed}/{stream}")

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later; what is due at the same moment happens in the order it was asked."""
        self.at(self.now + delay_s, action)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Do something at this moment, after what was asked for the same moment before."""
        if moment < self.now:
            raise SimulationError("time runs forward")
        self._sequence += 1
        heapq.heappush(self._queue, (moment, self._sequence, action))

    def note(self, actor: str, what: str | bytes) -> None:
        """Write one line of the story, and make it part of the fingerprint."""
        self._trace.update(f"{self.now!r} {actor} ".encode())
        self._trace.update(what.encode() if isinstance(what, str) else what)
        self._story.append((self.now, actor, what))

    def mark(self, name: str) -> None:
        """Count that something rare happened."""
        self.marks[name] += 1

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until_s:
            at, _, action = heapq.heappop(self._queue)
            self._spins = self._spins + 1 if at == self.now else 0
            if self._spins > SPIN_MAX:
                raise SimulationError("somebody wakes himself for ever without time moving")
            self.now = at
            self.steps += 1
            action()
        self.now = until_s

    @property
    def fingerprint(self) -> str:
        """What distinguishes this story from every other."""
        return self._trace.hexdigest()[:16]

    def story(self, lines: int) -> list[str]:
        """The last lines of what happened, for a person."""
        return [
            f"{at:10.4f} {actor:<12} {what if isinstance(what, str) else what.decode()}"[:600]
            for at, actor, what in list(self._story)[-lines:]
        ]
