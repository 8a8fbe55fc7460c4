"""Commands that list what jobs left, and bring it here."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineshaft.cli.asking import about, ask
from lineshaft.cli.exits import NotFoundError
from lineshaft.cli.flags import JobName, Json, Token, Url
from lineshaft.cli.output import Column, Output, size
from lineshaft_runtime.kept import spelled

if TYPE_CHECKING:
    from lineshaft.async_client import AsyncClient
    from lineshaft.kept_files import AsyncKeptFile

COLUMNS = [
    Column("KIND"),
    Column("NAME"),
    Column("STEP", "right"),
    Column("ATTEMPT", "right", wide_from=60),
    Column("SIZE", "right"),
    Column("SHA256", wide_from=80),
    Column("PROBLEM", wide_from=100),
]
BAR_CELLS = 24
CELLS_MIN = 4
SHOWN_EVERY_S = 0.1
RATE_FROM_S = 0.5


def artifacts(job_id: JobName, is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """List the artifacts and checkpoints of a job."""
    output = Output(is_json=is_json)
    found = ask(url, token, lambda client: _kept(client, job_id))
    if is_json:
        output.document([each.record.model_dump(mode="json") for each in found])
        return
    rows = [
        [
            each.kind,
            f"{spelled(each.name)}/" if each.is_folder else spelled(each.name),
            "" if each.step is None else str(each.step),
            str(each.attempt),
            size(each.size_bytes) if each.problem is None else "not kept",
            (each.sha256 or "")[:12],
            each.problem or "",
        ]
        for each in found
    ]
    if rows or not output.out.is_terminal:
        output.table(COLUMNS, rows)
        if output.out.is_terminal and output.out.width < COLUMNS[-1].wide_from:
            for each in found:
                if each.problem is not None:
                    output.note(f"{spelled(each.name)} is not kept: {each.problem}")
    else:
        output.note(
            "it left nothing; files in its folder 'outputs' are kept, and run.artifact(path)"
        )


async def _kept(client: AsyncClient, job_id: str) -> list[AsyncKeptFile]:
    await about(client, "job", job_id)
    job = client.job(job_id)
    return [*await job.checkpoints(), *await job.artifacts()]


def download(
    job_id: JobName,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which; all artifacts if none is named."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to put them.")
    ] = Path(),
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Bring artifacts, or checkpoints by name, of a job here; goes on after an interruption."""
    output = Output(is_json=is_json)

    async def bring(client: AsyncClient) -> list[dict[str, str]]:
        kept = await _kept(client, job_id)
        done: list[dict[str, str]] = []
        for each in _chosen(kept, names or [], job_id):
            bar = _Bar(spelled(each.name), output)
            # The name is the job's; `download` checks it before it is a path here.
            try:
                path = await each.download(folder / each.safe_name(), progress=bar.show)
            except asyncio.CancelledError:
                bar.end()
                output.note("what is here is kept: the same command goes on from there")
                raise
            bar.end()
            done.append({"name": each.name, "path": str(path), "sha256": each.sha256 or ""})
            if not is_json:
                output.line(str(path))
        return done

    done = ask(url, token, bring)
    if is_json:
        output.document([*done])


def _chosen(kept: list[AsyncKeptFile], names: list[str], job_id: str) -> list[AsyncKeptFile]:
    """Return what is wanted; of files with one name the last that was made."""
    last: dict[str, AsyncKeptFile] = {}
    for each in kept:
        is_named = each.name in names or spelled(each.name) in names
        if is_named if names else (each.kind == "artifact" and not each.problem):
            last[each.name] = each
    if missing := [name for name in names if name not in last]:
        raise NotFoundError(
            f"job {job_id} has no file {missing[0]!r}; 'lineshaft artifacts {job_id}' lists them"
        )
    return [*last.values()]


class _Bar:
    """A progress bar on a terminal, and nothing elsewhere."""

    def __init__(self, name: str, output: Output) -> None:
        self._name = name
        self._is_shown, self._width = output.is_live, output.err.width
        self._shown_at = 0.0
        self._began: tuple[float, int] | None = None
        """When the first byte of this call came, and what was there before."""

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
        if not self._is_shown or (now - self._shown_at < SHOWN_EVERY_S and done < total):
            return
        self._shown_at = now
        began, before = self._began
        rate = f", {size((done - before) / (now - began))}/s" if now - began > RATE_FROM_S else ""
        share = done / total if total else 1.0
        told = f"{share:4.0%} of {size(total)}{rate}"
        # One cell is left free: a full line would wrap on some terminals.
        room = max(0, self._width - 1 - len(told) - 1)
        name = self._name[-max(8, room - BAR_CELLS - 3) :]
        cells = min(BAR_CELLS, room - len(name) - 3)
        bar = f"[{'#' * round(share * cells):<{cells}}] " if cells >= CELLS_MIN else ""
        sys.stderr.write(f"\r{f'{name} {bar}{told}'[: self._width - 1]}\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        if self._is_shown and self._began is not None:
            sys.stderr.write("\n")
