"""Questions to the coordinator that wait for their answers."""

import asyncio
import itertools
from collections.abc import Callable

from pydantic import JsonValue

from lineshaft.core.io import Answered, RequestAsked
from lineshaft.errors import ClientClosedError, QueryError
from lineshaft_protocol.client_messages import Drain, KeepSecret, Pause, Query, Resume
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId

PAGE_EVENTS = 1000


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

    async def ask(self, query: Query | Drain | KeepSecret | Pause | Resume) -> JsonValue:
        """Return the answer to a question; its request id is set here.

        Raises:
            QueryError: The coordinator cannot answer it.
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
        if answer.error is not None:
            what = query.what if isinstance(query, Query) else query.type
            raise QueryError(what, answer.error)
        return answer.data

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
