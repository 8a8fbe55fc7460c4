"""The live feed of a training: ``/ws/training/{job_id}``.

A viewer gets a greeting, the state at once, and from then on the newest state: when the job is
somewhere else, when it says something, though not twice a second for that, and a second after the
last message in any case while it waits or runs. There is nothing to lag behind: to a viewer whose
socket is full nothing is given, and when it has room it gets what is newest then. All viewers of a
job share one timer and one encoding.
"""

import asyncio
import logging
import time
from typing import Final, Protocol

from lineshaft_coordinator.finetune import views
from lineshaft_coordinator.finetune.follower import UnknownTrainingError
from lineshaft_coordinator.finetune.following import Following
from lineshaft_coordinator.finetune.words import TERMINAL
from lineshaft_coordinator.store.errors import StoreError
from lineshaft_runtime.connection import Connection, Limits

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
STUCK_S: Final = 30.0
"""A viewer that took nothing for so long is let go."""
TRY_LATER: Final = 1013
DONE: Final = 1000
INTERNAL: Final = 1011
LIMITS: Final = Limits(
    text_bytes=64 * 1024,
    binary_bytes=64 * 1024,
    write_high_bytes=32 * 1024,
    write_low_bytes=4 * 1024,
    ping_interval_s=20.0,
)


class Knows(Protocol):
    """Who knows how trainings stand."""

    async def of(self, job_id: str) -> Following:
        """Return how a job stands.

        Raises:
            UnknownTrainingError: Nobody knows it.
        """
        ...


class LiveFeeds:
    """The feeds of all trainings that somebody looks at.

    Args:
        follower: Knows how they stand.
    """

    def __init__(self, follower: Knows) -> None:
        self._follower = follower
        self._feeds: dict[str, _Feed] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def viewer(self, job_id: str, *, shows_output: bool = False) -> "Viewer":
        """Who listens to a new connection, and whether it is told the text of a failure."""
        return Viewer(self, job_id, shows_output=shows_output)

    def begin(self, viewer: "Viewer") -> None:
        """A viewer's connection is open."""
        task = asyncio.create_task(self._join(viewer))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def leave(self, viewer: "Viewer") -> None:
        """It is gone."""
        feed = self._feeds.get(viewer.job_id)
        if feed is not None and feed.leave(viewer):
            del self._feeds[viewer.job_id]

    def close(self) -> None:
        """The coordinator stops: let everybody go."""
        for task in self._opening:
            task.cancel()
        for feed in tuple(self._feeds.values()):
            feed.close()

    async def _join(self, viewer: "Viewer") -> None:
        try:
            following = await self._follower.of(viewer.job_id)
        except UnknownTrainingError as error:
            viewer.end(b"", INTERNAL, str(error))
            return
        except StoreError as error:
            fields = {"job_id": viewer.job_id, "why": str(error)}
            logger.warning("a viewer of a training is let go", extra=fields)
            viewer.end(b"", TRY_LATER, "its records cannot be read; see the coordinator's log")
            return
        if viewer.is_open:
            feed = self._feeds.setdefault(viewer.job_id, _Feed(following))
            feed.join(viewer)


class _Feed:
    """One job, for all who look at it."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._viewers: dict[Viewer, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told_news_at = 0.0
        self._news: asyncio.TimerHandle | None = None

    def join(self, viewer: "Viewer") -> None:
        """Greet a viewer and tell it how the job stands."""
        following, now = self._following, time.time()
        viewer.give(views.greeting(following.job_id, following.standing(), now))
        self._viewers[viewer] = None
        if following.status in TERMINAL:
            self._finish()
            return
        viewer.give(self._progress())
        if len(self._viewers) == 1:
            following.listeners[id(self)] = self._on_news
            self._tick_later()

    def leave(self, viewer: "Viewer") -> bool:
        """Forget a viewer; returns whether it was the last."""
        self._viewers.pop(viewer, None)
        if self._viewers:
            return False
        self._stop()
        return True

    def close(self) -> None:
        """Let everybody go."""
        for viewer in tuple(self._viewers):
            viewer.end(b"", TRY_LATER, "the coordinator stops; it keeps all jobs")
        self._stop()

    def _stop(self) -> None:
        self._following.listeners.pop(id(self), None)
        for timer in (self._timer, self._news):
            if timer is not None:
                timer.cancel()
        self._timer = self._news = None

    def _on_news(self, is_move: bool) -> None:
        if not is_move:
            # All that comes in one batch is one message, and a busy job makes one a second.
            if self._news is None:
                loop = asyncio.get_running_loop()
                due = max(0.0, self._told_news_at + INTERVAL_S - loop.time())
                self._news = loop.call_later(due, self._tell_news)
        elif self._following.status in TERMINAL:
            self._finish()
        else:
            self._tell()

    def _tell_news(self) -> None:
        self._news = None
        self._told_news_at = asyncio.get_running_loop().time()
        self._tell()

    def _tick(self) -> None:
        if self._following.status == "paused":
            for viewer in tuple(self._viewers):
                viewer.check()
            self._tick_later()
        else:
            self._tell()

    def _tell(self) -> None:
        message = self._progress()
        for viewer in tuple(self._viewers):
            viewer.give(message)
        self._tick_later()

    def _tick_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._tick)

    def _finish(self) -> None:
        following, now = self._following, time.time()
        last = {
            shows_output: views.completion_message(
                following.job_id,
                following.fold,
                views.seen(following.standing(), shows_output=shows_output),
                now,
            )
            for shows_output in (True, False)
        }
        for viewer in tuple(self._viewers):
            viewer.end(last[viewer.shows_output], DONE, "the training has ended")
        self._stop()

    def _progress(self) -> bytes:
        following = self._following
        return views.progress_message(
            following.job_id, following.fold, following.standing(), following.request, time.time()
        )


class Viewer:
    """One connection; what its peer says is ignored."""

    def __init__(self, feeds: LiveFeeds, job_id: str, *, shows_output: bool = False) -> None:
        self._feeds, self.job_id, self.shows_output = feeds, job_id, shows_output
        self._connection: Connection | None = None
        self._newest: bytes | None = None
        """What it gets when its socket has room."""
        self._ending: tuple[int, str] | None = None
        self._stuck_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is still there."""
        return self._connection is not None

    def give(self, message: bytes) -> None:
        """Send a message, or keep it, instead of an older one, until there is room."""
        self._newest = message
        self._send()
        self.check()

    def end(self, message: bytes, code: int, reason: str) -> None:
        """Send the last message, if there is one, and let it go."""
        self._newest, self._ending = message or None, (code, reason)
        self._send()

    def check(self) -> None:
        """Let it go if it took nothing for long."""
        if self._stuck_at is not None and time.monotonic() - self._stuck_at > STUCK_S:
            assert self._connection is not None, "only a connection can be stuck"
            self._connection.close(TRY_LATER, "it reads too slowly; come again")

    def _send(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if not connection.is_writable:
            self._stuck_at = self._stuck_at or time.monotonic()
            return
        self._stuck_at = None
        if self._newest is not None:
            connection.send_text(self._newest)
            self._newest = None
        if self._ending is not None:
            connection.close(*self._ending)

    # --- for the connection (Listener) ---

    def on_open(self, connection: Connection) -> None:
        """The handshake is done."""
        self._connection = connection
        self._feeds.begin(self)

    def on_text(self, connection: Connection, data: bytes) -> None:
        """Ignore it."""

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """Ignore it."""

    def on_writable(self, connection: Connection) -> None:
        """There is room again."""
        del connection
        self._send()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """The connection is gone."""
        del connection, code, reason
        self._connection = None
        self._feeds.leave(self)
