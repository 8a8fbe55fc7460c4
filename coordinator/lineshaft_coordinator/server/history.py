"""What jobs said, as the store keeps it: in pages of bounded size, however much it is."""

import asyncio
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from lineshaft_coordinator.core.io import Append, AppendEvents, Effect
from lineshaft_coordinator.core.records import JobFinished
from lineshaft_coordinator.journal import read_event, read_event_plainly
from lineshaft_coordinator.store.interface import EventRow, Store
from lineshaft_protocol.client_messages import Events
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.wire import NUMBER_MAX, Wire

PAGE_BYTES = 512 * 1024
"""A page ends with the event that makes it this long; one event has less than 2 MiB."""
PAGE_EVENTS = 1000
REPLAY_EVENTS_MAX = 20_000
REPLAY_BYTES = 1024 * 1024
"""More is not told to a viewer who comes late: it is told that it has to ask."""
TOLD_AT_ONCE = 100

Place = tuple[int, int]
"""Behind this (attempt, seq)."""
Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsAsked:
    """Which output of a job."""

    attempt: int | None = None
    """Only this attempt's; ``None``: of all, one after the other."""
    stream: Stream | None = None
    after: Place = (0, 0)
    tail: int | None = None
    """Begin so many lines before the end of what there is, instead of behind ``after``."""
    limit_bytes: int = PAGE_BYTES


class History:
    """Reads the events of jobs, and lets readers wait for more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[JobId, list[asyncio.Event]] = {}

    async def replay(self, job_id: JobId, after: Place) -> list[Wire]:
        """Return what a viewer has missed; or the beginning, and that there is more to ask for."""
        rows = await self._store.events_of(
            job_id, after=after, limit=REPLAY_EVENTS_MAX, bytes_max=REPLAY_BYTES
        )
        events = tuple(map(read_event, rows))
        told: list[Wire] = [
            Events(events=events[start : start + TOLD_AT_ONCE])
            for start in range(0, len(events), TOLD_AT_ONCE)
        ]
        if len(rows) == REPLAY_EVENTS_MAX or sum(len(row.body) for row in rows) >= REPLAY_BYTES:
            told.append(Events(events=(), left_out=job_id))
        return told

    async def events(self, job_id: JobId, after: Place, limit: int) -> list[JsonValue]:
        """Return the next page; it is empty only if there are no more."""
        rows = await self._store.events_of(job_id, after=after, limit=limit, bytes_max=PAGE_BYTES)
        return [read_event_plainly(row) for row in rows]

    async def logs(self, job_id: JobId, asked: LogsAsked) -> dict[str, JsonValue]:
        """Return a page of output, where the next begins, and whether there is one now."""
        if asked.tail is not None:
            return await self._tail(job_id, asked, asked.tail)
        after = asked.after
        if asked.attempt is not None:
            after = max(after, (asked.attempt, 0))
        rows = await self._store.events_of(
            job_id, after=after, limit=PAGE_EVENTS, bytes_max=asked.limit_bytes
        )
        size = sum(len(row.body) for row in rows)
        has_more = len(rows) == PAGE_EVENTS or size >= asked.limit_bytes
        if asked.attempt is not None and rows and rows[-1].attempt > asked.attempt:
            rows, has_more = [row for row in rows if row.attempt == asked.attempt], False
        pieces = _pieces(rows, asked.stream)
        return _page(pieces, _place(rows[-1]) if rows else after, has_more=has_more)

    @contextmanager
    def news(self, job_id: JobId) -> Generator[asyncio.Event]:
        """Give an event that is set whenever the job has said something, or has ended."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, []).append(event)
        try:
            yield event
        finally:
            self._waiting[job_id].remove(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def kept(self, effects: Sequence[Effect]) -> None:
        """Wake those who wait for what was just committed."""
        if not self._waiting:
            return
        for effect in effects:
            job_id = _job_of(effect)
            for event in self._waiting.get(job_id, ()) if job_id is not None else ():
                event.set()

    async def _tail(self, job_id: JobId, asked: LogsAsked, line_count: int) -> dict[str, JsonValue]:
        """Read backwards until there are enough lines, or a page is full."""
        before = (NUMBER_MAX, 0) if asked.attempt is None else (asked.attempt + 1, 0)
        found: list[EventRow] = []
        end: Place | None = None
        ends_left = line_count + 1
        size = 0
        while size < PAGE_BYTES and ends_left > 0:
            rows = await self._store.last_events_of(
                job_id, before=before, limit=PAGE_EVENTS, bytes_max=PAGE_BYTES - size
            )
            rows = [row for row in rows if asked.attempt in (None, row.attempt)]
            if not rows:
                break
            before = _place(rows[-1])
            end = end or _place(rows[0])
            for row in rows:
                text = "".join(str(each["text"]) for each in _pieces([row], asked.stream))
                if text and ends_left > 0:
                    found.append(row)
                    size += len(row.body)
                    # The last line of all may have no end.
                    ends_left -= text.count("\n") + (len(found) == 1 and not text.endswith("\n"))
        pieces = _pieces(found[::-1], asked.stream)
        _cut(pieces, line_count)
        start = asked.after if asked.attempt is None else (asked.attempt, 0)
        return _page(pieces, end or start, has_more=False)


def _cut(pieces: list[dict[str, JsonValue]], line_count: int) -> None:
    """Leave the last lines only."""
    ends = sum(str(piece["text"]).count("\n") for piece in pieces)
    if pieces and not str(pieces[-1]["text"]).endswith("\n"):
        ends += 1
    for piece in pieces:
        text = str(piece["text"])
        while ends > line_count and "\n" in text:
            text = text[text.index("\n") + 1 :]
            ends -= 1
        piece["text"] = text if ends <= line_count else ""
        if ends <= line_count:
            break
    pieces[:] = [piece for piece in pieces if piece["text"]]


def _pieces(rows: Sequence[EventRow], stream: Stream | None) -> list[dict[str, JsonValue]]:
    pieces: list[dict[str, JsonValue]] = []
    for row in rows:
        match json.loads(row.body):
            case {"kind": "log", "body": {"stream": str(name), "text": str(text)}}:
                if stream in (None, name):
                    piece: dict[str, JsonValue] = {"attempt": row.attempt, "seq": row.seq}
                    pieces.append(piece | {"at": row.at, "stream": name, "text": text})
            case _:
                pass  # It told something else.
    return pieces


def _page(
    pieces: list[dict[str, JsonValue]], place: Place, *, has_more: bool
) -> dict[str, JsonValue]:
    return {
        "pieces": [*pieces],
        "after_attempt": place[0],
        "after_seq": place[1],
        "has_more": has_more,
    }


def _place(row: EventRow) -> Place:
    return row.attempt, row.seq


def _job_of(effect: Effect) -> JobId | None:
    match effect:
        case AppendEvents(events=events):
            return JobId(events[0].job_id)
        case Append(record=JobFinished(outcome=outcome)):
            return JobId(outcome.job_id)
        case _:
            return None
