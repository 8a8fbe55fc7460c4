"""Commands that let jobs stand aside, and go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from lineshaft.cli.asking import about, ask
from lineshaft.cli.exits import ExitCode
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Output, text_of
from lineshaft.job_statuses import ENDED

if TYPE_CHECKING:
    from lineshaft.async_client import AsyncClient

JobNames = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids of jobs.")]


def pause(
    job_ids: JobNames,
    is_freeze: Annotated[
        bool,
        typer.Option("--freeze", help="Stop the processes where they are; GPUs stay taken."),
    ] = False,
    grace: Annotated[
        float | None, typer.Option(min=0.001, help="Longest wait in seconds; then it goes on.")
    ] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Have jobs save a checkpoint and free their slots and GPUs; 'lineshaft resume' goes on."""
    output = Output(is_json=is_json)

    async def hold(client: AsyncClient) -> list[dict[str, str]]:
        statuses = [await _status(client, job_id) for job_id in job_ids]
        if output.is_live and not is_freeze and not {*statuses} <= {"paused", *ENDED}:
            output.note("waiting until a checkpoint is saved; Ctrl-C stops waiting, not the pause")
        # All at once: each may take its whole grace.
        return await asyncio.gather(
            *(
                _paused(client, job_id, status, freeze=is_freeze, grace=grace)
                for job_id, status in zip(job_ids, statuses, strict=True)
            )
        )

    done = ask(url, token, hold)
    if is_json:
        output.document([*done])
    for each in done if not is_json else ():
        if "error" in each:
            output.error(each["error"])
        else:
            step = f" at step {each['step']}" if each.get("step") else ""
            kept = "; it keeps its slot, memory and GPUs" if each["status"] == "frozen" else ""
            output.command(
                f"job {each['job_id']} is {each['status']}{step}{kept}; "
                f"'lineshaft resume {each['job_id']}' lets it go on"
            )
    if any("error" in each for each in done):
        raise typer.Exit(ExitCode.JOB_FAILED)


async def _status(client: AsyncClient, job_id: str) -> str:
    """Return the state of a job. Raises NotFoundError if nobody knows it."""
    found = await about(client, "job", job_id)
    return text_of(found.get("status")) if isinstance(found, dict) else ""


async def _paused(
    client: AsyncClient, job_id: str, status: str, *, freeze: bool, grace: float | None
) -> dict[str, str]:
    from lineshaft.errors import NotPausedError  # noqa: PLC0415 - takes long

    if status in ENDED:
        return {"job_id": job_id, "error": f"job {job_id} has ended already: {status}"}
    job = client.job(job_id)
    try:
        status = await job.pause(freeze=freeze, grace=grace)
    except NotPausedError as error:
        return {"job_id": job_id, "error": error.reason}
    checkpoints = await job.checkpoints()
    step = checkpoints[-1].step if checkpoints and status == "paused" else None
    return {"job_id": job_id, "status": status, **({} if step is None else {"step": str(step)})}


def resume(job_ids: JobNames, is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """Let paused or frozen jobs go on: from their last checkpoint, or where they stand."""
    output = Output(is_json=is_json)

    async def go_on(client: AsyncClient) -> list[dict[str, str]]:
        statuses = [await _status(client, job_id) for job_id in job_ids]
        return [
            await _resumed(client, job_id, status)
            for job_id, status in zip(job_ids, statuses, strict=True)
        ]

    done = ask(url, token, go_on)
    if is_json:
        output.document([*done])
    for each in done if not is_json else ():
        if "error" in each:
            output.error(each["error"])
        else:
            output.line(f"job {each['job_id']} goes on: {each['status']}")
    if any("error" in each for each in done):
        raise typer.Exit(ExitCode.JOB_FAILED)


async def _resumed(client: AsyncClient, job_id: str, status: str) -> dict[str, str]:
    if status in ENDED:
        return {"job_id": job_id, "error": f"job {job_id} has ended already: {status}"}
    return {"job_id": job_id, "status": await client.job(job_id).resume()}
