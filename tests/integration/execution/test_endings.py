"""Every way in which an attempt can end has its typed outcome, and the lane goes on."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest
from tests.integration.execution.execution_bench import ExecutionBench, is_alive, until, value_of

from lineshaft_worker.execution.process import Launch
from lineshaft_worker.execution.reports import AttemptBegan, AttemptEnded, ResultFile, Succeeded


def add(left: int, right: int) -> int:
    return left + right


async def test_a_function_returns_its_value(bench: ExecutionBench) -> None:
    assert await bench.value(bench.call(add, 2, 3)) == 5


async def test_functions_share_a_runner_and_its_code(bench: ExecutionBench) -> None:
    keys = [bench.call(os.getpid) for _ in range(3)]

    pids = {await bench.value(key) for key in keys}

    assert len(pids) == 1
    assert os.getpid() not in pids


async def test_a_large_argument_and_a_large_result_go_through_files(bench: ExecutionBench) -> None:
    key = bench.call(lambda data: data[::-1], b"ab" * 500_000)

    ended = await bench.ended(key)

    assert value_of(ended) == b"ba" * 500_000
    assert isinstance(ended.outcome, Succeeded)
    assert isinstance(ended.outcome.result, ResultFile)
    path = ended.outcome.result.path
    assert ended.outcome.result.size_bytes == path.stat().st_size
    bench.execution.settled(key)
    await until(lambda: not path.exists())


async def test_an_exception_comes_with_type_traceback_and_pickle(bench: ExecutionBench) -> None:
    def divide() -> float:
        print("about to divide")
        return 1 / 0

    failure = await bench.failure(bench.call(divide))

    assert (failure.cause, failure.type_name) == ("exception", "ZeroDivisionError")
    assert failure.message == "division by zero"
    assert "in divide" in failure.traceback
    assert "loop.py" not in failure.traceback
    assert failure.pickled is not None
    assert isinstance(cloudpickle.loads(failure.pickled), ZeroDivisionError)
    assert failure.last_lines == ("about to divide",)


@pytest.mark.parametrize(("code", "status"), [(3, 3), (None, 0), ("bad luck", 1)])
async def test_sys_exit_in_a_function_is_an_exit_and_the_runner_stays(
    bench: ExecutionBench, code: object, status: int
) -> None:
    before = await bench.value(bench.call(os.getpid))

    failure = await bench.failure(bench.call(sys.exit, code))

    assert (failure.cause, failure.exit_code) == ("exit", status)
    assert await bench.value(bench.call(os.getpid)) == before


async def test_a_keyboard_interrupt_of_the_users_is_an_exception(bench: ExecutionBench) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt("mine")

    failure = await bench.failure(bench.call(interrupt))

    assert (failure.cause, failure.type_name) == ("exception", "KeyboardInterrupt")


async def test_os_exit_is_an_exit_and_the_next_call_gets_a_new_runner(
    bench: ExecutionBench,
) -> None:
    before = await bench.value(bench.call(os.getpid))

    failure = await bench.failure(bench.call(os._exit, 7))

    assert (failure.cause, failure.exit_code) == ("exit", 7)
    assert await bench.value(bench.call(os.getpid)) != before


async def test_a_segfault_is_a_signal_and_says_where(bench: ExecutionBench) -> None:
    failure = await bench.failure(bench.call(ctypes.string_at, 0))

    assert (failure.cause, failure.signal_name) == ("signal", "SIGSEGV")
    assert any("Segmentation fault" in line for line in failure.last_lines)


async def test_calls_behind_a_crash_are_returned_not_failed(bench: ExecutionBench) -> None:
    await bench.value(bench.call(add, 1, 1))
    crash = bench.call(os._exit, 1)
    behind = [bench.call(add, 1, n) for n in range(3)]

    await bench.failure(crash)

    for key in behind:
        await bench.returned(key)


async def test_arguments_that_cannot_be_unpickled_are_named(bench: ExecutionBench) -> None:
    failure = await bench.failure(bench.call(add, payload=b"no packed value"))

    assert failure.cause == "unpickle"
    assert "packed value" in failure.message


async def test_a_result_that_cannot_be_pickled_is_named(bench: ExecutionBench) -> None:
    failure = await bench.failure(bench.call(threading.Lock))

    assert failure.cause == "result"
    assert "lock" in failure.message


async def test_a_call_that_takes_too_long_times_out(bench: ExecutionBench) -> None:
    def sleep() -> None:
        threading.Event().wait(60)

    failure = await bench.failure(bench.call(sleep, run_s=0.2))

    assert (failure.cause, failure.message) == (
        "timeout",
        "it ran longer than its timeout of 0.2 s",
    )


async def test_more_memory_than_allowed_is_out_of_memory(bench: ExecutionBench) -> None:
    def fill() -> None:
        data = bytearray(300 * 2**20)
        threading.Event().wait(60)
        del data

    failure = await bench.failure(bench.call(fill, memory_bytes=200 * 2**20))

    assert failure.cause == "oom"
    assert "200 MiB" in failure.message


async def test_the_most_memory_in_use_is_reported(bench: ExecutionBench) -> None:
    def fill() -> int:
        data = bytearray(b"x") * (150 * 2**20)
        threading.Event().wait(0.05)
        return len(data)

    large = await bench.ended(bench.call(fill))
    small = await bench.ended(bench.call(lambda: threading.Event().wait(0.05)))

    assert large.peak_memory_bytes is not None
    assert large.peak_memory_bytes > 150 * 2**20
    assert small.peak_memory_bytes is not None
    assert small.peak_memory_bytes < 150 * 2**20


async def test_a_kill_by_somebody_else_is_a_signal_not_out_of_memory(
    bench: ExecutionBench,
) -> None:
    failure = await bench.failure(bench.call(lambda: os.kill(os.getpid(), signal.SIGKILL)))

    assert (failure.cause, failure.signal_name) == ("signal", "SIGKILL")


async def test_a_killed_shim_takes_its_runner_along(bench: ExecutionBench) -> None:
    pid = await bench.value(bench.call(os.getpid))

    def kill_shim() -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait(60)

    failure = await bench.failure(bench.call(kill_shim))

    assert failure.cause == "signal"
    assert isinstance(pid, int)
    await until(lambda: not is_alive(pid))


async def test_children_that_a_call_left_are_gone_before_its_end_is_reported(
    bench: ExecutionBench,
) -> None:
    def leave_child() -> int:
        return subprocess.Popen(["sleep", "300"], start_new_session=True).pid

    ended = await bench.ended(bench.call(leave_child))

    child = value_of(ended)
    assert isinstance(child, int)
    assert not is_alive(child)
    assert ended.processes_gone


async def test_a_forked_child_that_returns_is_not_a_second_runner(bench: ExecutionBench) -> None:
    def fork() -> str:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return "parent" if pid else "child"

    key = bench.call(fork)

    assert await bench.value(key) == "parent"
    # That it began is told of an attempt that is not over at once.
    assert sum(isinstance(each, AttemptEnded) for each in bench.reports) == 1


async def test_an_interpreter_that_is_not_there_is_a_failed_start(state_folder: Path) -> None:
    bench = ExecutionBench(state_folder, interpreter_of=lambda _key: Launch(Path("/no/such")))  # type: ignore[arg-type]
    await bench.execution.open()

    failure = await bench.failure(bench.call(add, 1, 1))
    await bench.close()

    assert failure.cause == "start"
    assert "/no/such" in "".join(failure.last_lines)


async def test_a_long_call_says_that_it_began_and_a_short_one_does_not(
    bench: ExecutionBench,
) -> None:
    pid = await bench.value(bench.call(os.getpid))
    long = bench.call(lambda: threading.Event().wait(0.2))
    await bench.ended(long)

    assert [(report.key, report.pid) for report in bench.of(AttemptBegan)] == [(long, pid)]


async def test_a_coroutine_function_is_run_to_its_end(bench: ExecutionBench) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    assert await bench.value(bench.call(double, 21)) == 42


async def test_devices_are_visible_by_their_names_and_none_hides_all(
    bench: ExecutionBench,
) -> None:
    def visible() -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert await bench.value(bench.call(visible)) == ""
    assert await bench.value(bench.call(visible, devices=("GPU-1", "GPU-2"))) == "GPU-1,GPU-2"


async def test_variables_of_one_call_are_not_in_the_environment_of_the_next(
    bench: ExecutionBench,
) -> None:
    def secret() -> str | None:
        return os.environ.get("SECRET")

    assert await bench.value(bench.call(secret, env={"SECRET": "s3"})) == "s3"
    assert await bench.value(bench.call(secret)) is None
