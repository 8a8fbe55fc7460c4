"""Talking to the coordinator for one command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lineshaft.cli.exits import NotFoundError, UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lineshaft.async_client import AsyncClient
    from lineshaft.job import AsyncJob
    from lineshaft_protocol.outcomes import Outcome
    from lineshaft_runtime.locating import Whereabouts

ValueT = TypeVar("ValueT")

CONNECT_S = 5.0


def whereabouts(url: str | None, token: str | None) -> Whereabouts:
    """Find the coordinator and its token: flags, environment, `lineshaft login`, this machine.

    Raises:
        LineshaftError: Nothing names one, or there is no token for it.
    """
    from lineshaft_runtime.locating import Whereabouts, home_of  # noqa: PLC0415 - takes long

    try:
        return Whereabouts.find(url, token, environ=os.environ)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError) or hasattr(error, "text"):
            raise
        home = home_of(os.environ)
        raise UsageError(
            f"login.json or coordinator.json in {home} is damaged; remove it and run "
            "'lineshaft login', or start the coordinator again"
        ) from error


def ask(
    url: str | None,
    token: str | None,
    work: Callable[[AsyncClient], Coroutine[Any, Any, ValueT]],
) -> ValueT:
    """Connect, do something, and return what came of it.

    Raises:
        LineshaftError: There is no coordinator, it does not let us in, or the work failed.
    """
    from lineshaft.async_client import AsyncClient  # noqa: PLC0415 - takes long
    from lineshaft.errors import CoordinatorUnreachableError  # noqa: PLC0415 - likewise

    place = whereabouts(url, token)

    async def connected() -> ValueT:
        client = AsyncClient(place.url, token=place.token, connect_timeout=CONNECT_S)
        try:
            async with client:
                return await work(client)
        except CoordinatorUnreachableError as error:
            from lineshaft.cli.readiness import obstacle_of  # noqa: PLC0415 - seldom

            if (text := await obstacle_of(place)) is None:
                raise
            cause = f"it says that it is not ready: {text}; its log says more"
            raise CoordinatorUnreachableError(place.url, cause) from error

    return asyncio.run(connected())


async def about(
    client: AsyncClient, what: Literal["job", "why", "story", "files"], job_id: str
) -> JsonValue:
    """Return what the coordinator says about a job.

    Raises:
        NotFoundError: It knows no such job.
    """
    from lineshaft.errors import QueryError  # noqa: PLC0415 - takes long
    from lineshaft_protocol.client_messages import Query  # noqa: PLC0415 - likewise

    if not is_name(job_id):
        raise NotFoundError(f"{job_id!r} is no id of a job; 'lineshaft jobs' lists them")
    try:
        return await client.shell.questions.ask(Query(request_id=0, what=what, job_id=job_id))
    except QueryError as error:
        raise NotFoundError(f"{error.message}; 'lineshaft jobs' lists what there is") from error


def is_name(text: str) -> bool:
    """Say whether a text may be the id of a job or worker."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - takes long

    from lineshaft_protocol.ids import Name  # noqa: PLC0415 - takes long

    try:
        TypeAdapter[str](Name).validate_python(text)
    except ValidationError:
        return False
    return True


async def outcome_of(job: AsyncJob[object] | AsyncJob[float]) -> Outcome:
    """Wait for the end of a job and return how it ended.

    Raises:
        LineshaftError: Nobody knows the job, or the connection was closed.
    """
    from lineshaft.job_events import Finished  # noqa: PLC0415 - takes long

    async with aclosing(job.events()) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event.outcome
    raise NotFoundError(f"job {job.id} ended without an outcome")
