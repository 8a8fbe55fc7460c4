import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import pytest

from lineshaft_runtime.pump import Pump

Run = Callable[[Coroutine[Any, Any, None]], None]


class Echo:
    """A core that answers each event with an effect, and keeps a list of deadlines."""

    def __init__(self, *deadlines: float) -> None:
        self.deadlines = list(deadlines)
        self.handled: list[tuple[str, float]] = []

    def handle(self, events: Iterable[str], now: float) -> list[str]:
        return [effect for event in events for effect in self.take(event, now)]

    def take(self, event: str, now: float) -> list[str]:
        self.handled.append((event, now))
        if event == "broken":
            raise ValueError("the core is broken")
        if event == "tick":
            self.deadlines.pop(0)
        if event.startswith("deadline "):
            self.deadlines = [float(event.removeprefix("deadline "))]
        return [f"did {event}"]

    def next_deadline(self) -> float | None:
        return self.deadlines[0] if self.deadlines else None


class Batches:
    """Keeps what was to be performed; a gate can hold it up."""

    def __init__(self) -> None:
        self.done: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def perform(self, effects: list[str]) -> None:
        self.done.append(effects)
        await self.gate.wait()


@contextlib.asynccontextmanager
async def running(pump: Pump[str, str]) -> AsyncIterator[None]:
    task = asyncio.create_task(pump.run())
    await turns(2)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_events_of_one_turn_are_performed_together_and_in_order() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick")

    async with running(pump):
        for event in ("a", "b", "c"):
            pump.post(event)
        await turns(2)

    assert batches.done == [["did a", "did b", "did c"]]


async def test_a_lone_event_is_performed_in_the_turn_after_it_was_posted() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick")

    async with running(pump):
        pump.post("a")
        await turns(1)
        assert batches.done == [["did a"]]


async def test_events_posted_before_the_start_are_handled() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick")
    pump.post("early")

    async with running(pump):
        assert batches.done == [["did early"]]


async def test_a_batch_is_never_longer_than_its_limit() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick", batch_max=2)

    async with running(pump):
        for event in "abcde":
            pump.post(event)
        await turns(5)

    assert batches.done == [["did a", "did b"], ["did c", "did d"], ["did e"]]
    assert pump.waiting == 0


async def test_others_get_a_turn_between_full_batches() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick", batch_max=1)

    async with running(pump):
        pump.post("a")
        pump.post("b")
        seen: list[int] = []
        asyncio.get_running_loop().call_soon(lambda: seen.append(len(core.handled)))
        await turns(3)

    assert seen == [1]
    assert len(core.handled) == 2


async def test_the_next_batch_waits_until_the_last_one_is_performed() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick")

    async with running(pump):
        batches.gate.clear()
        pump.post("a")
        await turns(2)
        pump.post("b")
        await turns(5)
        assert core.handled == [("a", core.handled[0][1])]
        assert pump.waiting == 1
        batches.gate.set()
        await turns(4)

    assert batches.done == [["did a"], ["did b"]]


async def test_nothing_is_performed_when_nothing_is_to_be_done() -> None:
    class Silent(Echo):
        def take(self, event: str, now: float) -> list[str]:
            super().take(event, now)
            return []

    core, batches = Silent(), Batches()
    pump = Pump(core, batches.perform, tick="tick")

    async with running(pump):
        pump.post("a")
        await turns(3)

    assert [event for event, _ in core.handled] == ["a"]
    assert batches.done == []


def test_ticks_come_at_the_deadlines_and_only_then(in_virtual_time: Run) -> None:
    core = Echo(107.5, 3600.0)

    async def story() -> None:
        batches = Batches()
        async with running(Pump(core, batches.perform, tick="tick")):
            await asyncio.sleep(10_000)

    in_virtual_time(story())

    assert core.handled == [("tick", 107.5), ("tick", 3600.0)]


def test_a_deadline_comes_before_the_events_that_wait(in_virtual_time: Run) -> None:
    core = Echo(101.0)

    async def story() -> None:
        batches = Batches()
        pump = Pump(core, batches.perform, tick="tick")
        async with running(pump):
            asyncio.get_running_loop().call_at(101.0, pump.post, "news")
            await asyncio.sleep(5)

    in_virtual_time(story())

    assert core.handled == [("tick", 101.0), ("news", 101.0)]


def test_an_earlier_deadline_replaces_the_one_that_is_armed(in_virtual_time: Run) -> None:
    core = Echo(500.0)

    async def story() -> None:
        batches = Batches()
        pump = Pump(core, batches.perform, tick="tick")
        async with running(pump):
            asyncio.get_running_loop().call_at(200.0, pump.post, "deadline 300")
            await asyncio.sleep(1000)

    in_virtual_time(story())

    assert core.handled == [("deadline 300", 200.0), ("tick", 300.0)]


def test_a_deadline_taken_back_brings_no_tick(in_virtual_time: Run) -> None:
    core = Echo(500.0)

    async def story() -> None:
        batches = Batches()
        pump = Pump(core, batches.perform, tick="tick")
        async with running(pump):
            asyncio.get_running_loop().call_at(200.0, core.deadlines.clear)
            asyncio.get_running_loop().call_at(200.0, pump.post, "news")
            await asyncio.sleep(1000)

    in_virtual_time(story())

    assert core.handled == [("news", 200.0)]


def test_the_clock_of_the_caller_decides_when_a_deadline_has_come(in_virtual_time: Run) -> None:
    core = Echo(30.0)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        pump = Pump(core, Batches().perform, tick="tick", clock=lambda: loop.time() - 100.0)
        async with running(pump):
            await asyncio.sleep(60)

    in_virtual_time(story())

    assert core.handled == [("tick", 30.0)]


async def test_a_deadline_that_stays_due_leaves_turns_to_others() -> None:
    class Nagging(Echo):
        def take(self, event: str, now: float) -> list[str]:
            super().take("seen", now)
            return []

        def next_deadline(self) -> float | None:
            return 0.0

    core = Nagging()

    async with running(Pump(core, Batches().perform, tick="tick")):
        before = len(core.handled)
        await turns(10)

    assert before <= len(core.handled) <= before + 11


async def test_an_exception_of_the_core_ends_the_run() -> None:
    core = Echo()
    pump = Pump(core, Batches().perform, tick="tick")
    pump.post("broken")
    pump.post("never handled")

    with pytest.raises(ValueError, match="the core is broken"):
        await pump.run()

    assert [event for event, _ in core.handled] == ["broken"]


async def test_an_urgent_event_overtakes_those_that_wait() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick", batch_max=2)

    async with running(pump):
        for event in ("a", "b", "c"):
            pump.post(event)
        pump.post("x", is_urgent=True)
        pump.post("y", is_urgent=True)
        assert pump.waiting == 5
        await turns(6)

    assert [event for event, _ in core.handled] == ["x", "y", "a", "b", "c"]


async def test_what_is_not_urgent_keeps_an_eighth_of_each_batch() -> None:
    core, batches = Echo(), Batches()
    pump = Pump(core, batches.perform, tick="tick", batch_max=8)

    async with running(pump):
        for number in range(20):
            pump.post(f"u{number}", is_urgent=True)
        pump.post("a")
        pump.post("b")
        await turns(1)
        first = batches.done[0]
        await turns(6)

    assert first == [*(f"did u{number}" for number in range(7)), "did a"]
    assert len(core.handled) == 22
