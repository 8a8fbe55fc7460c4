"""A feed as server-sent events: one long HTTP answer."""

import asyncio
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from lineshaft_coordinator.feeds.places import place_text
from lineshaft_coordinator.feeds.thinner import Thinner
from lineshaft_coordinator.feeds.told import Dialect, Message
from lineshaft_coordinator.feeds.viewer_queue import Drops, QueueLimits
from lineshaft_coordinator.feeds.viewers import CHECK_S, GapTeller, QueuedViewer

KEEP_ALIVE_S = 15.0
"""After so long without news a comment says that the connection is alive."""
RETRY_MS = 2000
"""How long a browser waits before it comes again."""
_LIMITS = QueueLimits(messages=4096)
"""What comes in one turn of the loop cannot be sent in it, so there must be room for it."""
END_ID = "end"
"""Id of the last message: who comes again with it has seen everything."""


class EventStream:
    """An ASGI answer that shows a feed until it ends, or the reader leaves.

    Args:
        subscribe: Called when the answer begins.
        unsubscribe: Called when it is over.
        dialect: How the reader reads news.
        gap: How it is told of what was skipped.
        thinner: See QueuedViewer.
        drops: Likewise.
    """

    def __init__(
        self,
        subscribe: Callable[[QueuedViewer], None],
        unsubscribe: Callable[[QueuedViewer], None],
        dialect: Dialect,
        *,
        gap: GapTeller,
        thinner: Thinner | None = None,
        drops: Drops | None = None,
    ) -> None:
        self._subscribe, self._unsubscribe, self._gap = subscribe, unsubscribe, gap
        self._news = asyncio.Event()
        self._viewer = QueuedViewer(
            dialect, self._news.set, limits=_LIMITS, thinner=thinner, drops=drops
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        del scope
        self._subscribe(self._viewer)
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_until_left(receive))
        try:
            done: set[asyncio.Task[None]] = set()
            while not done and not self._viewer.is_stuck():
                done, _ = await asyncio.wait(
                    (sending, leaving), timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            self._viewer.leave()
            self._unsubscribe(self._viewer)
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # Proxies shall not wait for more.
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_part(send, b"retry: %d\n\n" % RETRY_MS)
        while True:
            self._news.clear()
            while (waiting := self._viewer.take()) is not None:
                if waiting.skipped:
                    gap = self._gap(waiting.skipped, waiting.message.place)
                    await _send_part(send, b"data: %b\n\n" % gap)
                await _send_part(send, _written(waiting.message))
            if self._viewer.ending is not None:
                break
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await self._news.wait()
            except TimeoutError:
                await _send_part(send, b": still here\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


def _written(message: Message) -> bytes:
    if message.is_last:
        return b"id: %b\ndata: %b\n\n" % (END_ID.encode(), message.data)
    if message.place is None:
        return b"data: %b\n\n" % message.data
    return b"id: %b\ndata: %b\n\n" % (place_text(message.place).encode(), message.data)
