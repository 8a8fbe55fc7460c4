"""A core whose effects nobody waits for, and the loop around it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from tests.unit.runtime.test_pump import Echo, turns

from lineshaft_runtime.turns import Turns

Run = Callable[[Coroutine[Any, Any, None]], None]


@contextlib.asynccontextmanager
async def running(feed: Turns[str, str]) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    await turns(2)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_events_of_one_turn_are_performed_together_and_in_order() -> None:
    done: list[list[str]] = []
    feed = Turns(Echo(), done.append, tick="tick")

    async with running(feed):
        for event in ("a", "b", "c"):
            feed.post(event)
        assert done == []
        await turns(1)

    assert done == [["did a", "did b", "did c"]]


async def test_what_was_put_is_handled_when_its_turn_is_called() -> None:
    done: list[list[str]] = []
    feed = Turns(Echo(), done.append, tick="tick")

    async with running(feed):
        feed.put("a")
        feed.put("b")
        feed.turn()
        assert done == [["did a", "did b"]]
        feed.turn()

    assert done == [["did a", "did b"]]


async def test_what_is_posted_together_is_handled_at_once() -> None:
    done: list[list[str]] = []
    feed = Turns(Echo(), done.append, tick="tick")

    async with running(feed):
        feed.together(lambda: [feed.post(event) for event in "ab"] and None)
        assert done == [["did a", "did b"]]
        feed.post("c")
        await turns(1)

    assert done == [["did a", "did b"], ["did c"]]


async def test_what_was_posted_before_it_raised_is_handled() -> None:
    done: list[list[str]] = []
    feed = Turns(Echo(), done.append, tick="tick")

    def work() -> None:
        feed.post("a")
        raise KeyError("b")

    async with running(feed):
        with pytest.raises(KeyError):
            feed.together(work)
        await turns(1)

    assert done == [["did a"]]


async def test_what_is_posted_while_effects_are_performed_has_the_next_turn() -> None:
    done: list[list[str]] = []
    core = Echo()

    def perform(effects: list[str]) -> None:
        done.append(effects)
        if effects == ["did a"]:
            feed.post("b")
            feed.turn()

    feed = Turns(core, perform, tick="tick")

    async with running(feed):
        feed.post("a")
        await turns(1)
        assert done == [["did a"]]
        await turns(1)

    assert done == [["did a"], ["did b"]]


async def test_events_posted_before_the_start_are_handled() -> None:
    done: list[list[str]] = []
    feed = Turns(Echo(), done.append, tick="tick")
    feed.post("early")

    async with running(feed):
        assert done == [["did early"]]


async def test_a_batch_is_never_longer_than_its_limit_and_others_get_turns_between() -> None:
    done: list[list[str]] = []
    feed = Turns(Echo(), done.append, tick="tick", batch_max=2)
    seen: list[int] = []

    async with running(feed):
        for event in "abcde":
            feed.post(event)
        asyncio.get_running_loop().call_soon(lambda: seen.append(len(done)))
        await turns(5)

    assert done == [["did a", "did b"], ["did c", "did d"], ["did e"]]
    assert seen == [1]


def test_ticks_come_at_the_deadlines_and_only_then(in_virtual_time: Run) -> None:
    core = Echo(107.5, 3600.0)

    async def story() -> None:
        async with running(Turns(core, lambda _: None, tick="tick")):
            await asyncio.sleep(10_000)

    in_virtual_time(story())

    assert core.handled == [("tick", 107.5), ("tick", 3600.0)]


def test_a_deadline_comes_before_the_events_that_wait(in_virtual_time: Run) -> None:
    core = Echo(101.0)

    async def story() -> None:
        feed = Turns(core, lambda _: None, tick="tick")
        async with running(feed):
            asyncio.get_running_loop().call_at(101.0, feed.post, "news")
            await asyncio.sleep(5)

    in_virtual_time(story())

    assert core.handled == [("tick", 101.0), ("news", 101.0)]


def test_an_earlier_deadline_replaces_the_one_that_is_armed(in_virtual_time: Run) -> None:
    core = Echo(500.0)

    async def story() -> None:
        feed = Turns(core, lambda _: None, tick="tick")
        async with running(feed):
            asyncio.get_running_loop().call_at(200.0, feed.post, "deadline 300")
            await asyncio.sleep(1000)

    in_virtual_time(story())

    assert core.handled == [("deadline 300", 200.0), ("tick", 300.0)]


async def test_a_deadline_that_stays_due_leaves_turns_to_others() -> None:
    class Nagging(Echo):
        def take(self, event: str, now: float) -> list[str]:
            super().take("seen", now)
            return []

        def next_deadline(self) -> float | None:
            return 0.0

    core = Nagging()

    async with running(Turns(core, lambda _: None, tick="tick")):
        before = len(core.handled)
        await turns(10)

    assert before <= len(core.handled) <= before + 11


async def test_an_exception_of_the_core_ends_the_run() -> None:
    core = Echo()
    feed = Turns(core, lambda _: None, tick="tick")
    feed.post("broken")

    with pytest.raises(ValueError, match="the core is broken"):
        await feed.run()

    feed.post("never handled")
    await turns(2)
    assert [event for event, _ in core.handled] == ["broken"]


async def test_an_exception_of_what_is_performed_ends_the_run() -> None:
    def perform(effects: list[str]) -> None:
        raise ValueError(effects[0])

    feed = Turns(Echo(), perform, tick="tick")
    task = asyncio.create_task(feed.run())
    await turns(2)
    feed.post("a")

    with pytest.raises(ValueError, match="did a"):
        await task


async def test_nothing_is_handled_after_the_run_was_cancelled() -> None:
    core = Echo()
    feed = Turns(core, lambda _: None, tick="tick")

    async with running(feed):
        pass
    feed.post("late")
    feed.turn()
    await turns(2)

    assert core.handled == []
