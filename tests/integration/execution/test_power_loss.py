"""Ends that nobody took outlive a loss of power, with their results and what was told."""

import os
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, until, value_of
from tests.integration.execution.power import Disk

from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.execution.reports import Failed
from lineshaft_worker.runner.files import attempt_file, save_end

TELLING = """
from lineshaft import run

for step in range(500):
    print("line", step)
    run.progress(step, 500)
run.result(b"x" * 100_000)
"""


def refuse() -> None:
    raise ValueError("no")


def saved_in(folder: Path) -> list[Path]:
    return list(folder.glob("runners/*/a*.ended"))


async def rebooted(folder: Path, disk: Disk) -> ExecutionBench:
    disk.lose_power(folder / "runners")
    bench = ExecutionBench(folder)
    await bench.execution.open()
    return bench


async def test_ends_that_nobody_took_are_told_after_a_loss_of_power(state_folder: Path) -> None:
    disk = Disk()
    before = ExecutionBench(state_folder, sync=disk.sync)
    await before.execution.open()
    keys = [
        before.run({"job.py": TELLING}, "job.py"),
        before.call(bytes, 100_000, lane=1),
        before.call(bytes, 3, lane=1),
        before.call(refuse, lane=1),
    ]
    told = [await before.ended(key) for key in keys]
    await until(lambda: len(saved_in(state_folder)) == len(keys))
    await before.close()

    after = await rebooted(state_folder, disk)
    found = [await after.ended(key) for key in keys]

    assert [value_of(end) for end in found[:3]] == [b"x" * 100_000, bytes(100_000), bytes(3)]
    assert isinstance(found[3].outcome, Failed)
    assert [end.run_s for end in found] == [end.run_s for end in told]
    assert after.events(keys[0]) == before.events(keys[0]), "same events, same numbers"
    for key in keys:
        after.execution.settled(key)
    await after.close()
    assert list((state_folder / "runners").iterdir()) == []


async def test_what_is_settled_at_once_costs_no_sync(state_folder: Path) -> None:
    disk = Disk()
    bench = ExecutionBench(state_folder, sync=disk.sync)
    await bench.execution.open()

    for _ in range(20):
        key = bench.call(bytes, 3)
        await bench.ended(key)
        bench.execution.settled(key)
    await bench.close()

    assert disk.count == 0
    assert saved_in(state_folder) == []


async def test_an_attempt_settled_while_it_is_saved_leaves_nothing(state_folder: Path) -> None:
    settled: list[AttemptKey] = []

    def slow(descriptor: int) -> None:
        del descriptor
        while not settled:
            os.sched_yield()

    bench = ExecutionBench(state_folder, sync=slow)
    await bench.execution.open()
    key = bench.call(bytes, 100_000)
    await bench.ended(key)
    await until(lambda: bench.execution._safe._saving)

    bench.execution.settled(key)
    settled.append(key)
    await bench.close()

    assert bench.execution.unsettled() == []
    assert list((state_folder / "runners").iterdir()) == []


def test_the_name_of_an_end_comes_last(tmp_path: Path) -> None:
    (tmp_path / "runner").mkdir()
    folder = str(tmp_path / "runner")
    Path(attempt_file(folder, 7, "result")).write_bytes(b"result")
    Path(f"{folder}/stdout.log").write_bytes(b"said")
    disk = Disk()
    calls = 0

    def break_at(limit: int) -> None:
        nonlocal calls
        calls = 0

        def sync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise OSError(5, "the disk is gone")
            disk.sync(descriptor)

        save_end(folder, 7, b"end", sync)

    for limit in range(3):  # The result, the output, the end itself.
        with pytest.raises(OSError, match="gone"):
            break_at(limit)
        assert not Path(attempt_file(folder, 7, "ended")).exists()
    break_at(100)
    disk.lose_power(tmp_path)

    assert Path(attempt_file(folder, 7, "ended")).read_bytes() == b"end"
    assert Path(attempt_file(folder, 7, "result")).read_bytes() == b"result"
    assert Path(f"{folder}/stdout.log").read_bytes() == b"said"
