"""Whose end a SIGTERM was: the attempt's, or that of the whole machine."""

import asyncio
from collections.abc import Coroutine

import pytest

from lineshaft_worker.core import io
from lineshaft_worker.daemon.departure import TAKEN_AWAY, Departure
from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.execution.reports import AttemptEnded, Failed, Failure, Outcome, Stopped

TERMINATED = Failed(Failure(cause="signal", signal_name="SIGTERM"))
LEFT_143 = Failed(Failure(cause="exit", exit_code=143))
KILLED = Failed(Failure(cause="signal", signal_name="SIGKILL"))
LEFT_1 = Failed(Failure(cause="exit", exit_code=1))


def ended(outcome: Outcome) -> AttemptEnded:
    return AttemptEnded(AttemptKey("j1", 1), outcome, 1.0, 0.0, None, processes_gone=True)


class Bench:
    def __init__(self, *, shared_s: float) -> None:
        self.heard: list[io.Event | Outcome] = []
        self.stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.was_told = asyncio.Event()
        self.departure = Departure(self._post, self._spawn, drain_s=60.0, shared_s=shared_s)
        self._spawn(self.departure.run(self.stopping))

    def _post(self, event: io.Event) -> None:
        self.heard.append(event)
        self.was_told.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def judge(self, outcome: Outcome) -> None:
        self.departure.judge(ended(outcome), lambda told: self.heard.append(told.outcome))

    async def close(self) -> None:
        self.departure.left.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), timeout=30)


@pytest.mark.parametrize("outcome", [TERMINATED, LEFT_143], ids=["SIGTERM", "143"])
async def test_an_end_by_sigterm_just_before_the_daemons_own_is_no_failure(
    outcome: Outcome,
) -> None:
    bench = Bench(shared_s=30.0)

    bench.judge(outcome)
    held_back = list(bench.heard)
    bench.stopping.set()
    await asyncio.wait_for(bench.was_told.wait(), timeout=30)
    await bench.close()

    assert held_back == []
    # In this order: only of a worker that leaves is a stopped attempt one that was handed back.
    assert bench.heard == [io.DrainAsked(), Stopped(TAKEN_AWAY)]


async def test_an_end_by_sigterm_while_the_daemon_leaves_is_no_failure() -> None:
    bench = Bench(shared_s=30.0)
    bench.stopping.set()
    await asyncio.wait_for(bench.was_told.wait(), timeout=30)

    bench.judge(TERMINATED)
    bench.judge(KILLED)
    await bench.close()

    assert bench.heard == [io.DrainAsked(), Stopped(TAKEN_AWAY), KILLED]


async def test_an_end_by_sigterm_alone_is_a_failure() -> None:
    bench = Bench(shared_s=0.0)

    bench.judge(TERMINATED)
    await bench.close()

    assert bench.heard == [TERMINATED]


@pytest.mark.parametrize("outcome", [KILLED, LEFT_1, Stopped()], ids=["kill", "exit", "stop"])
async def test_other_ends_are_told_at_once(outcome: Outcome) -> None:
    bench = Bench(shared_s=30.0)

    bench.judge(outcome)

    assert bench.heard == [outcome]
    await bench.close()
