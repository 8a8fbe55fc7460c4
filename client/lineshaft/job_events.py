"""What a job tells while it runs, as its user sees it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias, cast

from lineshaft.endings import Ending
from lineshaft.errors import LineshaftError
from lineshaft_protocol.client_messages import JobStateName, StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.values import value

BUFFERED_MAX = 10_000
"""Events kept for a slow reader; what follows is asked for again when it catches up."""
BUFFERED_CHARACTERS_MAX = 1024 * 1024
"""Likewise, of the texts of these events."""


@value()
class Told:
    """Where in a job's history an event stands."""

    attempt: int
    seq: int
    at: float
    """Seconds since 1970, on the clock of the machine that saw it."""


@value()
class Progress:
    """How far the job is."""

    told: Told
    step: float
    total: float | None
    phase: str


@value()
class Metrics:
    """Numbers that the job recorded."""

    told: Told
    metrics: Mapping[str, float]
    step: int | None


@value()
class Log:
    """Output of the job; it may end within a line."""

    told: Told
    stream: str
    """"stdout" or "stderr"."""
    text: str


@value()
class Kept:
    """A checkpoint or artifact that the job kept."""

    told: Told
    kind: str
    """"checkpoint" or "artifact"."""
    body: Mapping[str, object]


@value()
class Notice:
    """Something that Lineshaft itself has to say, or an event this version does not know."""

    told: Told
    kind: str
    body: Mapping[str, object]


@value()
class State:
    """Where the job is now; not kept, so what was missed is not repeated."""

    state: JobStateName
    attempt: int
    worker_id: str | None
    reason: str | None


@value()
class Finished:
    """The last event: how the job ended."""

    outcome: Outcome

    @property
    def status(self) -> str:
        """How, in a word."""
        return self.outcome.status


Event: TypeAlias = Progress | Metrics | Log | Kept | Notice | State | Finished

Pages = Callable[[tuple[int, int]], Awaitable[list[JobEvent]]]
"""Asks for the events after (attempt, seq); an empty page says that there are no more."""


class EventFeed:
    """The events of one job for one reader, each once and in order.

    Args:
        pages: Asks for what is not told by itself.
        is_behind: Whether there are events that will not be told by themselves.
        after: Only what stands behind this (attempt, seq).
    """

    def __init__(self, pages: Pages, *, is_behind: bool, after: tuple[int, int] = (0, 0)) -> None:
        self._pages, self._is_behind = pages, is_behind
        self._buffer: deque[JobEvent | StateChanged] = deque()
        self._buffered_characters = 0
        self._last, self._left_out = after, (0, 0)
        self._must_ask = False
        """Whether there may be more than the question that is under way will bring."""
        self._ending: Ending | None = None
        self._news = asyncio.Event()

    def spoke(self, events: tuple[JobEvent, ...], *, is_behind: bool = False) -> None:
        """The job told something.

        Args:
            events: What is new.
            is_behind: Whether it told more than that, which will not come by itself.
        """
        size = sum(map(_characters, events))
        is_full = self._buffered_characters + size > BUFFERED_CHARACTERS_MAX
        # One message alone is let in, however long it is.
        if (is_full and self._buffer) or len(self._buffer) + len(events) > BUFFERED_MAX:
            self._is_behind = True
        if self._is_behind and events:
            self._left_out = max(self._left_out, (events[-1].attempt, events[-1].seq))
        else:
            self._buffer.extend(events)
            self._buffered_characters += size
        if is_behind:
            self._is_behind = self._must_ask = True
        self._news.set()

    def moved(self, change: StateChanged) -> None:
        """The job is somewhere else."""
        if not self._is_behind:
            self._buffer.append(change)
            self._news.set()

    def end(self, ending: Ending) -> None:
        """Nothing follows."""
        self._ending = ending
        self._news.set()

    async def read(self) -> AsyncIterator[Event]:
        """Yield what there is and what comes, and at last how the job ended.

        Raises:
            LineshaftError: Nobody knows the job, or the client was closed.
        """
        while True:
            while self._buffer:
                event = self._seen(self._buffer.popleft())
                if event is not None:
                    yield event
            self._buffered_characters = 0
            if self._is_behind:
                await self._catch_up()
            elif self._ending is not None:
                break
            else:
                self._news.clear()
                await self._news.wait()
        if isinstance(self._ending, LineshaftError):
            raise self._ending
        yield Finished(self._ending)

    async def _catch_up(self) -> None:
        self._must_ask = False
        page = await self._pages(self._last)
        self._buffer.extend(page)
        # What is told during the last question is in no page and not in the buffer either.
        self._is_behind = bool(page) or self._must_ask or self._left_out > self._last
        if not page:
            self._left_out = (0, 0)

    def _seen(self, item: JobEvent | StateChanged) -> Event | None:
        if isinstance(item, StateChanged):
            return State(item.state, item.attempt, item.worker_id, item.reason)
        if (item.attempt, item.seq) <= self._last:
            return None
        self._last = (item.attempt, item.seq)
        return typed(item)


def _characters(event: JobEvent) -> int:
    text = event.body.get("text")
    return len(text) if isinstance(text, str) else 0


def typed(event: JobEvent) -> Event:
    """Return what an event says as an object of its kind."""
    told = Told(event.attempt, event.seq, event.at)
    match event.kind, event.body:
        case "progress", {"step": int() | float() as step, **rest}:
            total, phase = rest.get("total"), rest.get("phase")
            return Progress(
                told,
                step,
                total if isinstance(total, int | float) else None,
                phase if isinstance(phase, str) else "",
            )
        case "metrics", {"metrics": dict(metrics), **rest}:
            numbers = {key: each for key, each in metrics.items() if isinstance(each, int | float)}
            at_step = rest.get("step")
            return Metrics(told, numbers, at_step if isinstance(at_step, int) else None)
        case "log", {"text": str(text), **rest}:
            stream = rest.get("stream")
            return Log(told, stream if isinstance(stream, str) else "stdout", text)
        case ("checkpoint" | "artifact") as kind, body:
            return Kept(told, kind, cast("dict[str, object]", body))
        case kind, body:
            return Notice(told, kind, cast("dict[str, object]", body))
