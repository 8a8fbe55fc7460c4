"""Commands about many jobs at once: arrays, waiting for all, doing again what failed."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineshaft.cli.asking import about, ask, is_name
from lineshaft.cli.exits import ExitCode, FailedError, NotFoundError, UsageError, one_line
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Column, Output, text_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lineshaft.async_client import AsyncClient
    from lineshaft.errors import JobError
    from lineshaft.job_array import AsyncJobArray

COLUMNS = [
    Column("ITEM", "right"),
    Column("JOB", is_copied=True),
    Column("STATUS"),
    Column("WORKER", wide_from=60),
    Column("ATTEMPT", "right", wide_from=76),
    Column("ERROR", wide_from=90),
]
ORDER = ("succeeded", "failed", "cancelled", "running")
PAGE_JOBS = 1000
RETRIES_AT_ONCE = 50
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Array = Annotated[str | None, typer.Option("--array", metavar="ID", help="All items of an array.")]


def wait(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="Ids.")] = None,
    array_id: Array = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Longest wait, seconds.")] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Wait until jobs, or all items of an array, have ended; tell how."""
    if bool(job_ids) == (array_id is not None):
        raise UsageError("name jobs, or an array with --array ID")
    output = Output(is_json=is_json)

    async def work(client: AsyncClient) -> ExitCode:
        from lineshaft.job_array import AsyncJobArray  # noqa: PLC0415 - takes long

        if array_id is not None:
            array = await found_array(client, array_id)
        else:
            for job_id in job_ids or ():
                await about(client, "job", job_id)
            array = AsyncJobArray(client.shell, "", [client.job(each) for each in job_ids or ()])
        try:
            counts = await array.wait(timeout)
        except TimeoutError as error:
            raise FailedError(f"they have not ended within {timeout:g} s; they go on") from error
        if array_id is not None:
            await show_array(output, client, array_id)
        elif is_json:
            output.document(counts)
        else:
            output.line(summary(counts))
        return code_of(counts)

    raise typer.Exit(ask(url, token, work))


def retry(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="Ids.")] = None,
    is_failed: Annotated[
        bool, typer.Option("--failed", help="All that failed and were not done again yet.")
    ] = False,
    array_id: Annotated[
        str | None, typer.Option("--array", metavar="ID", help="With --failed: of this array.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --failed: ended since, as 2h or 2026-05-01T09:00."),
    ] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Do again what failed or was cancelled, as new jobs with the same code, data and options."""
    if bool(job_ids) == is_failed:
        raise UsageError("name jobs, or say --failed")
    if not is_failed and (array_id is not None or since is not None):
        raise UsageError("--array and --since say which failed jobs; add --failed")
    since_at = None if since is None else read_since(since, now=time.time())
    output = Output(is_json=is_json)

    async def work(client: AsyncClient) -> ExitCode:
        chosen = list(job_ids or ())
        for job_id in chosen:
            await about(client, "job", job_id)
        if is_failed:
            chosen = await _failed(output, client, array_id, since_at)
        return await _retry_all(output, client, chosen)

    raise typer.Exit(ask(url, token, work))


async def _failed(
    output: Output, client: AsyncClient, array_id: str | None, since_at: float | None
) -> list[str]:
    """Return the jobs that failed and were not done again, the oldest first."""
    if array_id is not None:
        array = await found_array(client, array_id)
        rows = await array.items(status="failed")
    else:
        rows = await _all_failed(output, client)
    chosen: list[tuple[float, str]] = []
    for row in rows:
        ended_at, submitted_at = row.get("finished_at"), row.get("submitted_at")
        if since_at is not None and isinstance(ended_at, int | float) and ended_at < since_at:
            continue
        job_id = text_of(row.get("job_id"))
        facts = await about(client, "job", job_id)
        if isinstance(facts, dict) and not facts.get("retried_as"):
            chosen.append(
                (float(submitted_at) if isinstance(submitted_at, int | float) else 0.0, job_id)
            )
    # What others come after first: they then come after what does it again.
    return [job_id for _, job_id in sorted(chosen)]


async def _all_failed(output: Output, client: AsyncClient) -> list[dict[str, JsonValue]]:
    """Return all jobs that failed, the last submitted first, page by page."""
    from lineshaft_protocol.client_messages import Query  # noqa: PLC0415 - takes long

    rows: list[dict[str, JsonValue]] = []
    while True:
        last = text_of(rows[-1].get("job_id")) if rows else None
        query = Query(request_id=0, what="jobs", status="failed", limit=PAGE_JOBS, before=last)
        found = await client.shell.questions.ask(query)
        page = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        if rows and page and page[0].get("job_id") == rows[0].get("job_id"):
            output.note(f"the coordinator is older; only the last {PAGE_JOBS} jobs are looked at")
            return rows
        rows += page
        if len(page) < PAGE_JOBS:
            return rows


async def _retry_all(output: Output, client: AsyncClient, job_ids: Sequence[str]) -> ExitCode:
    done: list[dict[str, str]] = []
    refused = 0
    for some in _parts(job_ids, RETRIES_AT_ONCE):
        # None waits for the one before it: a thousand take seconds.
        answers = await asyncio.gather(*(_retried(client, job_id) for job_id in some))
        for job_id, first in zip(some, answers, strict=True):
            answer = first
            if not isinstance(first, str) and len(some) > 1:
                # What it comes after may be done again only now.
                answer = await _retried(client, job_id)
            if not isinstance(answer, str):
                refused += 1
                output.error(one_line(answer))
                continue
            done.append({"job_id": answer, "retry_of": job_id})
            if not output.is_json:
                output.line(f"job {job_id} is done again as {answer}")
    if output.is_json:
        output.document(done)
    elif not job_ids:
        output.note("nothing that failed was not done again already")
    return ExitCode.JOB_FAILED if refused else ExitCode.OK


async def _retried(client: AsyncClient, job_id: str) -> str | JobError:
    """Return the id of the job that does it again, or why there is none."""
    from lineshaft.errors import JobError  # noqa: PLC0415 - takes long

    try:
        return (await client.job(job_id).retry()).id
    except JobError as error:
        return error


def _parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a sequence into parts of at most `size`."""
    return (items[first : first + size] for first in range(0, len(items), size))


def read_since(text: str, *, now: float) -> float:
    """Return a time in seconds since 1970, from `2h`, `30m`, `1d`, or a date and time.

    Raises:
        UsageError: It is neither.
    """
    if (span := _SPAN.fullmatch(text.strip())) is not None:
        return now - float(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError as error:
        raise UsageError(
            f"--since {text!r} is no time; write it as 30m, 2h, 1d or 2026-05-01T09:00"
        ) from error


def read_array(text: str) -> int | list[dict[str, object]]:
    """Return the parameters of each item: from a JSON file with a list of objects, or how many.

    Raises:
        UsageError: It is neither, or has no items.
    """
    if text.isdecimal():
        from lineshaft_protocol.jobs import ARRAY_MAX  # noqa: PLC0415 - takes long

        if not 1 <= int(text[:20]) <= ARRAY_MAX:
            raise UsageError(f"--array {text[:20]}: an array has 1 to {ARRAY_MAX} items")
        return int(text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"there is no file {text}; --array takes a JSON file, or a number")
    try:
        found: JsonValue = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{text} is no JSON: {error}") from error
    items = found if isinstance(found, list) else []
    params: list[dict[str, object]] = [{**each} for each in items if isinstance(each, dict)]
    if not params or len(params) != len(items):
        raise UsageError(f'{text} must be a list of objects, as [{{"lr": 0.1}}, {{"lr": 0.2}}]')
    return params


async def follow_array(output: Output, client: AsyncClient, array: AsyncJobArray) -> ExitCode:
    """Wait for all items, show how they ended, and return the exit code for that."""
    many = f"array {array.id} has {len(array)} items"
    output.note(f"{many}; 'lineshaft jobs --array {array.id}' shows them, Ctrl-C leaves them alone")
    counts = await array.wait()
    await show_array(output, client, array.id)
    return code_of(counts)


async def show_array(
    output: Output,
    client: AsyncClient,
    array_id: str,
    *,
    status: str | None = None,
    limit: int = 1000,
) -> None:
    """Print an array: how many items are where, and some of them.

    Raises:
        NotFoundError: Nobody knows it.
    """
    from lineshaft.errors import QueryError  # noqa: PLC0415 - takes long
    from lineshaft.job_array import ask_array, counts_of  # noqa: PLC0415 - likewise

    if not is_name(array_id):
        raise NotFoundError(f"{array_id!r} is no id of an array")
    try:
        found = await ask_array(client.shell, array_id, status=status, limit=limit)
    except QueryError as error:
        raise NotFoundError(error.message) from error
    if output.is_json:
        output.document(found)
        return
    items = found.get("items")
    rows = [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []
    output.table(COLUMNS, [item_row(each) for each in rows])
    count, submitted, at_most = (found.get(key) for key in ("count", "submitted", "at_most"))
    text = f"array {array_id}, {text_of(count)} items: {summary(counts_of(found))}"
    if isinstance(count, int) and isinstance(submitted, int) and submitted < count:
        text += f", {count - submitted} were not submitted"
    if at_most is not None:
        text += f"; at most {text_of(at_most)} at a time"
    output.line(text)


def item_row(item: dict[str, JsonValue]) -> list[str]:
    """Return the cells of one item."""
    error = text_of(item.get("error")).strip().splitlines()
    cells = [text_of(item.get(name)) for name in ("item", "job_id", "status", "worker_id")]
    return [*cells, text_of(item.get("attempt")), error[0][:100] if error else ""]


def summary(counts: dict[str, int]) -> str:
    """Return how many jobs are where, in words."""
    known = [each for each in ORDER if each in counts]
    others = sorted(each for each in counts if each not in ORDER)
    return ", ".join(f"{counts[each]} {each}" for each in (*known, *others)) or "nothing"


def code_of(counts: dict[str, int]) -> ExitCode:
    """Return the exit code for jobs that have ended so."""
    if counts.get("failed"):
        return ExitCode.JOB_FAILED
    return ExitCode.CANCELLED if counts.get("cancelled") else ExitCode.OK


async def found_array(client: AsyncClient, array_id: str) -> AsyncJobArray:
    """Find an array.

    Raises:
        NotFoundError: Nobody knows it.
    """
    from lineshaft.errors import QueryError  # noqa: PLC0415 - takes long

    if not is_name(array_id):
        raise NotFoundError(f"{array_id!r} is no id of an array")
    try:
        return await client.find_array(array_id)
    except QueryError as error:
        raise NotFoundError(error.message) from error


async def cancel_array(client: AsyncClient, array_id: str, reason: str) -> dict[str, int]:
    """End all items that have not ended, wait until their processes are gone, and count them.

    Raises:
        NotFoundError: Nobody knows it.
    """
    array = await found_array(client, array_id)
    before = {text_of(each["job_id"]) for each in await array.items(status="live")}
    waiting = asyncio.create_task(array.wait())
    # The last ones first: those that wait must not begin because of those that end.
    for job in reversed(array.jobs):
        if job.id in before:
            job.cancel(reason)
    return await waiting
