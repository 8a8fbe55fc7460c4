"""The loop between a core whose effects nobody waits for and the world."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic

from lineshaft_runtime.pump import Core, EffectT, EventT


class Turns(Generic[EventT, EffectT]):
    """Feeds one core from one inbox, as `Pump` does, without a task between the two.

    What came is handled in a callback of the loop, or at once where somebody calls `turn`: to wake
    a task takes a turn of the loop more, and a third of what a lone event costs.

    Args:
        core: Who decides. An exception out of it is a bug of ours and ends `run`.
        perform: Carries out the effects of a batch, and waits for nothing. It may post.
        tick: The event to send when a deadline has come.
        batch_max: The most events handled before their effects are performed; at least 1.
    """

    def __init__(
        self,
        core: Core[EventT, EffectT],
        perform: Callable[[list[EffectT]], None],
        *,
        tick: EventT,
        batch_max: int = 512,
    ) -> None:
        assert batch_max >= 1, "a batch has at least one event"
        self._core, self._perform, self._tick = core, perform, tick
        self._batch_max = batch_max
        self._inbox: deque[EventT] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        """There while `run` runs."""
        self._ended: asyncio.Future[None] | None = None
        self._is_due = self._is_turning = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline = 0.0
        self._deadline: float | None = None
        """Of the core, which only what it handles can change."""

    def post(self, event: EventT) -> None:
        """Put an event at the end of the inbox. Only from the thread of the loop."""
        self._inbox.append(event)
        if not self._is_due and self._loop is not None:
            self._is_due = True
            self._loop.call_soon(self._come)

    def put(self, event: EventT) -> None:
        """Likewise, for who calls `turn` right after it: it is handled no earlier than that."""
        self._inbox.append(event)

    def together(self, work: Callable[[], None]) -> None:
        """Do something that posts, and handle at once what it posted."""
        was_due, self._is_due = self._is_due, True
        try:
            work()
        finally:
            self._is_due = was_due
            self.turn()  # Also of what was posted before it raised: nothing else would wake us.

    async def run(self) -> None:
        """Feed the core until cancelled.

        Raises:
            Exception: Whatever the core or `perform` raised. The core is then in an unknown state.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._deadline = self._core.next_deadline()
        try:
            self.turn()
            await self._ended
        finally:
            self._loop = None
            self._disarm()

    def turn(self) -> None:
        """Handle what is in the inbox, at most one batch of it; no harm if there is nothing."""
        loop = self._loop
        # What is performed may call this: what it posted has its turn after the others.
        if loop is None or self._is_turning:
            return
        self._is_turning = True
        try:
            self._take(loop.time())
        except BaseException as error:  # noqa: BLE001 - who runs us gets it
            self._loop = None
            if self._ended is not None and not self._ended.done():
                self._ended.set_exception(error)
            return
        finally:
            self._is_turning = False
        if self._inbox and not self._is_due:
            # Between batches the sockets get a turn.
            self._is_due = True
            loop.call_soon(self._come)
        if self._timer is None or self._timer_deadline != self._deadline:
            self._arm(loop)

    def _take(self, now: float) -> None:
        inbox, deadline = self._inbox, self._deadline
        # Deadlines come before news, so that a lease ends when it ends, however long the inbox.
        events = [self._tick] if deadline is not None and deadline <= now else []
        if len(inbox) <= self._batch_max:
            events += inbox
            inbox.clear()
        else:
            events += [inbox.popleft() for _ in range(self._batch_max)]
        if not events:
            return
        effects = self._core.handle(events, now)
        self._deadline = self._core.next_deadline()
        if effects:
            self._perform(effects)

    def _come(self) -> None:
        self._is_due = False
        self.turn()

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._disarm()
        if self._deadline is not None:
            self._timer_deadline = self._deadline
            self._timer = loop.call_at(self._deadline, self._on_deadline)

    def _on_deadline(self) -> None:
        self._timer = None
        self.turn()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
