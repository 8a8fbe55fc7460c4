"""Gives news of jobs to who looks at them.

A channel is one job that somebody looks at; without viewers there is none, and news costs nothing.
It is *opening* until its source has said where the job is and the end of its history is read, then
*open*, and *over* once the job's end was told or the source knows no such job.

A viewer gets a snapshot, then what stands behind it. Whether an event is in the snapshot, in the
pages of a viewer who wants to see what was before, or told live is decided by its place alone, so
nothing is missed and nothing is told twice: an event is in the history before it is told.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lineshaft_coordinator.feeds.told import BEGINNING, Ended, Latest, News, Place, Told, place_of
from lineshaft_coordinator.feeds.viewer_queue import Drops
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent

logger = logging.getLogger(__name__)


class Viewer(Protocol):
    """Somebody who looks at one job. No method may block or raise."""

    def begin(self, latest: Latest, behind: Place) -> None:
        """Hear where the job is; called once, first.

        Args:
            latest: Changes later; must not be changed or kept.
            behind: What is told from now on stands behind this place.
        """
        ...

    def hear(self, told: Told) -> None:
        """Hear news; an Ended is the last."""
        ...

    def unknown(self) -> None:
        """Nobody knows the job; nothing follows."""
        ...

    def lost(self, reason: str) -> None:
        """Nothing more will be told, although the job goes on; coming again helps."""
        ...

    async def has_room(self) -> None:
        """Wait until history may be told; never returns for a viewer who is gone."""
        ...


class Ear(Protocol):
    """Who hears of one job from a source: its channel."""

    def on_events(self, events: Sequence[JobEvent]) -> None:
        """It told something, in order, and it is kept."""
        ...

    def on_state(self, state: StateChanged) -> None:
        """It is somewhere else; the first one says that from now on all events are told."""
        ...

    def on_ended(self, ended: Ended) -> None:
        """It ended, now or long ago."""
        ...

    def on_unknown(self) -> None:
        """Nobody knows it."""
        ...

    def on_lost(self, reason: str) -> None:
        """The source can tell nothing more."""
        ...


class Source(Protocol):
    """Where news of jobs comes from."""

    def watch(self, job_id: str, ear: Ear) -> Callable[[], None]:
        """Tell the ear of a job, some time soon and until the returned function is called."""
        ...

    async def tail(self, job_id: str) -> Sequence[JobEvent]:
        """Read the end of its history, enough for a snapshot."""
        ...

    async def page(self, job_id: str, after: Place) -> Sequence[JobEvent]:
        """Read what stands behind a place, in order; empty: nothing does."""
        ...


@dataclass(slots=True)
class _Seat:
    """One viewer of a channel."""

    since: Place | None
    """Where it wants its news to begin; None: behind the snapshot."""
    is_early: bool
    """Whether it came before the channel was open: what was published since is news to it."""
    told: Place = BEGINNING
    """What stands up to here it has read, though it may not have been published yet."""
    state: StateChanged | None = None
    """What its snapshot said."""
    is_live: bool = False
    reading: asyncio.Task[None] | None = None


class Hub:
    """All viewers of all jobs of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._channels: dict[str, _Channel] = {}
        self.drops = Drops()
        """What its viewers have missed."""

    def subscribe(self, job_id: str, viewer: Viewer, *, since: Place | None = None) -> None:
        """Tell a viewer of a job from now on.

        Args:
            job_id: The job; the viewer hears if there is none.
            viewer: Hears its snapshot soon, but not in this call.
            since: Also what stands behind this place in the history; None: only what is new.
        """
        channel = self._channels.get(job_id)
        if channel is None:
            channel = self._channels[job_id] = _Channel(job_id, self._source, self._is_over)
            channel.open()
        channel.join(viewer, since)

    def unsubscribe(self, job_id: str, viewer: Viewer) -> None:
        """Tell it nothing more; harmless if nothing was told any more."""
        channel = self._channels.get(job_id)
        if channel is not None and channel.leave(viewer) == 0:
            del self._channels[job_id]
            channel.close()

    def publish(self, job_id: str, news: Sequence[News]) -> None:
        """Tell who looks at the job; what is told is kept already. Costs a look if nobody does."""
        channel = self._channels.get(job_id)
        if channel is not None:
            channel.publish(news)

    def forget(self, job_id: str) -> None:
        """Tell who looks at the job that there is no such one any more."""
        channel = self._channels.get(job_id)
        if channel is not None:
            channel.on_unknown()

    def viewer_count(self, job_id: str) -> int:
        """How many look at a job."""
        channel = self._channels.get(job_id)
        return 0 if channel is None else len(channel.seats)

    def close(self, reason: str) -> None:
        """Let all viewers go."""
        for channel in tuple(self._channels.values()):
            channel.on_lost(reason)

    def _is_over(self, channel: "_Channel") -> None:
        if self._channels.get(channel.job_id) is channel:
            del self._channels[channel.job_id]


class _Channel:
    """One job that somebody looks at."""

    def __init__(self, job_id: str, source: Source, is_over: Callable[["_Channel"], None]) -> None:
        self.job_id, self._source, self._is_over = job_id, source, is_over
        self.seats: dict[Viewer, _Seat] = {}
        self._latest = Latest(job_id)
        self._is_open = False
        self._first: Place | None = None
        """Of the first event that was published while it opened."""
        self._opening: asyncio.Task[None] | None = None
        self._stop: Callable[[], None] | None = None
        self._is_closed = False

    def open(self) -> None:
        """Begin to hear of the job."""
        self._stop = self._source.watch(self.job_id, self)

    def close(self) -> None:
        """Hear nothing more."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        for seat in self.seats.values():
            if seat.reading is not None:
                seat.reading.cancel()
        self.seats.clear()
        if self._stop is not None:
            self._stop()

    # --- viewers ---

    def join(self, viewer: Viewer, since: Place | None) -> None:
        """Take a viewer in."""
        assert viewer not in self.seats, "a viewer looks at a job once"
        self.seats[viewer] = _Seat(since, is_early=not self._is_open)
        if self._is_open:
            asyncio.get_running_loop().call_soon(self._seat, viewer)

    def leave(self, viewer: Viewer) -> int:
        """Let a viewer go; returns how many stay."""
        seat = self.seats.pop(viewer, None)
        if seat is not None and seat.reading is not None:
            seat.reading.cancel()
        return len(self.seats)

    def _seat(self, viewer: Viewer) -> None:
        seat = self.seats.get(viewer)
        if seat is None or seat.is_live or seat.reading is not None:
            return
        latest = self._latest
        behind = min(self._beginning(seat), latest.place)
        seat.state = latest.state
        self._tell(viewer, partial(viewer.begin, latest, behind))
        if behind == latest.place:
            self._go_live(viewer, seat)
        else:
            seat.reading = asyncio.create_task(self._catch_up(viewer, seat, behind))

    def _beginning(self, seat: _Seat) -> Place:
        """Behind which place its news begins."""
        if seat.since is not None:
            return seat.since
        if seat.is_early and self._first is not None:
            return self._first[0], self._first[1] - 1
        return self._latest.place

    def _go_live(self, viewer: Viewer, seat: _Seat) -> None:
        seat.is_live = True
        latest = self._latest
        if latest.ended is not None:
            told = Told(latest.ended)
            self._tell(viewer, partial(viewer.hear, told))
            self._end_if_told()
        elif latest.state is not None and latest.state != seat.state:
            told = Told(latest.state)
            self._tell(viewer, partial(viewer.hear, told))

    def _tell(self, viewer: Viewer, tell: Callable[[], None]) -> None:
        """Tell one viewer; a bug in how it is told must not harm others, or who publishes."""
        try:
            tell()
        except Exception:
            logger.exception("a viewer cannot be told", extra={"job_id": self.job_id})
            self.leave(viewer)
            viewer.lost("an error inside the coordinator")

    async def _catch_up(self, viewer: Viewer, seat: _Seat, place: Place) -> None:
        """Tell what is kept, at the viewer's pace, until it has all that was told to others."""
        try:
            while place < self._latest.place:
                page = await self._source.page(self.job_id, place)
                if not page:
                    break  # Pruned meanwhile, or told by an attempt whose events are gone.
                for event in page:
                    await viewer.has_room()
                    viewer.hear(Told(event))
                place = seat.told = place_of(page[-1])
        except Exception:
            logger.exception("history cannot be told", extra={"job_id": self.job_id})
            self.leave(viewer)
            viewer.lost("the history cannot be read")
            return
        # No news can come in between: this runs in one turn of the loop.
        seat.reading = None
        self._go_live(viewer, seat)

    # --- the source ---

    def on_events(self, events: Sequence[JobEvent]) -> None:
        """It told something."""
        self.publish(events)

    def on_state(self, state: StateChanged) -> None:
        """It is somewhere else."""
        self.publish((state,))
        self._begin()

    def on_ended(self, ended: Ended) -> None:
        """It ended."""
        self.publish((ended,))
        self._begin()

    def on_unknown(self) -> None:
        """Nobody knows it."""
        viewers = tuple(self.seats)
        self._finish()
        for viewer in viewers:
            viewer.unknown()

    def on_lost(self, reason: str) -> None:
        """The source can tell nothing more."""
        viewers = tuple(self.seats)
        self._finish()
        for viewer in viewers:
            viewer.lost(reason)

    def publish(self, news: Sequence[News]) -> None:
        """Tell news to all who are up to date; the others read it."""
        if self._is_closed:
            return
        for each in news:
            is_old = isinstance(each, JobEvent) and place_of(each) <= self._latest.place
            if is_old and self._is_open:
                continue
            if not self._is_open and self._first is None and isinstance(each, JobEvent):
                self._first = place_of(each)
            self._latest.fold(each)
            told = Told(each)
            for viewer, seat in tuple(self.seats.items()):
                is_read = isinstance(each, JobEvent) and place_of(each) <= seat.told
                if seat.is_live and not is_read:
                    self._tell(viewer, partial(viewer.hear, told))
        self._end_if_told()

    def _begin(self) -> None:
        """Read the end of the history once."""
        if self._opening is None and not self._is_open and not self._is_closed:
            self._opening = asyncio.create_task(self._read_tail())

    async def _read_tail(self) -> None:
        try:
            tail = await self._source.tail(self.job_id)
        except Exception:
            logger.exception("a feed cannot begin", extra={"job_id": self.job_id})
            self.on_lost("the history cannot be read")
            return
        self._latest.fold_all(tail)
        self._is_open, self._opening = True, None
        for viewer in tuple(self.seats):
            self._seat(viewer)

    def _end_if_told(self) -> None:
        """Forget the channel once everybody has heard the end."""
        if self._latest.ended is not None and self._is_open:
            for viewer, seat in tuple(self.seats.items()):
                if seat.is_live:
                    del self.seats[viewer]
            if not self.seats:
                self._finish()

    def _finish(self) -> None:
        self._is_over(self)
        self.close()
