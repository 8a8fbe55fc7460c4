"""Commands that tell about jobs, and end them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lineshaft.cli.arrays import Array, cancel_array, show_array, summary
from lineshaft.cli.asking import about, ask
from lineshaft.cli.exits import ExitCode, UsageError
from lineshaft.cli.flags import JobName, Json, Token, Url
from lineshaft.cli.output import Column, Output, duration, text_of
from lineshaft.job_statuses import ENDED, STATUSES

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lineshaft.async_client import AsyncClient

LEAVES = {
    "failed": "its code failed",
    "worker_lost": "its worker was lost",
    "not_delivered": "it never reached its worker",
    "returned": "its worker handed it back",
    "paused": "it paused",
    "preempted": "it made room for another job",
    "gang": "another rank of its gang had ended",
}
"""Why an attempt ended without an outcome, in words."""
COLUMNS = [
    Column("JOB", is_copied=True),
    Column("NAME"),
    Column("STATUS"),
    Column("WORKER"),
    Column("AGE", "right", wide_from=60),
    Column("ATTEMPT", "right", wide_from=76),
    Column("OWNER", wide_from=110),
    Column("ERROR", wide_from=90),
]


def jobs(
    status: Annotated[str | None, typer.Option(help=f"Only those: {', '.join(STATUSES)}.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="The most.")] = 20,
    array_id: Array = None,
    is_mine: Annotated[bool, typer.Option("--mine", help="Only those of your token.")] = False,
    owner: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of the token of this id.")
    ] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """List jobs, the last submitted first; or the items of an array, and how many are where."""
    if is_mine and owner is not None:
        raise UsageError("--mine is --owner with your own token: give one of them")
    owner = "me" if is_mine else owner
    if array_id is not None and owner is not None:
        raise UsageError("the items of an array have one owner: leave --mine and --owner out")
    if status is not None and status not in STATUSES:
        raise UsageError(f"no status {status!r}; there are: {', '.join(STATUSES)}")
    output = Output(is_json=is_json)
    if array_id is not None:
        array = array_id
        ask(
            url, token, lambda client: show_array(output, client, array, status=status, limit=limit)
        )
        return
    found = ask(url, token, lambda client: client.jobs(status=status, limit=limit, owner=owner))
    if is_json:
        output.document(found)
        return
    show_jobs(output, found)


def show_jobs(output: Output, found: JsonValue, *, now: float | None = None) -> None:
    """Print jobs as a table.

    Args:
        output: Where to.
        found: As the coordinator lists them.
        now: Seconds since 1970; the clock's if None.
    """
    rows = [job_row(each, time.time() if now is None else now) for each in rows_of(found)]
    if rows or not output.out.is_terminal:
        output.table(COLUMNS, rows)
    else:
        output.note("no jobs; 'lineshaft run FILE.py' submits one")


def job_row(job: dict[str, JsonValue], now: float) -> list[str]:
    """Return the cells of one job."""
    submitted_at = job.get("submitted_at")
    age = duration(max(0.0, now - submitted_at)) if isinstance(submitted_at, int | float) else ""
    error = text_of(job.get("error")).strip().splitlines()
    names = ("job_id", "name", "status", "worker_id")
    cells = [text_of(job.get(name)) for name in names]
    cells += [age, text_of(job.get("attempt")), text_of(job.get("owner"))]
    return [*cells, error[0][:100] if error else ""]


def rows_of(found: JsonValue) -> list[dict[str, JsonValue]]:
    """Return the objects in a list."""
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def job(job_id: JobName, is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """Show one job."""
    output = Output(is_json=is_json)
    found = ask(url, token, lambda client: about(client, "job", job_id))
    if is_json or not isinstance(found, dict):
        output.document(found)
        return
    for key, value in found.items():
        if value in (None, "", []):
            continue
        shown = clock(value) if key.endswith("_at") else text_of(value)
        output.line(f"{key:<16} {shown}")


def why(job_id: JobName, is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """Tell why a job is where it is: what it waits for, and what the nearest worker lacks."""
    output = Output(is_json=is_json)
    found = ask(url, token, lambda client: about(client, "why", job_id))
    if is_json:
        output.document(found)
        return
    status, reasons = reasons_of(found)
    output.line(f"job {job_id} is {status}:" if reasons else f"job {job_id} is {status}")
    for reason in reasons:
        output.line(f"  - {reason}")


def reasons_of(found: JsonValue) -> tuple[str, list[str]]:
    """Return the state and the reasons in an answer to "why"."""
    match found:
        case {"status": str(status), "reasons": list(reasons)}:
            return status, [text_of(each) for each in reasons]
        case _:
            return "somewhere", []


def story(job_id: JobName, is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """Tell everything that happened to a job, in order."""
    output = Output(is_json=is_json)
    found = ask(url, token, lambda client: about(client, "story", job_id))
    if is_json:
        output.document(found)
        return
    for record in rows_of(found):
        output.line(f"{clock(record.get('at'))}  {told(record)}")


def told(record: dict[str, JsonValue]) -> str:
    """Return a record of the journal as a sentence, in one line."""
    return " ".join(_sentence(record).split())


def _sentence(record: dict[str, JsonValue]) -> str:
    match record:
        case {"type": "JobSubmitted", "client_id": client_id, "job": {"kind": kind, **job}}:
            name = f" {job['name']}" if job.get("name") else ""
            again = f", to do {job['retry_of']} again" if job.get("retry_of") else ""
            after = job.get("after")
            behind = f", after {_listed(after)}" if isinstance(after, list) and after else ""
            return f"submitted by {text_of(client_id)}: {text_of(kind)}{name}{again}{behind}"
        case {"type": "JobRetried", "retry": str(retry)}:
            return f"done again as {retry}"
        case {"type": "AttemptStarted", "attempt": attempt, "worker_id": worker_id, **rest}:
            devices = rest.get("devices")
            gpus = f" with GPUs {_listed(devices)}" if isinstance(devices, list) else ""
            what = "to be prepared by" if rest.get("is_unplaced") else "given to"
            return f"attempt {attempt} {what} worker {text_of(worker_id)}{gpus}"
        case {"type": "AttemptPlaced", "attempt": attempt, **rest}:
            devices = rest.get("devices")
            gpus = f" with GPUs {_listed(devices)}" if isinstance(devices, list) else ""
            return f"attempt {attempt} is prepared and has its place{gpus}"
        case {"type": "AttemptLeft", "attempt": attempt, "cause": cause, **rest}:
            where = "waits to be resumed" if cause == "paused" else "goes back to the queue"
            what = LEAVES.get(text_of(cause), text_of(cause))
            reason = text_of(rest.get("reason")) or _failure(rest.get("failure"))
            text = f"attempt {attempt} is over: {what}; the job {where}"
            return f"{text}: {reason}" if reason else text
        case {"type": "PauseRequested", "mode": mode, "reason": reason}:
            freeze = "stand still where it is"
            what = freeze if mode == "freeze" else "save a checkpoint and end"
            return f"asked to {what}: {text_of(reason)}"
        case {"type": "PauseWithdrawn", "reason": reason}:
            return f"it goes on: {text_of(reason)}"
        case {"type": "JobResumed"}:
            return "resumed: the job goes back to the queue"
        case {"type": "FileKept", "file": dict(file), **rest}:
            return _kept(file, rest.get("dropped"))
        case {"type": "CancelRequested", "reason": reason}:
            return f"cancel asked: {text_of(reason)}"
        case {"type": "JobFinished", "outcome": dict(outcome)}:
            return f"{text_of(outcome.get('status'))}{_ending(outcome)}"
        case _:
            return text_of(record)


def _listed(names: Sequence[JsonValue]) -> str:
    *others, last = map(text_of, names)
    return f"{', '.join(others)} and {last}" if others else last


def _kept(file: Mapping[str, JsonValue], dropped: JsonValue) -> str:
    step = f" of step {file['step']}" if file.get("step") is not None else ""
    why = f" could not be stored: {file['problem']}" if file.get("problem") else " is kept"
    text = f"{text_of(file.get('kind'))} {text_of(file.get('name'))}{step}{why}"
    if not isinstance(dropped, list) or not dropped:
        return text
    gone = "1 older one is" if len(dropped) == 1 else f"{len(dropped)} older ones are"
    return f"{text}; {gone} not any longer"


def _ending(outcome: Mapping[str, JsonValue]) -> str:
    text = ""
    if outcome.get("worker_id"):
        text += f" on worker {text_of(outcome['worker_id'])}"
    if isinstance(run_s := outcome.get("run_s"), int | float):
        text += f" after {duration(run_s)}"
    reason = _failure(outcome.get("failure")) or text_of(outcome.get("reason"))
    return f"{text}: {reason}" if reason else text


def _failure(failure: JsonValue) -> str:
    if not isinstance(failure, dict):
        return ""
    of_type = f" {failure['type_name']}" if failure.get("type_name") else ""
    return f"{text_of(failure.get('cause'))}{of_type}: {text_of(failure.get('message'))}"


def cancel(
    job_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB...]", help="Ids of jobs.")
    ] = None,
    array_id: Array = None,
    reason: Annotated[str, typer.Option(help="Kept with the job.")] = "cancelled by its user",
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """End jobs, whatever they are doing, and wait until their processes are gone."""
    if bool(job_ids) == (array_id is not None):
        raise UsageError("name jobs, or an array with --array ID")
    output = Output(is_json=is_json)
    if array_id is not None:
        array = array_id
        counts = ask(url, token, lambda client: cancel_array(client, array, reason))
        if is_json:
            output.document(counts)
        else:
            output.line(f"array {array}: {summary(counts)}")
        return
    wanted = job_ids or []

    async def end(client: AsyncClient) -> list[dict[str, JsonValue]]:
        # All must be known before the first one is touched.
        before = [await about(client, "job", job_id) for job_id in wanted]
        return [
            await _end(client, job_id, reason, was=was)
            for job_id, was in zip(wanted, before, strict=True)
        ]

    ended = ask(url, token, end)
    if is_json:
        output.document(ended)
        return
    for each in ended:
        text = "is cancelled" if each["was_live"] else f"had ended already: {each['status']}"
        if each["was_live"] and each["status"] != "cancelled":
            text = f"ended before it could be cancelled: {each['status']}"
        output.line(f"job {each['job_id']} {text}")
    if any(each["status"] is None for each in ended):
        raise typer.Exit(ExitCode.JOB_FAILED)


async def _end(
    client: AsyncClient, job_id: str, reason: str, *, was: JsonValue
) -> dict[str, JsonValue]:
    from lineshaft.cli.asking import outcome_of  # noqa: PLC0415 - takes long

    status = was.get("status") if isinstance(was, dict) else None
    if status in ENDED:
        return {"job_id": job_id, "status": status, "was_live": False}
    found = client.job(job_id)
    waiting = asyncio.create_task(outcome_of(found))
    found.cancel(reason)
    outcome = await waiting
    return {"job_id": job_id, "status": outcome.status, "was_live": True}


def clock(at: JsonValue) -> str:
    """Return a time, in seconds since 1970, as the clock on the wall."""
    if not isinstance(at, int | float):
        return text_of(at)
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
