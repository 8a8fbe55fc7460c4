"""Commands that tell about workers, and take them out of service."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from lineshaft.cli.asking import ask, is_name
from lineshaft.cli.exits import ExitCode, NotFoundError
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.jobs import COLUMNS as JOB_COLUMNS
from lineshaft.cli.jobs import job_row, rows_of
from lineshaft.cli.output import Column, Output, rich_table, size, text_of

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.console import RenderableType

    from lineshaft.async_client import AsyncClient

COLUMNS = [
    Column("WORKER"),
    Column("STATUS"),
    Column("SLOTS", "right"),
    Column("CPU", "right"),
    Column("MEMORY", "right", wide_from=60),
    Column("GPUS", wide_from=46),
    Column("TAGS", wide_from=76),
    Column("VERSION", wide_from=90),
]


def workers(is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """List workers: those that are here, and those that are away with jobs."""
    output = Output(is_json=is_json)
    found = ask(url, token, lambda client: client.workers())
    if is_json:
        output.document(found)
        return
    rows = [worker_row(each) for each in rows_of(found)]
    if rows or not output.out.is_terminal:
        output.table(COLUMNS, rows)
    else:
        output.note("no workers; 'lineshaft worker' on a machine adds it")


def worker_row(worker: dict[str, JsonValue]) -> list[str]:
    """Return the cells of one worker."""
    load = worker.get("load")
    usage = load.get("cpu_usage") if isinstance(load, dict) else None
    memory = worker.get("memory_bytes")
    return [
        text_of(worker.get("worker_id")),
        text_of(worker.get("status")),
        f"{text_of(worker.get('used_slots'))}/{text_of(worker.get('slots'))}",
        _percent(usage),
        size(memory) if isinstance(memory, int | float) and memory else "",
        gpus_text(worker.get("gpus"), load),
        text_of(worker.get("tags")),
        text_of(worker.get("lineshaft")),
    ]


def gpus_text(gpus: JsonValue, load: JsonValue = None) -> str:
    """Return what GPUs a worker has, how warm the warmest is, how many are in use or out of it."""
    found = rows_of(gpus)
    if not found:
        return "none"
    names = sorted({text_of(each.get("name")) for each in found})
    used = sum(bool(each.get("jobs")) for each in found)
    faulty = sum(each.get("fault") is not None for each in found)
    text = f"{used}/{len(found)} {', '.join(names)}"
    told = load.get("gpu_temperature_c") if isinstance(load, dict) else None
    warm = told if isinstance(told, list) else []
    if degrees := [each for each in warm if isinstance(each, int | float)]:
        text += f" {max(degrees):.0f} °C"
    return f"{text}, {faulty} out of use" if faulty else text


def _percent(usage: JsonValue) -> str:
    return f"{usage * 100:.0f} %" if isinstance(usage, int | float) else ""


def drain(
    worker_id: Annotated[str, typer.Argument(metavar="WORKER", help="Name of a worker.")],
    is_stop: Annotated[
        bool, typer.Option("--stop", help="Let its daemon end once it is idle.")
    ] = False,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Give a worker nothing more; what it runs may finish."""
    output = Output(is_json=is_json)
    if not is_name(worker_id):
        raise NotFoundError(f"{worker_id!r} is no name of a worker; see 'lineshaft workers'")

    async def ask_to_drain(client: AsyncClient) -> None:
        from lineshaft.cli.draining import drain_worker  # noqa: PLC0415 - takes long

        await drain_worker(client, worker_id, stops=is_stop)

    ask(url, token, ask_to_drain)
    if is_json:
        output.document({"worker_id": worker_id, "draining": True, "stop": is_stop})
    else:
        output.line(f"worker {worker_id} gets nothing more")


def heal(
    worker_id: Annotated[str, typer.Argument(metavar="WORKER", help="Name of a worker.")],
    gpu: Annotated[str, typer.Argument(metavar="GPU", help="UUID, as 'workers --json' has it.")],
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Take a GPU that was put out of use back into use, whatever is on it now."""
    output = Output(is_json=is_json)
    if not is_name(worker_id):
        raise NotFoundError(f"{worker_id!r} is no name of a worker; see 'lineshaft workers'")

    async def ask_to_heal(client: AsyncClient) -> str | None:
        from lineshaft.cli.draining import heal_gpu  # noqa: PLC0415 - takes long

        return await heal_gpu(client, worker_id, gpu)

    fault = ask(url, token, ask_to_heal)
    if is_json:
        output.document({"worker_id": worker_id, "gpu": gpu, "fault": fault})
    elif fault is None:
        output.line(f"GPU {gpu} of worker {worker_id} is given out again")
    else:
        output.line(f"GPU {gpu} of worker {worker_id} stays out of use: {fault}")
    if fault is not None:
        raise typer.Exit(ExitCode.JOB_FAILED)


def top(
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between looks.")] = 1.0,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Looks; default: until Ctrl-C.")
    ] = None,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Watch workers and live jobs; in a pipe, look once."""
    output = Output(is_json=is_json)
    looks = count if count is not None or output.out.is_terminal else 1

    async def watch(client: AsyncClient) -> None:
        if is_json or not output.out.is_terminal:
            for number in range(looks or 1):
                if number:
                    await asyncio.sleep(every)
                _print_look(output, await look(client))
            return
        await _watch(client, output, every, looks)

    ask(url, token, watch)


async def look(client: AsyncClient) -> dict[str, JsonValue]:
    """Return what there is to see: the coordinator, its workers and live jobs."""
    return {
        "coordinator": await client.info(),
        "workers": await client.workers(),
        "jobs": await client.jobs(status="live", limit=50),
    }


async def _watch(client: AsyncClient, output: Output, every: float, looks: int | None) -> None:
    from rich.live import Live  # noqa: PLC0415 - takes long

    done = 0
    with Live(console=output.out, auto_refresh=False, transient=False) as live:
        while looks is None or done < looks:
            if done:
                await asyncio.sleep(every)
            live.update(screen(await look(client), width=output.out.width), refresh=True)
            done += 1


def screen(seen: dict[str, JsonValue], *, width: int) -> RenderableType:
    """Return one look for a terminal."""
    from rich.console import Group  # noqa: PLC0415 - takes long

    return Group(
        rich_table(COLUMNS, [worker_row(each) for each in rows_of(seen["workers"])], width=width),
        "",
        rich_table(
            JOB_COLUMNS, [job_row(each, time.time()) for each in rows_of(seen["jobs"])], width=width
        ),
    )


def _print_look(output: Output, seen: dict[str, JsonValue]) -> None:
    if output.is_json:
        output.event(seen)
        return
    output.table(COLUMNS, [worker_row(each) for each in rows_of(seen["workers"])])
    output.line()
    output.table(JOB_COLUMNS, [job_row(each, time.time()) for each in rows_of(seen["jobs"])])
