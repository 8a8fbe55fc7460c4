"""What the coordinator's machine does, a minute back, for seed 000's system page.

Nothing is measured while nobody asks: the clock runs from the first question until two minutes
after the last one.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from pydantic import JsonValue

POINTS: Final = 60
INTERVAL_S: Final = 1.0
IDLE_S: Final = 120.0

Gauges = dict[str, JsonValue]


class Machine:
    """Reads the machine's gauges.

    Args:
        gpus_busy: How busy GPUs are on average now, in per cent: those of the workers.
    """

    def __init__(self, gpus_busy: Callable[[], float] = lambda: 0.0) -> None:
        self._gpus_busy = gpus_busy
        self._points: deque[Gauges] = deque(maxlen=POINTS)
        self._sampling: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    def now(self) -> Gauges:
        """The gauges now, but for GPUs, which are the workers'."""
        self._keep_sampling()
        return _read()

    def history(self) -> list[Gauges]:
        """Points, one a second, the oldest first: at least one, at most 60."""
        self._keep_sampling()
        return list(self._points)

    def close(self) -> None:
        """Measure nothing more."""
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None

    def _keep_sampling(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        if self._sampling is None or self._sampling.done():
            self._points.append(self._point())
            self._sampling = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - self._asked_at < IDLE_S:
            await asyncio.sleep(INTERVAL_S)
            self._points.append(self._point())
        self._points.clear()

    def _point(self) -> Gauges:
        return _read() | {"gpu_utilization": self._gpus_busy()}


def _read() -> Gauges:
    # Only who asks for it pays the memory of the import.
    import psutil  # noqa: PLC0415

    memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
    network, io = psutil.net_io_counters(), psutil.disk_io_counters()
    load = os.getloadavg()
    per_core: list[float] = psutil.cpu_percent(percpu=True)
    now = time.time()
    return {
        "timestamp": now,
        "cpu_usage_percent": sum(per_core) / max(len(per_core), 1),
        "cpu_per_core": [*per_core],
        "memory_used_bytes": memory.total - memory.available,
        "memory_total_bytes": memory.total,
        "memory_percent": memory.percent,
        "disk_used_bytes": disk.used,
        "disk_total_bytes": disk.total,
        "disk_percent": disk.percent,
        "disk_read_bytes": io.read_bytes if io is not None else 0,
        "disk_write_bytes": io.write_bytes if io is not None else 0,
        "network_rx_bytes": network.bytes_recv,
        "network_tx_bytes": network.bytes_sent,
        "process_count": len(psutil.pids()),
        "uptime_seconds": now - psutil.boot_time(),
        "load_avg_1m": load[0],
        "load_avg_5m": load[1],
        "load_avg_15m": load[2],
    }
