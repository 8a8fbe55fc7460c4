"""The whole demo: start a farm, have it work, check everything, and leave nothing behind."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path

from lineshaft.async_client import AsyncClient
from lineshaft.cli.exits import ExitCode, FailedError
from lineshaft.cli.local_farm import POLL_S, LocalFarm
from lineshaft.cli.output import Column, Output, duration
from lineshaft.demo import scenes
from lineshaft.demo.stage import Stage

WORKER_IDS = ["worker-1", "worker-2"]
CONNECTED_S = 30.0
COLUMNS = [
    Column("job"),
    Column("ran on"),
    Column("time", "right"),
    Column("accuracy", "right"),
]


def run_demo(output: Output, *, keeps: bool) -> ExitCode:
    """Run the demo and return whether everything was right.

    Args:
        output: Where it is shown.
        keeps: Whether the farm stays up for a look until Ctrl-C.

    Raises:
        FailedError: A daemon cannot start, or ended by itself.
        LineshaftError: A job failed.
    """
    return asyncio.run(_interruptible(output, keeps=keeps))


async def _interruptible(output: Output, *, keeps: bool) -> ExitCode:
    task = asyncio.create_task(_show(Stage(output), output, keeps=keeps))
    with _cancelled_by_signals(task):
        try:
            return await task
        except asyncio.CancelledError:
            output.error("interrupted; everything is stopped and removed")
            return ExitCode.INTERRUPTED


@contextmanager
def _cancelled_by_signals(task: asyncio.Task[ExitCode]) -> Generator[None]:
    """Let the first signal end the demo; while it tidies up, which is short, others do nothing."""
    loop = asyncio.get_running_loop()
    was_asked = False

    def cancel() -> None:
        nonlocal was_asked
        if not was_asked:
            was_asked = True
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _show(stage: Stage, output: Output, *, keeps: bool) -> ExitCode:
    started = time.monotonic()
    found: list[scenes.Scene] = []
    stage.say("lineshaft demo: a coordinator and two workers on this machine", style="bold")
    async with _farm(stage) as farm, _client(farm, stage) as client:
        _tell_api(farm, stage)
        found.append(await scenes.fit_and_score(client, stage))
        found.append(await scenes.sweep(client, stage, WORKER_IDS))
        found.append(await scenes.train_script(client, stage))
        farm.check()
        _tell_rows(found, stage)
        if keeps:
            await _until_interrupted(farm, stage)
    checks = [check for scene in found for check in scene.checks]
    for check in checks:
        if check.is_right:
            stage.done(check.text)
        else:
            stage.failed(check.text)
    is_right = all(check.is_right for check in checks)
    took_s = time.monotonic() - started
    if output.is_json:
        output.document(
            {
                "is_right": is_right,
                "took_s": round(took_s, 3),
                "jobs": [asdict(row) for scene in found for row in scene.rows],
                "checks": [asdict(check) for check in checks],
            }
        )
    end = "all is right" if is_right else "something is wrong"
    stage.say(f"{end}; everything is stopped and removed after {duration(took_s)}", style="bold")
    return ExitCode.OK if is_right else ExitCode.JOB_FAILED


@asynccontextmanager
async def _farm(stage: Stage) -> AsyncGenerator[LocalFarm]:
    home = Path(tempfile.mkdtemp(prefix="lineshaft-demo-"))
    farm = LocalFarm(home, logs=home / "logs")
    try:
        with stage.act("Coordinator") as act:
            for worker_id in WORKER_IDS:
                await farm.start_worker(worker_id, "--slots", "1", "--grace", "1")
            act.summary = await farm.start_coordinator()
        yield farm
    finally:
        # On Ctrl-C we are being cancelled, and the daemons must be gone all the same.
        await asyncio.shield(asyncio.ensure_future(_remove(farm)))


async def _remove(farm: LocalFarm) -> None:
    try:
        await farm.stop()
    finally:
        await asyncio.to_thread(shutil.rmtree, farm.home, ignore_errors=True)


@asynccontextmanager
async def _client(farm: LocalFarm, stage: Stage) -> AsyncGenerator[AsyncClient]:
    token = (farm.home / "token").read_text().strip()
    async with AsyncClient(farm.url, token=token, client_id="demo") as client:
        with stage.act("Workers") as act:
            await _connected(client, farm)
            await scenes.warm_up(client, WORKER_IDS)
            act.summary = " and ".join(WORKER_IDS)
        try:
            yield client
        except BaseException:
            # A worker that is told to stop finishes what it runs; nobody wants that any more.
            await _cancel_all(client)
            raise


async def _connected(client: AsyncClient, farm: LocalFarm) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CONNECTED_S):
            while True:
                workers = await client.workers()
                if isinstance(workers, list) and len(workers) == len(WORKER_IDS):
                    return
                farm.check()
                await asyncio.sleep(POLL_S)
    raise FailedError(f"the workers have not connected after {CONNECTED_S:g} s")


async def _cancel_all(client: AsyncClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(2):
            jobs = await client.jobs(status="live")
            for job in jobs if isinstance(jobs, list) else []:
                match job:
                    case {"job_id": str(job_id)}:
                        client.job(job_id).cancel("the demo was interrupted")
                    case _:
                        pass


async def _until_interrupted(farm: LocalFarm, stage: Stage) -> None:
    stage.say()
    stage.say("It stays up until Ctrl-C. From another terminal:")
    stage.command(f"export LINESHAFT_HOME={farm.home}")
    stage.command("lineshaft workers; lineshaft jobs; lineshaft top")
    daemon = await farm.wait_for_any()
    raise FailedError(f"{daemon.name} has ended by itself: {daemon.last_line()}")


def _tell_api(farm: LocalFarm, stage: Stage) -> None:
    url = farm.url.replace("ws://", "http://")
    stage.say("  It answers HTTP as well, while the demo runs (--keep keeps it running):")
    stage.command(f'curl -H "Authorization: Bearer $(cat {farm.home}/token)" {url}/api/v1/workers')


def _tell_rows(found: list[scenes.Scene], stage: Stage) -> None:
    rows = [row for scene in found for row in scene.rows]
    cells = [
        [
            row.what,
            row.worker_id,
            duration(row.run_s),
            "" if row.accuracy is None else f"{row.accuracy:.4f}",
        ]
        for row in rows
    ]
    stage.say()
    stage.table(COLUMNS, cells)
    stage.say()
