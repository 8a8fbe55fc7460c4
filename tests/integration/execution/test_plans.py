"""Plans in runners; their remote parts become child jobs that the daemon is asked for."""

import sys
from pathlib import Path

import cloudpickle
from tests.integration.execution.execution_bench import ExecutionBench, until

from lineshaft_protocol.seed.plans import Execute, Parallel, Remote, Tag
from lineshaft_runtime.plans.work import plan_payload, read_outcome
from lineshaft_worker.execution.reports import (
    AttemptEnded,
    ChildRequested,
    Failure,
    ResultFile,
    Succeeded,
)


class Scale:
    """A filter that multiplies, so that parts can be told apart."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def forward(self, x: object) -> object:
        return x * self.factor  # type: ignore[operator]


def two_remote_parts(x: object) -> bytes:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    plan = Parallel(
        plans=tuple(
            Remote(node_id=f"r{name}", target=Tag(name="gpu"), plan=Execute(node_id=name))
            for name in ("a", "b")
        )
    )
    edges: dict[str, tuple[str, ...]] = {"a": (), "b": ()}
    return b"".join(plan_payload(plan, x, filters={"a": Scale(2), "b": Scale(3)}, edges=edges))


def result_of(ended: AttemptEnded) -> bytes | Path:
    assert isinstance(ended.outcome, Succeeded), ended.outcome
    result = ended.outcome.result
    return result.path if isinstance(result, ResultFile) else result


async def plan_bench(bench: ExecutionBench, payload: bytes) -> object:
    """Run a plan on lane 0 and its parts, last one first, on lane 1."""
    key = bench.plan(payload)
    requests = await until(lambda: found if len(found := bench.of(ChildRequested)) == 2 else None)
    for request in reversed(requests):
        assert (request.key, request.target) == (key, {"tag": "gpu"})
        part = request.payload
        child = bench.plan(part.read_bytes() if isinstance(part, Path) else part, lane=1)
        answer = result_of(await bench.ended(child))
        bench.execution.answer_child(key, request.request, answer)
    result = result_of(await bench.ended(key))
    return read_outcome(result.read_bytes() if isinstance(result, Path) else result).output


async def test_parts_that_run_at_the_same_time_get_their_own_answers(
    bench: ExecutionBench,
) -> None:
    assert await plan_bench(bench, two_remote_parts(7)) == (14, 21)


async def test_large_parts_and_answers_go_through_files(bench: ExecutionBench) -> None:
    text = "x" * 100_000

    assert await plan_bench(bench, two_remote_parts(text)) == (text * 2, text * 3)


async def test_a_part_that_failed_elsewhere_fails_the_plan(bench: ExecutionBench) -> None:
    key = bench.plan(two_remote_parts(1))
    requests = await until(lambda: found if len(found := bench.of(ChildRequested)) == 2 else None)

    for request in requests:
        failure = Failure(cause="exception", type_name="ValueError", message="no such column")
        bench.execution.answer_child(key, request.request, failure)

    failure = await bench.failure(key)
    assert failure.cause == "exception"
    assert "no such column" in failure.message + failure.traceback


async def test_a_plan_that_waits_for_a_part_can_be_stopped(bench: ExecutionBench) -> None:
    key = bench.plan(two_remote_parts(1))
    await until(lambda: bench.of(ChildRequested))

    bench.execution.stop(key, 0.0)

    assert (await bench.ended(key)).processes_gone
