"""A daemon that was killed is followed by one that finds everything as it was."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import (
    ExecutionBench,
    is_alive,
    processes_of,
    until,
    value_of,
)

from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.execution.reports import AttemptEnded, Failed, Stopped
from lineshaft_worker.execution.state_folder import StateFolderInUseError

ROOT = Path(__file__).parents[3]
FIRST = AttemptKey("job-1", 1)


@asynccontextmanager
async def daemon_running(folder: Path, scenario: str, go: Path) -> AsyncIterator[None]:
    """Have a daemon running with attempts under way, and kill it at the end of the block."""
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.execution.doomed_daemon",
        str(folder),
        scenario,
        str(go),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert daemon.stdout is not None
        line = await asyncio.wait_for(daemon.stdout.readline(), 20)
        assert line.startswith(b"under way"), line
        yield
    finally:
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()


@pytest.fixture
def go(tmp_path: Path) -> Path:
    return tmp_path / "go"


async def adopted(folder: Path) -> tuple[ExecutionBench, list[tuple[AttemptKey, int]]]:
    bench = ExecutionBench(folder)
    found = await bench.execution.open()
    return bench, [(each.key, each.lane) for each in found]


async def test_a_pipeline_goes_on_in_the_same_process_with_nothing_lost(
    state_folder: Path, go: Path
) -> None:
    async with daemon_running(state_folder, "pipeline", go):
        pass
    runners = processes_of(state_folder)

    bench, found = await adopted(state_folder)
    go.touch()
    ended = await bench.ended(FIRST)

    assert found == [(FIRST, 0)]
    assert value_of(ended) in runners
    events = dict.fromkeys(seq for seq, _, _ in bench.events(FIRST))
    assert list(events) == list(range(min(events), max(events) + 1))
    steps = [body["step"] for _, kind, body in bench.events(FIRST) if kind == "progress"]
    assert steps[-100:] == list(range(100, 200))
    assert "line 199\n" in bench.text(FIRST)
    await bench.close()


async def test_a_pipeline_that_ends_without_a_daemon_is_reported_by_the_next(
    state_folder: Path, go: Path
) -> None:
    async with daemon_running(state_folder, "pipeline", go):
        pass
    go.touch()
    await until(lambda: not processes_of(state_folder))

    bench, found = await adopted(state_folder)
    ended = await bench.ended(FIRST)

    assert found == []
    assert isinstance(value_of(ended), int)
    steps = [body["step"] for _, kind, body in bench.events(FIRST) if kind == "progress"]
    assert steps[-100:] == list(range(100, 200))
    bench.execution.settled(FIRST)
    await bench.close()
    assert list((state_folder / "runners").iterdir()) == []


async def test_a_call_goes_on_and_those_that_had_not_begun_are_forgotten(
    state_folder: Path, go: Path
) -> None:
    async with daemon_running(state_folder, "function", go):
        pass

    bench, found = await adopted(state_folder)
    go.touch()

    assert found == [(FIRST, 3)]
    assert value_of(await bench.ended(FIRST)) == "went on"
    await bench.close()
    assert [report.key for report in bench.of(AttemptEnded)] == [FIRST]


async def test_a_call_that_ends_without_a_daemon_is_reported_by_the_next(
    state_folder: Path, go: Path
) -> None:
    async with daemon_running(state_folder, "function", go):
        pass
    go.touch()
    await until(lambda: not processes_of(state_folder))

    bench, found = await adopted(state_folder)

    assert found == []
    assert value_of(await bench.ended(FIRST)) == "went on"
    await bench.close()
    assert [report.key for report in bench.of(AttemptEnded)] == [FIRST]


async def test_results_that_were_not_settled_are_reported_again(
    state_folder: Path, go: Path
) -> None:
    async with daemon_running(state_folder, "unsettled", go):
        pass

    bench, found = await adopted(state_folder)

    assert found == [(AttemptKey("job-3", 1), 0)]
    assert value_of(await bench.ended(FIRST)) == bytes(3)
    assert value_of(await bench.ended(AttemptKey("job-2", 1))) == bytes(100_000)
    assert not bench.of(AttemptEnded, AttemptKey("job-3", 1))
    go.touch()
    assert value_of(await bench.ended(AttemptKey("job-3", 1))) == "went on"
    await bench.close()


async def test_what_was_settled_is_not_reported_again(state_folder: Path, go: Path) -> None:
    async with daemon_running(state_folder, "settled", go):
        pass

    await until(lambda: not processes_of(state_folder))
    bench, found = await adopted(state_folder)
    await bench.ended(AttemptKey("job-2", 1))
    await bench.close()

    assert found == []
    assert [report.key.job_id for report in bench.of(AttemptEnded)] == ["job-2"]


async def test_an_adopted_attempt_can_be_stopped(state_folder: Path, go: Path) -> None:
    async with daemon_running(state_folder, "function", go):
        pass
    bench, _ = await adopted(state_folder)

    bench.execution.stop(FIRST, 0.0)
    ended = await bench.ended(FIRST)

    assert (ended.outcome, ended.processes_gone) == (Stopped(), True)
    assert processes_of(state_folder) == []
    await bench.close()


async def test_a_lane_with_an_adopted_attempt_takes_more(state_folder: Path, go: Path) -> None:
    async with daemon_running(state_folder, "function", go):
        pass
    bench, _ = await adopted(state_folder)
    bench._started = 10

    following = bench.call(os.getpid, lane=3)
    go.touch()

    assert isinstance(await bench.value(following), int)
    assert [report.key for report in bench.of(AttemptEnded)] == [FIRST, following]
    await bench.close()


async def test_everything_killed_at_once_is_reported_as_killed(
    state_folder: Path, go: Path
) -> None:
    async with daemon_running(state_folder, "function", go):
        pids = processes_of(state_folder)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(is_alive, pids)))

    bench, found = await adopted(state_folder)
    outcome = (await bench.ended(FIRST)).outcome

    assert found == []
    assert isinstance(outcome, Failed)
    assert (outcome.error.cause, outcome.error.signal_name) == ("signal", "SIGKILL")
    await bench.close()


async def test_attempts_of_before_a_reboot_are_not_judged(state_folder: Path, go: Path) -> None:
    async with daemon_running(state_folder, "function", go):
        pids = processes_of(state_folder)
    # The daemon is gone already: it must not see how they end, nor one of them another one's end.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    await until(lambda: not any(map(is_alive, pids)))
    (identity,) = state_folder.glob("runners/*/shim.pid")
    pid, started, _ = identity.read_text().split()
    identity.write_text(f"{pid} {started} another-boot")

    bench, found = await adopted(state_folder)
    await bench.close()

    assert (found, bench.reports) == ([], [])


async def test_a_daemon_that_leaves_keeps_what_runs(state_folder: Path, go: Path) -> None:
    leaving = ExecutionBench(state_folder)
    await leaving.execution.open()
    code = {"job.py": "import sys, time\nwhile True: time.sleep(0.01)"}
    key = leaving.run(code, "job.py")
    idle = leaving.call(os.getpid, lane=1)
    await leaving.value(idle)
    await until(lambda: leaving.of(type(leaving.reports[0]), key) or len(leaving.reports) > 1)

    await leaving.execution.close(keep_running=True)
    bench, found = await adopted(state_folder)

    assert found == [(key, 0)]
    bench.execution.stop(key, 0.0)
    assert (await bench.ended(key)).outcome == Stopped()
    await bench.close()
    del go


async def test_a_second_daemon_is_refused(bench: ExecutionBench) -> None:
    second = ExecutionBench(bench.state_folder)

    with pytest.raises(StateFolderInUseError, match="another worker daemon uses"):
        await second.execution.open()
