"""A runner stays on the CPUs near its GPUs."""

import os

from tests.integration.execution.execution_bench import ExecutionBench


def where() -> list[int]:
    import os  # noqa: PLC0415 - executed elsewhere

    return sorted(os.sched_getaffinity(0))


async def test_an_attempt_runs_on_the_cpus_near_its_gpus_and_the_daemon_on_all(
    bench: ExecutionBench,
) -> None:
    ours = sorted(os.sched_getaffinity(0))

    near = await bench.value(bench.call(where, cpus=(ours[-1],)))
    anywhere = await bench.value(bench.call(where, lane=1))

    assert near == [ours[-1]]
    assert anywhere == ours == sorted(os.sched_getaffinity(0))
