"""Running a daemon's event loop."""

import asyncio
import gc
import os
import sys
from collections.abc import Coroutine
from typing import Any

from lineshaft_runtime.warm_memory import give_memory_back, keep_memory_warm

GC_YOUNG = 100_000
GC_MIDDLE = 50
GC_OLD = 100
"""Python's own limits (700, 10, 10) look at every live job again and again while many arrive:
measured, they cost a coordinator 40 % of its time at 20,000 live jobs. Daemons make next to no
cycles, so looking rarely loses nothing."""

SWITCH_S = 0.001
"""How soon the thread that writes the journal gets its turn beside a busy loop, in seconds;
measured, Python's own 5 ms doubles the longest waits."""

GIVE_BACK_S = 20.0
"""How often free memory goes back to the system, in seconds."""


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a daemon to its end, on uvloop where that is installed."""
    keep_memory_warm()
    work = _giving_memory_back(work)
    # What a daemon writes holds payloads and tokens: its owner's alone.
    os.umask(0o077)
    collect_rarely()
    sys.setswitchinterval(SWITCH_S)
    try:
        import uvloop  # noqa: PLC0415 - an extra; asyncio's own loop serves as well
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def collect_rarely() -> None:
    """Leave what is there now out of Python's look for cycles, and look rarely; see `GC_YOUNG`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, GC_MIDDLE, GC_OLD)


async def _giving_memory_back(work: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def give_back() -> None:
        nonlocal timer
        give_memory_back()
        timer = loop.call_later(GIVE_BACK_S, give_back)

    timer = loop.call_later(GIVE_BACK_S, give_back)
    try:
        await work
    finally:
        timer.cancel()
