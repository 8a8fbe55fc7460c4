"""The loop between one core and the world."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeVar

EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")
_EventT_contra = TypeVar("_EventT_contra", contravariant=True)


class Core(Protocol[_EventT_contra, EffectT]):
    """All decisions of one process: synchronous, without clock, input or output of its own."""

    def handle(self, events: Iterable[_EventT_contra], now: float) -> list[EffectT]:
        """Take in what has happened, in order, and say what is to be done, in order."""
        ...

    def next_deadline(self) -> float | None:
        """Tell when the core wants a tick, on the clock of `now`, in seconds; `None`: never."""
        ...


class Pump(Generic[EventT, EffectT]):
    """Feeds one core from one inbox; nothing else ever touches the core.

    Args:
        core: Who decides. An exception out of it is a bug of ours and ends `run`.
        perform: Carries out the effects of a batch: what is durable first, then the rest. It
            is awaited before the next batch, so it must never wait for a peer.
        tick: The event to send when a deadline has come.
        batch_max: The most events handled before their effects are performed; at least 1. While
            both sorts wait, an eighth of a batch is kept for those that are not urgent.
        clock: Seconds; by default the running loop's own clock.
    """

    def __init__(
        self,
        core: Core[EventT, EffectT],
        perform: Callable[[list[EffectT]], Awaitable[None]],
        *,
        tick: EventT,
        batch_max: int = 512,
        clock: Callable[[], float] | None = None,
    ) -> None:
        assert batch_max >= 1, "a batch has at least one event"
        self._core = core
        self._perform = perform
        self._tick = tick
        self._batch_max = batch_max
        self._clock = clock
        self._inbox: deque[EventT] = deque()
        self._urgent: deque[EventT] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = 0.0

    @property
    def waiting(self) -> int:
        """Events in the inbox; a reader of sockets may stop reading while it is high."""
        return len(self._inbox) + len(self._urgent)

    def post(self, event: EventT, *, is_urgent: bool = False) -> None:
        """Put an event at the end of the inbox. Only from the thread of the loop.

        Args:
            event: What has happened.
            is_urgent: Whether it overtakes those that are not. Events whose order counts, as those
                of one session, are all urgent or all not.
        """
        (self._urgent if is_urgent else self._inbox).append(event)
        self._wake()

    async def run(self) -> None:
        """Feed the core until cancelled.

        Raises:
            Exception: Whatever the core or `perform` raised. The core is then in an unknown
                state: end the process, and let the next one replay the journal.
        """
        loop = asyncio.get_running_loop()
        clock = self._clock or loop.time
        try:
            while True:
                deadline = self._core.next_deadline()
                is_due = deadline is not None and deadline <= clock()
                if not is_due and not self._inbox and not self._urgent:
                    await self._wait(loop, clock, deadline)
                    continue
                effects = self._handle_batch(clock(), is_due=is_due)
                if effects:
                    await self._perform(effects)
                if self._inbox or self._urgent or is_due:
                    # Between batches the sockets get a turn: `perform` may never have given one.
                    await asyncio.sleep(0)
        finally:
            self._disarm()

    def _handle_batch(self, now: float, *, is_due: bool) -> list[EffectT]:
        inbox = self._inbox
        # Deadlines come before news, so that a lease ends when it ends, however long the inbox.
        events = [self._tick] if is_due else []
        room = self._batch_max
        if urgent := self._urgent:
            kept = min(len(inbox), room // 8)
            count = min(len(urgent), room - kept)
            room -= count
            events += [urgent.popleft() for _ in range(count)]
        events += [inbox.popleft() for _ in range(min(len(inbox), room))]
        return self._core.handle(events, now)

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], deadline: float | None
    ) -> None:
        self._arm(loop, clock, deadline)
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arm(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], deadline: float | None
    ) -> None:
        if self._timer is not None and self._timer_deadline == deadline:
            return
        self._disarm()
        if deadline is not None:
            self._timer_deadline = deadline
            self._timer = loop.call_at(loop.time() + deadline - clock(), self._on_deadline)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
