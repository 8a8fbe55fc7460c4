"""Stop means gone: no process of the attempt is left when its end is reported."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, is_alive, until

from lineshaft_worker.execution.cgroups import Cgroups
from lineshaft_worker.execution.orders import Shape
from lineshaft_worker.execution.reports import AttemptBegan, AttemptEnded, Stopped, Succeeded

# Starts children that do all they can to stay, prints their numbers, and waits.
HIDING = """
import os, subprocess, sys

# Its own session, and nothing in its environment says whose it is.
child = subprocess.Popen(["/bin/sleep", "1000"], env={}, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""
STUBBORN = """
import os, signal, subprocess, sys, time

def stay(after):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    after()
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(300)

def double_fork():
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)

for after in (lambda: None, os.setsid, double_fork, lambda: os.environ.clear()):
    if os.fork() == 0:
        stay(after)
while open("pids", "a+").tell() == 0 or len(open("pids").read().split()) < 4:
    time.sleep(0.01)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), *open("pids").read().split(), flush=True)
time.sleep(300)
"""


async def stubborn_pids(bench: ExecutionBench, key: object) -> list[int]:
    def printed() -> list[int]:
        return [int(word) for word in bench.text(key).split()]  # type: ignore[arg-type]

    return await until(lambda: printed() if len(printed()) == 5 else None)


async def test_no_child_survives_a_stop_whatever_it_tried(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": STUBBORN}, "job.py")
    pids = await stubborn_pids(bench, key)
    assert all(map(is_alive, pids))

    begin = time.monotonic()
    bench.execution.stop(key, 0.3)
    ended = await bench.ended(key)

    assert (ended.outcome, ended.processes_gone) == (Stopped(), True)
    assert not any(map(is_alive, pids))
    assert 0.3 <= time.monotonic() - begin < 0.3 + 2.0


async def test_children_are_gone_too_when_the_job_itself_ends(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": STUBBORN}, "job.py")
    pids = await stubborn_pids(bench, key)

    os.kill(pids[0], signal.SIGKILL)
    await bench.ended(key)

    assert not any(map(is_alive, pids))


async def test_a_job_may_use_its_grace_and_its_result_counts(bench: ExecutionBench) -> None:
    program = """
import signal, threading
from lineshaft import run

def leave(*_):
    run.result("saved")
    raise SystemExit(0)

signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
threading.Event().wait(60)
"""
    key = bench.run({"job.py": program}, "job.py")
    await until(lambda: "ready" in bench.text(key))

    bench.execution.stop(key, 10.0)

    assert await bench.value(key) == "saved"


async def test_a_shorter_grace_replaces_a_longer_one(bench: ExecutionBench) -> None:
    key = bench.run({"job.py": STUBBORN}, "job.py")
    await stubborn_pids(bench, key)

    bench.execution.stop(key, 60.0)
    bench.execution.stop(key, 0.0)

    assert (await bench.ended(key)).outcome == Stopped()


async def test_a_call_in_a_warm_runner_is_stopped_and_those_behind_it_are_returned(
    bench: ExecutionBench,
) -> None:
    await bench.value(bench.call(os.getpid))
    running = bench.call(time.sleep, 60)
    behind = bench.call(os.getpid)
    await until(lambda: bench.of(AttemptBegan, running))

    bench.execution.stop(running, 0.0)

    assert (await bench.ended(running)).outcome == Stopped()
    await bench.returned(behind)
    assert isinstance(await bench.value(bench.call(os.getpid)), int)


async def test_a_stop_while_the_gil_is_held_is_not_slower(bench: ExecutionBench) -> None:
    def hold_gil() -> None:
        ctypes.PyDLL(None).sleep(60)

    key = bench.call(hold_gil)
    await until(lambda: bench.of(AttemptBegan, key))

    begin = time.monotonic()
    bench.execution.stop(key, 0.0)
    await bench.ended(key)

    assert time.monotonic() - begin < 1.0


async def test_what_has_not_begun_is_stopped_without_a_process(bench: ExecutionBench) -> None:
    await bench.value(bench.call(os.getpid))
    running = bench.call(time.sleep, 0.3)
    given = bench.call(os.getpid)
    waiting = bench.run({"job.py": ""}, "job.py")

    bench.execution.stop(given, 5.0)
    bench.execution.stop(waiting, 5.0)

    assert (await bench.ended(given)).outcome == Stopped()
    assert (await bench.ended(waiting)).outcome == Stopped()
    assert isinstance((await bench.ended(running)).outcome, Succeeded)


async def test_a_call_that_has_not_begun_can_be_taken_back_and_one_that_has_cannot(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    def wait() -> str:
        while not (tmp_path / "go").exists():
            pass
        return "went"

    await bench.value(bench.call(os.getpid))
    running = bench.call(wait)
    given = bench.call(os.getpid)
    await until(lambda: bench.of(AttemptBegan, running))

    bench.execution.revoke(running)
    bench.execution.revoke(given)

    await bench.returned(given)
    assert not bench.of(AttemptEnded, running)
    (tmp_path / "go").touch()
    assert await bench.value(running) == "went"
    assert not bench.of(AttemptEnded, given)


async def test_the_next_job_starts_only_when_no_process_of_the_last_is_left(
    bench: ExecutionBench,
) -> None:
    first = bench.run({"job.py": STUBBORN}, "job.py", devices=("GPU-1",))
    pids = await stubborn_pids(bench, first)

    bench.execution.stop(first, 0.5)
    check = bench.call(lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()])

    assert await bench.value(check) == []


async def test_a_prepared_runner_serves_the_next_call(bench: ExecutionBench) -> None:
    shape = Shape(devices=("GPU-1",))
    bench.execution.prepare(0, shape)
    (folder,) = (bench.state_folder / "runners").iterdir()
    pid_file = folder / "runner.pid"
    await until(pid_file.exists)

    pid = await bench.value(bench.call(os.getpid, devices=("GPU-1",)))

    assert pid == int(pid_file.read_text())


async def test_a_prepared_runner_gives_way_to_one_of_another_shape(bench: ExecutionBench) -> None:
    bench.execution.prepare(0)
    bench.execution.prepare(0, Shape(devices=("GPU-1",)))

    pid = await bench.value(bench.call(os.getpid, devices=("GPU-1",)))

    assert isinstance(pid, int)
    await until(lambda: len(list((bench.state_folder / "runners").iterdir())) == 1)


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/unified/cgroup.procs", os.W_OK), reason="no writable cgroup v2"
)
async def test_a_cgroup_is_killed_whole_and_removed(state_folder: Path) -> None:
    group = Path("/sys/fs/cgroup/unified", f"lineshaft-test-{os.getpid()}")
    group.mkdir()
    try:
        bench = ExecutionBench(state_folder, cgroups=Cgroups(group))
        await bench.execution.open()
        key = bench.run({"job.py": STUBBORN}, "job.py")
        pids = await stubborn_pids(bench, key)
        (own,) = [path for path in group.iterdir() if path.is_dir()]
        members = {int(line) for line in (own / "cgroup.procs").read_text().split()}

        bench.execution.stop(key, 0.0)
        await bench.ended(key)
        await bench.close()

        assert set(pids) <= members
        assert not any(map(is_alive, pids))
        assert not own.exists()
    finally:
        group.rmdir()


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/unified/cgroup.procs", os.W_OK), reason="no writable cgroup v2"
)
async def test_what_a_killed_shim_leaves_is_killed_by_its_group(state_folder: Path) -> None:
    place = Path("/sys/fs/cgroup/unified", f"lineshaft-test-{os.getpid()}-2")
    place.mkdir()
    try:
        bench = ExecutionBench(state_folder, cgroups=Cgroups(place))
        await bench.execution.open()
        key = bench.run({"job.py": HIDING}, "job.py")
        (hidden,) = await until(lambda: [int(x) for x in bench.text(key).split()[:1]])
        (folder,) = (state_folder / "runners").iterdir()

        os.kill(int((folder / "shim.pid").read_text().split()[0]), 9)
        await bench.ended(key)
        await until(lambda: not is_alive(hidden))
        await bench.close()
    finally:
        for left in place.iterdir():
            if left.is_dir():
                left.rmdir()
        place.rmdir()
