"""A shim ends what it watches over when its lease is over, whatever became of the daemon."""

import os
import time
from pathlib import Path

from tests.integration.execution.doomed_daemon import LEASE_S
from tests.integration.execution.execution_bench import (
    ExecutionBench,
    is_alive,
    processes_of,
    until,
    value_of,
)
from tests.integration.execution.test_adoption import FIRST, adopted, daemon_running

from lineshaft_worker.execution.endings import LEASE_OVER
from lineshaft_worker.execution.leases import LeasePage
from lineshaft_worker.execution.reports import Stopped


def wait_for(path: str) -> int:
    """User code that ends when a file is there."""
    while not Path(path).exists():
        time.sleep(0.005)
    return os.getpid()


async def passes(seconds: float) -> None:
    """Wait until so much time has passed for everybody."""
    by = time.monotonic() + seconds
    await until(lambda: time.monotonic() > by)


async def test_what_a_dead_daemon_left_ends_with_its_lease_and_the_next_one_says_why(
    state_folder: Path, tmp_path: Path
) -> None:
    async with daemon_running(state_folder, "leased", tmp_path / "go"):
        left = processes_of(state_folder)
    # What is ending has no environment any more, and is not gone yet.
    await until(lambda: not any(map(is_alive, left)))

    bench, found = await adopted(state_folder)
    ended = await bench.ended(FIRST)
    bench.execution.settled(FIRST)
    await bench.close()

    assert left
    assert found == []
    assert (ended.outcome, ended.processes_gone) == (Stopped(LEASE_OVER), True)


async def test_a_daemon_that_is_back_in_time_keeps_what_runs(
    state_folder: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with daemon_running(state_folder, "leased", go):
        runners = processes_of(state_folder)

    bench, found = await adopted(state_folder)
    page = LeasePage.open(state_folder)
    since = page.since()
    by = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < by:
        page.renew(time.monotonic(), 600.0)
        await passes(0.05)
    go.touch()

    assert found == [(FIRST, 0)]
    assert since is not None
    assert since < by - 2 * LEASE_S, "leases count from what the dead one heard"
    assert value_of(await bench.ended(FIRST)) in runners
    await bench.close()
    page.close()


async def test_a_shorter_lease_counts_from_its_first_moment(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    page = LeasePage.open(bench.state_folder)
    page.renew(time.monotonic(), 600.0)
    await bench.value(bench.call(os.getpid, lease_s=600.0))
    page.renew(time.monotonic(), 600.0)

    key = bench.call(wait_for, str(tmp_path / "go"), lease_s=0.3, lease_grace_s=0.1)

    assert (await bench.ended(key)).outcome == Stopped(LEASE_OVER)
    page.close()


async def test_attempts_that_were_given_without_a_lease_have_the_general_one(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    page = LeasePage.open(bench.state_folder)
    page.renew(time.monotonic(), 0.3)

    key = bench.call(wait_for, str(tmp_path / "go"), lease_grace_s=0.1)

    assert (await bench.ended(key)).outcome == Stopped(LEASE_OVER)
    page.close()


async def test_a_runner_that_executes_nothing_outlasts_any_lease(bench: ExecutionBench) -> None:
    page = LeasePage.open(bench.state_folder)
    page.renew(time.monotonic(), 600.0)
    lease = {
        "lease_s": 2.0,
        "lease_grace_s": 0.1,
    }  # Enough for a runner to start, on a busy machine.
    first = await bench.value(bench.call(os.getpid, **lease))

    await passes(2.5)
    page.renew(time.monotonic(), 600.0)

    assert await bench.value(bench.call(os.getpid, **lease)) == first
    page.close()


async def test_where_nobody_ever_answered_nothing_is_ended(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    key = bench.call(wait_for, str(go), lease_s=0.1, lease_grace_s=0.1)

    await passes(0.5)
    go.touch()

    assert isinstance(await bench.value(key), int)


def test_a_page_of_another_boot_says_nothing(tmp_path: Path) -> None:
    page = LeasePage.open(tmp_path)
    page.renew(time.monotonic(), 600.0)
    page.close()
    again = LeasePage.open(tmp_path)
    assert again.since() is not None
    again.close()
    text = bytearray((tmp_path / "leases").read_bytes())
    text[16:24] = b"another-"
    (tmp_path / "leases").write_bytes(text)

    other = LeasePage.open(tmp_path)

    assert other.since() is None
    other.close()
