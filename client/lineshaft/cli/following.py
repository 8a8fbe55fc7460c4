"""Commands that follow a job: its output, its progress, its end."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Generator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lineshaft.cli.asking import about, ask
from lineshaft.cli.exits import ExitCode, FailedError
from lineshaft.cli.flags import JobName, Json, Token, Url
from lineshaft.cli.output import Output, duration, finite

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lineshaft.async_client import AsyncClient
    from lineshaft.job import AsyncJob
    from lineshaft.job_events import Log
    from lineshaft.questions import LogsWanted
    from lineshaft_protocol.outcomes import Outcome

GRACE_S = 5.0
"""How long a second Ctrl-C means "cancel the job"."""
LAST_LINES = 10


def logs(  # noqa: PLR0913, PLR0917 - one for each option
    job_id: JobName,
    is_followed: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Only what this attempt printed.")
    ] = None,
    is_stdout: Annotated[bool, typer.Option("--stdout", help="Only standard output.")] = False,
    is_stderr: Annotated[bool, typer.Option("--stderr", help="Only standard error.")] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-n", min=1, max=10_000, help="Begin so many lines before the end."),
    ] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print what a job has printed; with -f also what it prints until its end.

    With --json it prints all events (progress, metrics, logs, ...), one JSON object a line; with
    --stdout, --stderr or --tail only the output.
    """
    from lineshaft.questions import LogsWanted  # noqa: PLC0415 - takes long

    output = Output(is_json=is_json)
    stream: Literal["stdout", "stderr"] | None = None
    if is_stdout != is_stderr:
        stream = "stdout" if is_stdout else "stderr"
    wanted = LogsWanted(attempt=attempt, stream=stream, tail=tail)

    async def show(client: AsyncClient) -> ExitCode:
        await about(client, "job", job_id)
        job = client.job(job_id)
        if is_followed:
            return await follow(output, client, job, wanted)
        if is_json and wanted.stream is None and tail is None:
            await _print_events(output, client, job_id, attempt)
        else:
            async with aclosing(job.printed(wanted, follow=False)) as pieces:
                async for log in pieces:
                    print_piece(output, log)
        return ExitCode.OK

    raise typer.Exit(ask(url, token, show))


def result(
    job_id: JobName,
    timeout: Annotated[float | None, typer.Option(min=0, help="Longest wait, seconds.")] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Wait for a job's end and print its result."""
    output = Output(is_json=is_json)

    async def show(client: AsyncClient) -> ExitCode:
        from lineshaft.cli.asking import outcome_of  # noqa: PLC0415 - takes long

        await about(client, "job", job_id)
        job = client.job(job_id)
        try:
            async with asyncio.timeout(timeout):
                outcome = await outcome_of(job)
        except TimeoutError as error:
            text = f"job {job_id} has not ended within {timeout:g} s; it goes on"
            raise FailedError(text) from error
        return await print_ending(output, job, outcome, seen="")

    raise typer.Exit(ask(url, token, show))


async def _print_events(
    output: Output, client: AsyncClient, job_id: str, attempt: int | None
) -> None:
    from lineshaft_protocol.ids import JobId  # noqa: PLC0415 - takes long

    after = (attempt or 0, 0)
    while page := await client.shell.questions.page(JobId(job_id), after):
        for event in page:
            after = (event.attempt, event.seq)
            if attempt in (None, event.attempt):
                output.event(event.model_dump(mode="json"))


def print_piece(output: Output, log: Log) -> None:
    """Print a piece of a job's output to where the job printed it."""
    if output.is_json:
        told = log.told
        place = {"attempt": told.attempt, "seq": told.seq, "at": told.at, "kind": "log"}
        output.event({**place, "body": {"stream": log.stream, "text": log.text}})
    else:
        output.text(log.text, stream=log.stream)


async def follow(
    output: Output, client: AsyncClient, job: AsyncJob[object], wanted: LogsWanted | None = None
) -> ExitCode:
    """Show what a job tells until it ends, print its result, and return the exit code for that.

    Args:
        output: Where to.
        client: Connected.
        job: Which job.
        wanted: Which part of its output; by default all.

    Ctrl-C leaves the job alone; pressed again within `GRACE_S` it cancels the job.

    Raises:
        LineshaftError: Nobody knows the job.
    """
    from lineshaft.cli.following_view import View  # noqa: PLC0415 - takes long

    with _interrupts() as interrupts, View(output, client, job, wanted) as view:
        reading = asyncio.create_task(view.read())
        outcome = await _until_end(output, job, reading, interrupts)
    if outcome is None:
        return ExitCode.INTERRUPTED
    return await print_ending(output, job, outcome, seen=view.tail)


@contextmanager
def _interrupts() -> Generator[asyncio.Queue[None]]:
    """Count Ctrl-C instead of dying of it."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[None] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGINT, arrived.put_nowait, None)
    try:
        yield arrived
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _until_end(
    output: Output,
    job: AsyncJob[object],
    reading: asyncio.Task[Outcome],
    interrupts: asyncio.Queue[None],
) -> Outcome | None:
    """Wait for the outcome; None if the user leaves before there is one."""
    try:
        if not await _is_interrupted(reading, interrupts, None):
            return reading.result()
        output.error(
            f"job {job.id} goes on; follow it again: lineshaft logs -f {job.id}; "
            f"press Ctrl-C again within {GRACE_S:g} s to cancel it"
        )
        if not await _is_interrupted(reading, interrupts, GRACE_S):
            return reading.result() if reading.done() else None
        job.cancel("cancelled by Ctrl-C")
        output.error(f"cancelling job {job.id}; press Ctrl-C once more to leave without waiting")
        if not await _is_interrupted(reading, interrupts, None):
            return reading.result()
        return None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _is_interrupted(
    reading: asyncio.Task[Outcome], interrupts: asyncio.Queue[None], timeout_s: float | None
) -> bool:
    """Wait for the next Ctrl-C, the end of the job, or the end of the time."""
    pressed = asyncio.create_task(interrupts.get())
    try:
        await asyncio.wait(
            (reading, pressed), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        return pressed.done() and not reading.done()
    finally:
        pressed.cancel()


async def print_ending(
    output: Output, job: AsyncJob[object], outcome: Outcome, *, seen: str
) -> ExitCode:
    """Print the result of a job that ended, or why there is none; return the exit code for it.

    Args:
        output: Where to.
        job: It may fetch the result.
        outcome: Of the job.
        seen: The end of its output that was shown already, which is not repeated.
    """
    value = await job.result() if outcome.status == "succeeded" else None
    if output.is_json:
        output.document(_document(outcome, value))
    elif outcome.status == "succeeded":
        where = f" on {outcome.worker_id}" if outcome.worker_id else ""
        took = f" after {duration(outcome.run_s)}" if outcome.run_s is not None else ""
        output.note(f"job {job.id} succeeded{where}{took}")
        if value is not None:
            output.line(shown(value))
    else:
        _print_failure(output, outcome, seen)
    match outcome.status:
        case "succeeded":
            return ExitCode.OK
        case "failed":
            return ExitCode.JOB_FAILED
        case "cancelled":
            return ExitCode.CANCELLED


def _print_failure(output: Output, outcome: Outcome, seen: str) -> None:
    failure = outcome.failure
    if outcome.status == "cancelled" or failure is None:
        output.error(f"job {outcome.job_id} was {outcome.status}: {outcome.reason or 'no reason'}")
        return
    is_told_by_output = failure.cause in ("exit", "signal", "oom", "start")
    lines = failure.traceback.strip().splitlines()
    if is_told_by_output and not lines:
        lines = [*failure.last_lines[-LAST_LINES:]]
    if lines and lines[-1] not in seen:
        output.text("\n".join(lines) + "\n", stream="stderr")
    is_users = failure.cause in ("exception", "unpickle", "result") and failure.type_name
    name = f"{failure.type_name}: " if is_users else ""
    message = failure.message.splitlines()[0] if failure.message else failure.cause
    output.error(
        f"job {outcome.job_id} failed on {outcome.worker_id or 'no worker'}: {name}{message}; "
        f"'lineshaft story {outcome.job_id}' tells what happened"
    )


def _document(outcome: Outcome, value: object) -> dict[str, object]:
    failure = outcome.failure
    return {
        "job_id": outcome.job_id,
        "status": outcome.status,
        "attempt": outcome.attempt,
        "worker_id": outcome.worker_id,
        "run_s": outcome.run_s,
        "reason": outcome.reason,
        "failure": None
        if failure is None
        else failure.model_dump(mode="json", exclude={"pickled"}, exclude_none=True),
        "result": as_json(value),
        "result_text": None if value is None else shown(value),
    }


def as_json(value: object) -> JsonValue:
    """Return a value if JSON has it; None if not."""
    try:
        return json.loads(json.dumps(finite(value)))  # type: ignore[no-any-return]  # JSON
    except (TypeError, ValueError):
        return None


def shown(value: object) -> str:
    """Return a result for a person."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(finite(value), ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)
