"""What a runner keeps of one attempt for the next, and what it must not."""

import os
from pathlib import Path

from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft_worker.execution.cgroups import Cgroups

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
