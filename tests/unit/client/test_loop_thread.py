"""The thread of a client's loop, and those that give it calls."""

import threading
from collections.abc import Callable

from lineshaft.loop_thread import CALLS_MAX, LoopThread

LONG_S = 30.0


def test_calls_that_go_on_for_ever_leave_turns_to_the_loop() -> None:
    thread = LoopThread("lineshaft-test")
    has_turn = threading.Event()

    def again() -> None:
        if not has_turn.is_set():
            thread.post(again)

    async def turn() -> None:
        has_turn.set()

    thread.post(again)
    watchdog = threading.Timer(LONG_S / 3, has_turn.set)
    watchdog.start()
    thread.run(turn())
    is_in_time = watchdog.is_alive()
    watchdog.cancel()
    thread.stop()

    assert is_in_time


def test_calls_are_made_in_order_however_many() -> None:
    thread = LoopThread("lineshaft-test")
    made: list[int] = []
    is_done = threading.Event()

    def begin() -> None:
        for number in range(2 * CALLS_MAX + 1):
            thread.post(_adding(made, number))
        thread.post(is_done.set)

    thread.post(begin)
    assert is_done.wait(LONG_S)
    thread.stop()

    assert made == list(range(2 * CALLS_MAX + 1))


def test_a_call_that_raises_holds_up_no_others() -> None:
    thread = LoopThread("lineshaft-test")
    is_done = threading.Event()

    def begin() -> None:
        thread.post(is_done.set)
        raise KeyError("a bug of somebody")

    thread.post(begin)
    is_in_time = is_done.wait(LONG_S)
    thread.stop()

    assert is_in_time


def _adding(made: list[int], number: int) -> Callable[[], None]:
    return lambda: made.append(number)
