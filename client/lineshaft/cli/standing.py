"""`lineshaft up`: a coordinator and a worker that stand until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lineshaft.cli.exits import ExitCode, FailedError
from lineshaft.cli.local_farm import LocalFarm
from lineshaft.cli.output import Output
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.locating import home_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lineshaft.async_client import AsyncClient

EVERY_S = 1.0


async def stand(
    output: Output, logs: Path, *, port: int, worker_name: str, worker_flags: tuple[str, ...]
) -> ExitCode:
    """Run both until a signal; the first one lets running jobs finish, the second does not.

    Raises:
        FailedError: A daemon cannot start, or ended by itself.
    """
    farm = LocalFarm(home_of(os.environ).expanduser().resolve(), logs=logs)
    with _signals() as signals:
        try:
            await farm.start_worker(worker_name, *worker_flags)
            await farm.start_coordinator(listen=f"127.0.0.1:{port}")
            output.note(f"coordinator {farm.url}, worker {worker_name}; Ctrl-C stops both")
            output.note(f"other terminals find it by themselves, with LINESHAFT_HOME={farm.home}")
            output.note("'lineshaft dashboard' shows it in a browser")
            daemon = await _watched(farm, output, signals)
        except BaseException:
            await farm.kill()
            raise
        if daemon is not None:
            text = f"{daemon} has ended by itself: {_last_lines(logs / f'{daemon}.log')}"
            await farm.stop()
            raise FailedError(text)
        output.note("stopping: running jobs may finish; Ctrl-C again stops them, too")
        await _stop(farm, signals)
    output.note("stopped; jobs that were waiting go on with the next 'lineshaft up'")
    return ExitCode.OK


@contextmanager
def _signals() -> Generator[asyncio.Queue[int]]:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[int] = asyncio.Queue()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, arrived.put_nowait, int(number))
    try:
        yield arrived
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _watched(farm: LocalFarm, output: Output, signals: asyncio.Queue[int]) -> str | None:
    """Wait for a signal (None), or for a daemon that ends by itself; show the state meanwhile."""
    asked = asyncio.create_task(signals.get())
    ended = asyncio.create_task(farm.wait_for_any())
    showing = asyncio.create_task(_show(farm, output))
    try:
        await asyncio.wait((asked, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (asked, ended, showing):
            task.cancel()
        await asyncio.gather(asked, ended, showing, return_exceptions=True)
    if ended.cancelled() or ended.exception() is not None:
        return None
    return ended.result().name


async def _stop(farm: LocalFarm, signals: asyncio.Queue[int]) -> None:
    stopping = asyncio.create_task(farm.stop(timeout_s=None))
    again = asyncio.create_task(signals.get())
    await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await farm.kill()
    again.cancel()


async def _show(farm: LocalFarm, output: Output) -> None:
    """Keep one line up to date on a terminal; in a pipe, say it whenever it changes."""
    # Here, for the daemons are up sooner if the client is loaded after them.
    from rich.status import Status  # noqa: PLC0415

    from lineshaft.async_client import AsyncClient  # noqa: PLC0415

    token = (farm.home / "token").read_text().strip()
    last = ""
    with contextlib.suppress(LineshaftError):
        async with AsyncClient(farm.url, token=token, client_id="up") as client:
            if output.is_live:
                with Status("", console=output.err) as status:
                    async for line in _lines(client):
                        status.update(line)
            async for line in _lines(client):
                if line != last:
                    output.note(line)
                last = line


async def _lines(client: AsyncClient) -> AsyncGenerator[str]:
    while True:
        yield status_line(await client.info(), await client.workers())
        await asyncio.sleep(EVERY_S)


def status_line(info: JsonValue, workers: JsonValue) -> str:
    """Return the state of a small farm in one line."""
    match info:
        case {"live_jobs": int(live), "queued_jobs": int(queued), "jobs": dict(counts)}:
            ended = {name: count for name, count in counts.items() if name in _ENDED and count}
            parts = [f"{live - queued} running", f"{queued} queued"]
            parts += [f"{count} {name}" for name, count in ended.items()]
        case _:
            parts = []
    here = len(workers) if isinstance(workers, list) else 0
    return f"{here} worker{'' if here == 1 else 's'}: {', '.join(parts)}"


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


_ENDED = ("succeeded", "failed", "cancelled")
