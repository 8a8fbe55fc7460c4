"""Viewers with a queue: what every socket that shows a feed is made of."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from lineshaft_coordinator.feeds.thinner import Thinner
from lineshaft_coordinator.feeds.told import Dialect, Latest, Message, Place, Told
from lineshaft_coordinator.feeds.viewer_queue import Drops, QueueLimits, ViewerQueue, Waiting
from lineshaft_protocol.events import JobEvent
from lineshaft_runtime.connection import Connection, Limits

STUCK_S = 30.0
"""A viewer to whom for so long nothing could be given that must not be dropped is let go."""
CHECK_S = 5.0
"""How often it is looked whether one is."""
TRY_LATER = 1013
UNKNOWN = 4404
"""Close code: nobody knows the job."""
WEBSOCKET_LIMITS = Limits(
    text_bytes=64 * 1024,
    binary_bytes=64 * 1024,
    # What the socket does not take waits in the queue, where it can still be dropped.
    write_high_bytes=64 * 1024,
    write_low_bytes=16 * 1024,
    ping_interval_s=20.0,
    ping_timeout_s=20.0,
)

GapTeller: TypeAlias = Callable[[int, Place | None], bytes]
"""Writes how many messages were skipped, and the place of the next one."""


class QueuedViewer:
    """Puts what one viewer is to hear into its queue, in its dialect.

    Args:
        dialect: How it reads news.
        wake: Called when there is something to take, or the end was reached. Must not block.
        limits: What the viewer may cost.
        thinner: Sums up what comes too often for it; None: it is told everything.
        drain: Takes at once what can be taken without waiting; None: that is nothing.
        drops: Where it is counted what it misses.
    """

    def __init__(
        self,
        dialect: Dialect,
        wake: Callable[[], None],
        *,
        drain: Callable[[], None] | None = None,
        limits: QueueLimits | None = None,
        thinner: Thinner | None = None,
        drops: Drops | None = None,
    ) -> None:
        self.dialect = dialect
        self._thinner = thinner
        self._held_timer: asyncio.TimerHandle | None = None
        self.queue = ViewerQueue(limits or QueueLimits(), drops)
        self._wake, self._drain = wake, drain
        self._room: asyncio.Future[None] | None = None
        self.ending: tuple[int, str] | None = None
        """Code and reason of the close that follows what waits; None: the feed goes on."""

    def begin(self, latest: Latest, behind: Place) -> None:
        """Tell it the snapshot."""
        self.tell(self.dialect.snapshot(latest, behind))

    def hear(self, told: Told) -> None:
        """Tell it news, all or the sum of some."""
        thinner, news = self._thinner, told.news
        if thinner is None:
            self.tell(told.by(self.dialect))
        elif isinstance(news, JobEvent) and thinner.takes(news):
            self._plan_held(thinner, news)
        else:
            self._tell_held()
            self.tell(told.by(self.dialect))

    def leave(self) -> None:
        """It is gone."""
        if self._held_timer is not None:
            self._held_timer.cancel()
            self._held_timer = None

    def is_stuck(self) -> bool:
        """Whether it does not take what must not be dropped, and has to go."""
        now = asyncio.get_running_loop().time()
        since = self.queue.stuck_since()
        return self.queue.is_hopeless or (since is not None and now - since >= STUCK_S)

    def _plan_held(self, thinner: Thinner, event: JobEvent) -> None:
        loop = asyncio.get_running_loop()
        wait_s = thinner.hold(event, loop.time())
        if wait_s <= 0:
            self._tell_held()
        elif self._held_timer is None:
            self._held_timer = loop.call_later(wait_s, self._tell_held)

    def _tell_held(self) -> None:
        self.leave()
        assert self._thinner is not None, "only a thinner holds"
        for event in self._thinner.release(asyncio.get_running_loop().time()):
            self.tell(self.dialect.message(event))

    def unknown(self) -> None:
        """Tell it that there is no such job."""
        self.end(UNKNOWN, "nobody knows this job; it may have been pruned with the history")

    def lost(self, reason: str) -> None:
        """Tell it to come again."""
        self.end(TRY_LATER, reason)

    async def has_room(self) -> None:
        """Wait until half of its queue is free."""
        while not self.queue.is_half_free:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def tell(self, message: Message | None) -> None:
        """Put a message at the end of its queue."""
        if message is None or self.ending is not None:
            return
        if self._drain is not None and not self.queue.has_room_for(message):
            # Many came in one turn: who reads all the same shall not lose any of them.
            self._drain()
        self.queue.offer(message, asyncio.get_running_loop().time())
        if message.is_last:
            self.ending = 1000, "that was all"
        self._wake()

    def end(self, code: int, reason: str) -> None:
        """Let it go once it has what waits."""
        if self.ending is None:
            self.ending = code, reason
            self._wake()

    def take(self) -> Waiting | None:
        """Take the next message for it."""
        waiting = self.queue.take()
        if self._room is not None and not self._room.done() and self.queue.is_half_free:
            self._room.set_result(None)
        return waiting


class WebSocketViewer:
    """Shows a feed on one WebSocket; what the peer says is of no interest.

    It is the listener of its connection. Nothing is written where news is published: a turn of the
    loop later, and only as much as the socket takes.

    Args:
        subscribe: Called once the connection is open.
        unsubscribe: Called once it is gone.
        dialect: How it reads news.
        gap: How it is told of what was skipped; None: it is not.
        limits: What the viewer may cost.
        thinner: See QueuedViewer.
        drops: Likewise.
    """

    def __init__(
        self,
        subscribe: Callable[[QueuedViewer], None],
        unsubscribe: Callable[[QueuedViewer], None],
        dialect: Dialect,
        *,
        gap: GapTeller | None = None,
        limits: QueueLimits | None = None,
        thinner: Thinner | None = None,
        drops: Drops | None = None,
    ) -> None:
        self._subscribe, self._unsubscribe, self._gap = subscribe, unsubscribe, gap
        self.viewer = QueuedViewer(
            dialect,
            self._plan_flush,
            drain=self._flush,
            limits=limits,
            thinner=thinner,
            drops=drops,
        )
        self._connection: Connection | None = None
        self._is_planned = False
        self._watchdog: asyncio.TimerHandle | None = None

    def on_open(self, connection: Connection) -> None:
        """Begin."""
        self._connection = connection
        self._subscribe(self.viewer)

    def on_text(self, connection: Connection, data: bytes) -> None:
        """Ignore what it says."""

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """Likewise."""

    def on_writable(self, connection: Connection) -> None:
        """Go on where the socket was full."""
        del connection
        self._flush()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """It left."""
        del connection, code, reason
        self._connection = None
        if self._watchdog is not None:
            self._watchdog.cancel()
        self.viewer.leave()
        self._unsubscribe(self.viewer)

    def _plan_flush(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._flush_planned)

    def _flush_planned(self) -> None:
        self._is_planned = False
        self._flush()

    def _flush(self) -> None:
        connection, viewer = self._connection, self.viewer
        if connection is None:
            return
        high = WEBSOCKET_LIMITS.write_high_bytes
        while connection.is_writable and connection.buffered_bytes < high:
            waiting = viewer.take()
            if waiting is None:
                break
            if waiting.skipped and self._gap is not None:
                connection.send_text(self._gap(waiting.skipped, waiting.message.place))
            connection.send_text(waiting.message.data)
        if not viewer.queue and viewer.ending is not None:
            connection.close(*viewer.ending)
        elif viewer.queue.is_hopeless:
            self._give_up(connection)
        elif viewer.queue and self._watchdog is None:
            self._watchdog = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def _check(self) -> None:
        """Let go who cannot take what must not be dropped."""
        self._watchdog = None
        connection = self._connection
        if connection is None or not self.viewer.queue:
            return
        if self.viewer.is_stuck():
            self._give_up(connection)
        else:
            self._watchdog = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    @staticmethod
    def _give_up(connection: Connection) -> None:
        # Who does not read will not read the goodbye; the connection's own limit ends it then.
        connection.close(TRY_LATER, "too slow; come again")
