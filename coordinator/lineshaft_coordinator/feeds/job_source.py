"""News of Lineshaft's own jobs: from the core while they live, from the store what was before."""

import asyncio
from collections.abc import Callable, Sequence

from lineshaft_coordinator.feeds.hub import Ear
from lineshaft_coordinator.feeds.told import Ended, Place
from lineshaft_coordinator.journal import read_event
from lineshaft_coordinator.server.core_session import CoreSession
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_coordinator.store.errors import StoreError
from lineshaft_coordinator.store.interface import Store
from lineshaft_protocol.client_messages import (
    Events,
    Finished,
    Refused,
    StateChanged,
    Watch,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import is_name
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import NUMBER_MAX, Wire

CLIENT_ID = "feeds"
PAGE_EVENTS = 500
PAGE_BYTES = 256 * 1024
TAIL_PAGES_MAX = 8
"""So many pages are searched backwards for metrics and progress, and no more."""


class JobSource:
    """Reads from the core's sessions and from the store."""

    def __init__(self, sessions: Sessions, store: Store) -> None:
        self._sessions, self._store = sessions, store

    def watch(self, job_id: str, ear: Ear) -> Callable[[], None]:
        """Tell the ear of a job from now on."""
        if not is_name(job_id):
            asyncio.get_running_loop().call_soon(ear.on_unknown)
            return lambda: None
        return _JobWatch(self._sessions, self._store, job_id, ear).close

    async def tail(self, job_id: str) -> Sequence[JobEvent]:
        """Read backwards until there are metrics and progress, or it was enough."""
        before: Place = (NUMBER_MAX, 0)
        found: list[JobEvent] = []
        missing = {"metrics", "progress"}
        for _ in range(TAIL_PAGES_MAX):
            rows = await self._store.last_events_of(
                job_id, before=before, limit=PAGE_EVENTS, bytes_max=PAGE_BYTES
            )
            events = [*map(read_event, rows)]
            found += events
            missing -= {event.kind for event in events}
            if not rows or not missing:
                break
            before = rows[-1].attempt, rows[-1].seq
        return found[::-1]

    async def page(self, job_id: str, after: Place) -> Sequence[JobEvent]:
        """Read what stands behind a place, in order."""
        rows = await self._store.events_of(
            job_id, after=after, limit=PAGE_EVENTS, bytes_max=PAGE_BYTES
        )
        return [*map(read_event, rows)]


class _JobWatch:
    """A client session of the core that watches one job.

    Each has a session of its own: on a shared one, what is still on its way from an earlier watch
    of the same job could be taken for the answer to a later one, and what is in between be missed.
    """

    def __init__(self, sessions: Sessions, store: Store, job_id: str, ear: Ear) -> None:
        self._store, self._ear = store, ear
        self._ending: asyncio.Task[None] | None = None
        self._session = CoreSession(sessions, CLIENT_ID, self._hear, self._lose)
        # Nothing is to be replayed: each viewer wants something else of it.
        watch = Watch(job_id=job_id, events=True, after_attempt=NUMBER_MAX, after_seq=NUMBER_MAX)
        self._session.say(watch)

    def close(self) -> None:
        """Hear nothing more."""
        if self._ending is not None and self._ending is not asyncio.current_task():
            self._ending.cancel()
        self._session.close()

    def _hear(self, message: Wire) -> None:
        match message:
            case Events(events=events):
                self._ear.on_events(events)
            case StateChanged():
                self._ear.on_state(message)
            case Finished(outcome=outcome):
                # It is the last that is told, so it may take the time to be complete.
                self._ending = asyncio.create_task(self._end(outcome))
            case Refused():
                self._ear.on_unknown()
            case _:
                pass  # Pong.

    def _lose(self, reason: str) -> None:
        self._ear.on_lost(reason)

    async def _end(self, outcome: Outcome) -> None:
        try:
            row = await self._store.row_of(outcome.job_id)
        except StoreError as error:
            self._ear.on_lost(f"the end cannot be read: {error}")
            return
        self._ear.on_ended(Ended(outcome, row.finished_at if row is not None else None))
