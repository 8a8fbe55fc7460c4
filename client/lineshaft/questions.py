"""Questions to the coordinator that wait for their answers."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import field
from typing import Literal

from pydantic import JsonValue, ValidationError

from lineshaft.core.io import Answered, RequestAsked
from lineshaft.endings import refusal
from lineshaft.errors import ClientClosedError, CoordinatorTooOldError, QueryError
from lineshaft.job_events import Event, Finished, Log, State, Told
from lineshaft.job_statuses import STATUSES
from lineshaft.locating import named
from lineshaft_protocol.client_messages import (
    Drain,
    Heal,
    KeepSecret,
    Pause,
    Query,
    Resume,
    Retry,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.values import value

PAGE_EVENTS = 1000
TAIL_MAX = 10_000


def jobs_query(status: str | None, limit: int, owner: str | None) -> Query:
    """Return the question for the last jobs.

    Raises:
        BadNameError: No token has such an id.
        ValueError: There is no such status, or the limit is not from 1 to 1000.
    """
    if status not in (None, *STATUSES):
        raise ValueError(f"no status {status!r}; there are: {', '.join(STATUSES)}")
    owner = named("a token", owner) if owner is not None else None
    try:
        return Query(request_id=0, what="jobs", status=status, limit=limit, owner=owner)
    except ValidationError:
        raise ValueError(f"limit must be from 1 to 1000, not {limit!r}") from None


@value(kw_only=True)
class LogsWanted:
    """Which output of a job is meant.

    Raises:
        ValueError: There can be no such output.
    """

    attempt: int | None = None
    """Only that of this attempt, from 1; ``None``: of all, one after the other."""
    stream: Literal["stdout", "stderr"] | None = None
    """Only this one; ``None``: both, in the order in which they were read."""
    tail: int | None = None
    """At most so many lines of what there is already, 1 to 10,000; ``None``: all."""

    def __post_init__(self) -> None:
        if self.attempt is not None and self.attempt < 1:
            raise ValueError(f"attempt must be 1 or more, not {self.attempt}")
        if self.stream not in (None, "stdout", "stderr"):
            raise ValueError(f"stream must be 'stdout' or 'stderr', not {self.stream!r}")
        if self.tail is not None and not 1 <= self.tail <= TAIL_MAX:
            raise ValueError(f"tail must be from 1 to {TAIL_MAX}, not {self.tail}")

    def has(self, log: Log) -> bool:
        """Say whether a piece of output is meant."""
        return self.attempt in (None, log.told.attempt) and self.stream in (None, log.stream)

    def is_over(self, event: Event) -> bool:
        """Say whether nothing that is meant can follow an event."""
        match event:
            case State(attempt=attempt):
                at = attempt
            case Finished():
                return True
            case _:
                at = event.told.attempt
        return self.attempt is not None and at > self.attempt


@value()
class LogPage:
    """A part of what a job printed."""

    pieces: list[Log]
    place: tuple[int, int]
    """What follows stands behind this (attempt, seq)."""
    has_more: bool = field(kw_only=True)
    """Whether there is more by now."""


class Questions:
    """Numbers questions, and brings each answer to who asked.

    Args:
        post: Gives the core an event.
    """

    def __init__(self, post: Callable[[RequestAsked], None]) -> None:
        self._post = post
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answered | None]] = {}
        self._is_closed = False

    async def ask(
        self, query: Query | Drain | Heal | KeepSecret | Pause | Resume | Retry
    ) -> JsonValue:
        """Return the answer to a question; its request id is set here.

        Raises:
            QueryError: The coordinator cannot answer it.
            JobError: It does not do a job again.
            CoordinatorTooOldError: It is of a version that does not know such questions.
            ClientClosedError: The client is closed.
        """
        if self._is_closed:
            raise ClientClosedError
        number = next(self._numbers)
        future: asyncio.Future[Answered | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._post(RequestAsked(number, query.model_copy(update={"request_id": number})))
        try:
            answer = await future
        finally:
            del self._waiting[number]
        if answer is None:
            raise ClientClosedError
        if answer.lacks is not None:
            raise CoordinatorTooOldError(answer.lacks)
        if answer.error is not None:
            if isinstance(query, Retry) and isinstance(answer.data, dict):
                raise refusal(query.job_id, str(answer.data.get("code")), answer.error)
            what = query.what if isinstance(query, Query) else query.type
            raise QueryError(what, answer.error)
        return answer.data

    async def ask_jobs(self, status: str | None, limit: int, owner: str | None) -> JsonValue:
        """Return the last jobs.

        Raises:
            ValueError: There is no such status, or the limit is not from 1 to 1000.
            BadNameError: No token has such an id.
            CoordinatorTooOldError: It does not know owners.
        """
        found = await self.ask(jobs_query(status, limit, owner))
        told = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        # An older one leaves out of a question what it does not know, and tells of all jobs.
        if owner is not None and any("owner" not in job for job in told):
            raise CoordinatorTooOldError("owner")
        return found

    async def page(self, job_id: JobId, after: tuple[int, int]) -> list[JobEvent]:
        """Return the next events of a job after (attempt, seq); none when there are no more.

        Raises:
            QueryError: The coordinator cannot tell.
            ClientClosedError: The client is closed.
        """
        attempt, seq = after
        query = Query(
            request_id=0,
            what="events",
            job_id=job_id,
            after_attempt=attempt,
            after_seq=seq,
            limit=PAGE_EVENTS,
        )
        data = await self.ask(query)
        return [JobEvent.model_validate(item) for item in data] if isinstance(data, list) else []

    async def logs(self, query: Query) -> LogPage:
        """Return a page of what a job printed.

        Raises:
            QueryError: The coordinator does not know the job.
            ClientClosedError: The client is closed.
        """
        match await self.ask(query):
            case {
                "pieces": list(pieces),
                "after_attempt": int(attempt),
                "after_seq": int(seq),
                "has_more": bool(has_more),
            }:
                found = [_log(piece) for piece in pieces]
                return LogPage([log for log in found if log], (attempt, seq), has_more=has_more)
            case _:
                raise QueryError(query.what, "the answer is none; is the coordinator older?")

    def answered(self, answer: Answered) -> None:
        """An answer came."""
        future = self._waiting.get(answer.request_id)
        if future is not None and not future.done():
            future.set_result(answer)

    def close(self) -> None:
        """No answers will come."""
        self._is_closed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)


def _log(piece: JsonValue) -> Log | None:
    match piece:
        case {
            "attempt": int(attempt),
            "seq": int(seq),
            "at": int() | float() as at,
            "stream": str(stream),
            "text": str(text),
        }:
            return Log(Told(attempt, seq, at), stream, text)
        case _:
            return None
