"""Calls that may hang, beside an event loop that must not."""

import asyncio
import threading

import pytest

from lineshaft_runtime.object_errors import ObjectStoreUnreachableError
from lineshaft_runtime.object_lane import ObjectLane
from lineshaft_runtime.object_places import Beat


async def test_what_a_call_returns_or_raises_comes_back() -> None:
    lane = ObjectLane("x://y")

    def fail(_: Beat) -> None:
        raise ValueError("that way")

    assert await lane.run(lambda _: 7) == 7
    with pytest.raises(ValueError, match="that way"):
        await lane.run(fail)


async def test_only_so_many_calls_run_at_a_time() -> None:
    lane, lock = ObjectLane("x://y", width=2), threading.Lock()
    running, most, both = 0, 0, threading.Barrier(2)

    def call(_: Beat) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(30)
        with lock:
            running -= 1

    await asyncio.gather(*(lane.run(call) for _ in range(6)))

    assert most == 2


async def test_who_waits_for_a_store_that_hangs_is_told_so() -> None:
    lane, released = ObjectLane("x://y", width=1, silence_s=0.05), threading.Event()

    with pytest.raises(ObjectStoreUnreachableError, match="not answered"):
        await lane.run(lambda _: released.wait(30))
    with pytest.raises(ObjectStoreUnreachableError, match="not answered"):
        await lane.run(lambda _: None)  # The hung call has the only seat.

    released.set()
    async with asyncio.timeout(30):
        while True:
            try:
                assert await lane.run(lambda _: 5) == 5
                break
            except ObjectStoreUnreachableError:
                continue


async def test_a_store_that_hangs_is_out_for_all_until_it_answers() -> None:
    asked, well = threading.Event(), threading.Event()

    def probe() -> None:
        asked.set()
        assert well.wait(30)

    lane = ObjectLane("x://y", probe=probe, width=2, doubt_s=0.1)

    began = asyncio.get_running_loop().time()
    ends = await asyncio.gather(
        *(lane.run(lambda _: well.wait(30)) for _ in range(20)), return_exceptions=True
    )
    refused = lane.outage
    with pytest.raises(ObjectStoreUnreachableError, match="not answered"):
        await lane.run(lambda _: pytest.fail("nothing is asked of a store that is out"))
    took_s = asyncio.get_running_loop().time() - began
    well.set()

    assert [type(end) for end in ends] == [ObjectStoreUnreachableError] * 20
    assert asked.is_set()
    assert refused == "it has not answered for 0.2 s"
    assert took_s < 20  # Alone each would wait for two minutes.
    async with asyncio.timeout(30):
        while lane.outage is not None:
            await asyncio.to_thread(well.wait, 30)
    assert await lane.run(lambda _: 5) == 5


async def test_a_slow_call_is_waited_for_while_the_store_answers() -> None:
    probed = threading.Event()
    lane = ObjectLane("x://y", probe=probed.set, doubt_s=0.05)

    def slow(_: Beat) -> str:
        assert probed.wait(30)
        return "done"

    assert await lane.run(slow) == "done"
    assert lane.outage is None


async def test_a_store_that_comes_back_with_errors_is_out_until_it_answers_well() -> None:
    hung, count = threading.Event(), 0

    def probe() -> None:
        nonlocal count
        count += 1
        assert hung.wait(30)
        if count < 3:
            raise OSError(f"not mounted, {count}")

    lane, said = ObjectLane("x://y", probe=probe, doubt_s=0.05), list[str]()
    with pytest.raises(ObjectStoreUnreachableError):
        await lane.run(lambda _: hung.wait(30))
    hung.set()
    async with asyncio.timeout(30):
        while lane.outage is not None:
            said.append(lane.outage)
            await asyncio.to_thread(hung.wait, 30)

    assert count == 3
    assert "not mounted, 2" in said


async def test_a_call_that_gets_on_is_waited_for() -> None:
    lane = ObjectLane("x://y", silence_s=0.5)
    pause = threading.Event()

    def call(beat: Beat) -> str:
        for _ in range(10):
            pause.wait(0.1)
            beat()
        return "done"

    assert await lane.run(call) == "done"


async def test_a_call_nobody_waits_for_any_more_gives_its_seat_back() -> None:
    lane, begun, go = ObjectLane("x://y", width=1), threading.Event(), threading.Event()

    def call(_: Beat) -> None:
        begun.set()
        assert go.wait(30)
        raise ValueError("nobody hears it")

    task = asyncio.create_task(lane.run(call))
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()

    assert await lane.run(lambda _: 3) == 3
