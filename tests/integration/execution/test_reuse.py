"""What a runner keeps of one attempt for the next, and what it must not."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.execution.execution_bench import ExecutionBench, processes_of, until

from lineshaft_worker.execution.cgroups import Cgroups
from lineshaft_worker.execution.reports import (
    AttemptBegan,
    AttemptEnded,
    AttemptReturned,
    Stopped,
)

LARGE = "x" * 100_000


class _Sore:
    """Cannot be loaded; large enough to travel in a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_refuse, (LARGE,))


def _refuse(_: str) -> None:
    raise ModuleNotFoundError("No module named 'torch'")


async def test_a_large_function_that_cannot_be_loaded_says_why_each_time(
    bench: ExecutionBench,
) -> None:
    sore = _Sore()
    for _ in range(2):
        key = bench.call(lambda: sore)
        failure = await bench.failure(key)
        folder = next((bench.state_folder / "runners").iterdir())
        bench.execution.settled(key)
        # The file that brought the function went with its attempt.
        await until(lambda folder=folder: not list(folder.glob("*.code")))  # type: ignore[misc]

        assert (failure.cause, failure.type_name) == ("unpickle", "ModuleNotFoundError")


async def test_a_function_whose_first_call_could_not_be_written_is_sent_with_the_next(
    bench: ExecutionBench,
) -> None:
    await bench.value(bench.call(os.getpid))
    gone = Path("/nowhere", "b" * 64)

    failure = await bench.failure(bench.call(len, "abc", files=(gone,)))

    assert failure.cause == "start"
    assert await bench.value(bench.call(len, "abc")) == 3


async def test_a_runner_that_cannot_be_made_leaves_no_control_group(
    state_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "cgroup"
    root.mkdir()
    bench = ExecutionBench(state_folder, cgroups=Cgroups(root))
    await bench.execution.open()

    failure = await bench.failure(bench.call(len, "abc", env={"LONG": "x" * 1_000_000}))
    await bench.execution.close(keep_running=False)

    assert failure.cause == "start"
    assert list(root.iterdir()) == []


def _wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return "went on"


async def test_a_call_that_is_taken_back_leaves_its_function_and_no_other_file(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    blob, go = tmp_path / "blob", tmp_path / "go"
    blob.touch()
    await bench.value(bench.call(os.getpid))
    running = bench.call(_wait_for, str(go))

    def measure(text: str, large: str = LARGE) -> int:
        return len(text) + len(large)

    given = [bench.call(measure, LARGE, files=(blob,)) for _ in range(2)]
    (folder,) = (bench.state_folder / "runners").iterdir()
    assert len(list(folder.glob("*.payload"))) == len(list(folder.glob("*.blobs"))) == 2

    bench.execution.stop(given[0], 0.0)
    bench.execution.revoke(given[1])
    assert (await bench.ended(given[0])).outcome == Stopped()
    bench.execution.settled(given[0])
    await bench.returned(given[1])

    await until(lambda: not [*folder.glob("*.payload"), *folder.glob("*.blobs")])
    go.touch()
    assert await bench.value(running) == "went on"
    # The runner loads it from the file that the first of them brought.
    assert await bench.value(bench.call(measure, "abc")) == len(LARGE) + 3


async def test_a_shim_that_cannot_be_watched_is_not_left(
    bench: ExecutionBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int, _flags: int = 0) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pidfd_open", refuse)
        failure = await bench.failure(bench.call(len, "abc"))

    assert failure.cause == "start"
    assert processes_of(bench.state_folder) == []
    assert await bench.value(bench.call(len, "abc")) == 3


async def test_a_call_that_got_lost_with_the_connection_is_given_back(
    bench: ExecutionBench,
) -> None:
    await bench.value(bench.call(os.getpid))
    (host,) = bench.execution._hosts.values()
    runner = host.process.runner_pid()
    # So that it cannot call again before there is something to lose.
    os.kill(runner, signal.SIGSTOP)
    host.hang_up()
    lost = bench.call(len, "abc")
    # It wants a runner of its own, so it is not given to this one after the other.
    behind = bench.run({"job.py": "print('went on')"}, "job.py")
    os.kill(runner, signal.SIGCONT)

    await bench.returned(lost)

    await bench.ended(behind)
    assert bench.text(behind) == "went on\n"
    assert await bench.value(bench.call(len, "abcd")) == 4
    assert not bench.of(AttemptEnded, lost)


def _wait_and_leave_a_child(path: str) -> str:
    subprocess.Popen(["sleep", "600"])
    return _wait_for(path)


@pytest.mark.parametrize("function", [_wait_for, _wait_and_leave_a_child])
async def test_a_call_that_ended_without_a_connection_is_not_given_back(
    bench: ExecutionBench, tmp_path: Path, function: Callable[[str], str]
) -> None:
    key = bench.call(function, str(tmp_path / "go"))
    await until(lambda: bench.of(AttemptBegan, key))
    (host,) = bench.execution._hosts.values()
    host.hang_up()
    (tmp_path / "go").touch()

    assert await bench.value(key) == "went on"
    assert await bench.value(bench.call(len, "abcd")) == 4
    assert not bench.of(AttemptReturned)


def _say(word: str, wanted: str, said: str) -> None:
    _wait_for(wanted)
    print(word, flush=True)
    Path(said).touch()


async def test_words_of_the_next_call_are_not_taken_for_those_of_the_one_before(
    bench: ExecutionBench, tmp_path: Path
) -> None:
    go, said, last = (str(tmp_path / name) for name in ("go", "said", "last"))
    keys = [bench.call(_say, "first", go, said), bench.call(_say, "second", said, last)]
    await until(lambda: bench.of(AttemptBegan, keys[0]))
    attempt = bench.execution._attempts[keys[0]]
    Path(go).touch()  # noqa: ASYNC240 - it holds up the loop on purpose
    _wait_for(last)  # The end of the first is in the socket, where nobody has read it.

    bench.execution.feed.poll(attempt)

    for key in keys:
        await bench.ended(key)
    assert [bench.text(key) for key in keys] == ["first\n", "second\n"]
