"""How late the event loop comes to what it was to do."""

import asyncio
from collections.abc import Callable

INTERVAL_S = 1.0


async def watch_lag(observe: Callable[[float], None], interval_s: float = INTERVAL_S) -> None:
    """Tell once an interval how late a timer was, in seconds; until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + interval_s
        await asyncio.sleep(interval_s)
        observe(loop.time() - due_at)
