"""How busy a machine is, from where its kernel and its driver tell it: rows of system.parquet.

Columns and units are expman's. What a machine does not tell, as a GPU without a sensor, is left
out; nothing here raises.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from lineshaft_records import optional
from lineshaft_records.layout import RunFolder
from lineshaft_records.side_tables import SYSTEM, SideRow, add, count_lines

PROC: Final = Path("/proc")
FIRST_LOOK_S: Final = 1.0
_GIB: Final = 1024**3
_MIB: Final = 1024**2
_KIB: Final = 1024


class Gauge:
    """Writes down how busy the machine is, the first time after a second.

    Args:
        folder: The run.
        pid: Its process.
        every_s: After which time again.
    """

    def __init__(self, folder: RunFolder, pid: int, every_s: float) -> None:
        self._folder, self._every_s = folder, every_s
        self._machine = Machine(pid)
        self._next_at = time.monotonic() + min(FIRST_LOOK_S, every_s)
        self._count = count_lines(folder, SYSTEM)

    def tend(self, now: float) -> None:
        """Look, if it is time for it; what a full disk does not take is left out."""
        if now < self._next_at:
            return
        self._next_at = now + self._every_s
        row = SideRow(self._count, time.time_ns() // 1000, self._machine.look())
        with suppress(OSError):
            add(self._folder, SYSTEM, [row])
            self._count += 1


class Machine:
    """Looks at this machine, and at one process on it.

    Args:
        pid: The process.
        proc: Where the kernel tells about both; another folder in tests.
    """

    def __init__(self, pid: int, proc: Path = PROC) -> None:
        self._pid, self._proc = pid, proc
        self._before = self._processor()
        self._gpus: Any = None
        self._has_asked = False

    def look(self) -> dict[str, float]:
        """Return what there is to know; the processor's share is since the last look."""
        found: dict[str, float] = {}
        before, self._before = self._before, self._processor()
        busy, passed = (now - then for now, then in zip(self._before, before, strict=True))
        if passed > 0:
            found["cpu.util_pct"] = 100 * max(0.0, busy) / passed
        found |= self._memory()
        with suppress(OSError, ValueError, IndexError):
            pages = (self._proc / str(self._pid) / "statm").read_text().split()[1]
            found["proc.rss_gb"] = int(pages) * os.sysconf("SC_PAGE_SIZE") / _GIB
        return found | self._gpu_rows()

    def _processor(self) -> tuple[float, float]:
        """Ticks in which processors were busy, and all ticks."""
        try:
            with (self._proc / "stat").open() as file:
                ticks = [int(each) for each in file.readline().split()[1:9]]
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle, and waiting for a disk
        except (OSError, ValueError, IndexError):
            return 0.0, 0.0

    def _memory(self) -> dict[str, float]:
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            told = {line.split(":")[0]: int(line.split()[1]) * _KIB for line in lines}
            return memory_columns(told["MemTotal"], told["MemTotal"] - told["MemAvailable"])
        except (OSError, ValueError, LookupError):
            return {}

    def _gpu_rows(self) -> dict[str, float]:
        if not self._has_asked:
            self._has_asked = True
            self._gpus = optional.gpus()
        nvml = self._gpus
        if nvml is None:
            return {}
        found: dict[str, float] = {}
        with suppress(nvml.NVMLError):
            for index in range(nvml.nvmlDeviceGetCount()):
                with suppress(nvml.NVMLError):  # One that failed hides none of the others.
                    found |= _gpu_columns(nvml, index)
        return found


def memory_columns(total: float, used: float) -> dict[str, float]:
    """Return the columns of a machine's memory, of bytes."""
    return {
        "mem.util_pct": 100 * used / total if total else 0.0,
        "mem.used_gb": used / _GIB,
        "mem.total_gb": total / _GIB,
    }


def gpu_columns(
    index: int,
    *,
    busy: float | None,
    used_bytes: float | None,
    total_bytes: float | None,
    temperature_c: float | None,
    power_w: float | None,
) -> dict[str, float]:
    """Return the columns of a GPU; those of what is not known are left out.

    Args:
        index: Its number.
        busy: 0 to 1.
        used_bytes: Of its memory.
        total_bytes: Of its memory.
        temperature_c: In degrees Celsius.
        power_w: In watts.
    """
    told: Mapping[str, float | None] = {
        "util_pct": None if busy is None else 100 * busy,
        "mem_used_mb": None if used_bytes is None else used_bytes / _MIB,
        "mem_total_mb": None if total_bytes is None else total_bytes / _MIB,
        "temp_c": temperature_c,
        "power_w": power_w,
    }
    return {f"gpu.{index}.{name}": float(v) for name, v in told.items() if v is not None}


def _gpu_columns(nvml: Any, index: int) -> dict[str, float]:
    device = nvml.nvmlDeviceGetHandleByIndex(index)

    def asked(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except nvml.NVMLError:
            return None

    rates = asked(lambda: nvml.nvmlDeviceGetUtilizationRates(device))
    memory = asked(lambda: nvml.nvmlDeviceGetMemoryInfo(device))
    milliwatts = asked(lambda: nvml.nvmlDeviceGetPowerUsage(device))
    return gpu_columns(
        index,
        busy=None if rates is None else rates.gpu / 100,
        used_bytes=None if memory is None else memory.used,
        total_bytes=None if memory is None else memory.total,
        temperature_c=asked(lambda: nvml.nvmlDeviceGetTemperature(device, 0)),
        power_w=None if milliwatts is None else milliwatts / 1000,
    )
