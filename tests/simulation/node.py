"""A process of the simulated world: one core, and the pump in front of it.

As the real pump: deadlines first, then what is in the inbox, then all effects of the batch.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

from tests.simulation.faults import Faults
from tests.simulation.world import World

LATE_S = 5.0


class Core(Protocol):
    """What all three cores have in common."""

    def handle(self, events: list[object], now: float) -> list[object]: ...
    def next_deadline(self) -> float | None: ...


class Node(ABC):
    """One process; it may crash and start again, then as another boot."""

    tick: object

    def __init__(self, world: World, name: str, faults: Faults, *, drift: float = 0.0) -> None:
        self.world, self.name, self.faults = world, name, faults
        self.dice = world.random(name)
        self.is_up = False
        self.boot = 0
        self.rate = 1.0 + self.dice.uniform(-drift, drift)
        self.sessions = 0
        self.core: Core | None = None
        self.stalled_since = self.stalled_until = 0.0
        self._inbox: deque[object] = deque()
        self._is_scheduled = False
        self._is_busy = False
        self._armed: float | None = None
        self._floor = 0.0

    # --- what each kind of process does in its own way ---

    @abstractmethod
    def make_core(self) -> Core:
        """Start the process: read what it keeps, build its core."""

    @abstractmethod
    def perform(self, effects: list[object]) -> None:
        """Carry out the effects of a batch."""

    @abstractmethod
    def decode(self, session: int, frame: bytes) -> list[object]:
        """Read a frame into events."""

    @abstractmethod
    def disconnected(self, session: int | None) -> object:
        """The event of a session that is gone."""

    @abstractmethod
    def after_batch(self) -> None:
        """Look whether all is well after a batch."""

    # --- its life ---

    def start(self) -> None:
        """Begin a boot."""
        self.boot += 1
        self.is_up = True
        self.world.note(self.name, f"starts, boot {self.boot}")
        self._inbox.clear()
        self._is_scheduled = self._is_busy = False
        self._armed = None
        self.sessions = 0
        self.core = self.make_core()
        self._arm()

    def stop(self, why: str) -> None:
        """End the process without warning."""
        self.world.note(self.name, f"stops: {why}")
        self.is_up = False
        self.core = None

    def new_session(self) -> int:
        """Number a connection as this process does."""
        self.sessions += 1
        return self.sessions

    def clock(self) -> float:
        """The process's own monotonic clock."""
        return max(self._floor, self.world.now * self.rate)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, unless this boot is over by then."""
        boot = self.boot

        def unless_rebooted() -> None:
            if self.is_up and self.boot == boot:
                action()

        self.world.after(delay_s, unless_rebooted)

    # --- the pump ---

    def post(self, event: object) -> None:
        """Put an event into the inbox."""
        if not self.is_up:
            return
        self._inbox.append(event)
        self._schedule()

    def _schedule(self) -> None:
        if self._is_scheduled or self._is_busy:
            return
        self._is_scheduled = True
        delay_s = max(0.0, self.stalled_until - self.world.now)
        if self.faults.handles_in_batches and self.dice.random() < 0.3:
            delay_s += self.dice.uniform(0.0, 0.02)
        self.later(delay_s, self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        if self._is_busy:
            return
        if self.stalled_until > self.world.now:
            self._schedule()
            return
        core = self.core
        assert core is not None, "a process that is up has a core"
        self._armed = None
        now = self._floor = self.clock()
        events: list[object] = []
        if (deadline := core.next_deadline()) is not None and deadline <= now:
            if now - deadline > LATE_S:
                self.world.mark("late_tick")
            events.append(self.tick)
        most = self.dice.randint(1, 12) if self.faults.handles_in_batches else 64
        events += [self._inbox.popleft() for _ in range(min(len(self._inbox), most))]
        effects = core.handle(events, now)
        self.after_batch()
        if effects:
            self.perform(effects)
        if self.is_up and not self._is_busy:
            self.go_on()

    def wait(self) -> None:
        """Handle nothing until `go_on`: a batch is being carried out."""
        self._is_busy = True

    def go_on(self) -> None:
        """The batch is carried out: take the next, or sleep until the next deadline."""
        self._is_busy = False
        if self._inbox:
            self._schedule()
        self._arm()

    def _arm(self) -> None:
        assert self.core is not None, "a process that is up has a core"
        deadline = self.core.next_deadline()
        if deadline is None or deadline == self._armed:
            return
        self._armed = deadline
        late_s = self.dice.uniform(0.0, 0.002) if self.faults.timers_are_late else 0.0

        def wake() -> None:
            if self._armed == deadline:
                # Exactly at the deadline, whatever the clock's rounding makes of it.
                if not late_s and self.stalled_until <= self.world.now and not self._is_busy:
                    self._floor = max(self._floor, deadline)
                self._armed = None
                self._schedule()

        self.later(max(0.0, deadline / self.rate - self.world.now) + late_s, wake)
