"""How busy a machine is, as its kernel and the driver of its GPUs tell it: rows of system.parquet.

Columns and units are expman's. What a machine does not tell, as a GPU without a sensor, is left
out; nothing here raises.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from lineshaft_records.gpus import Gpus
from lineshaft_records.layout import RunFolder
from lineshaft_records.side_tables import SYSTEM, SideRow, add, count_lines
from lineshaft_records.text_logs import append_text, log_line

PROC: Final = Path("/proc")
FIRST_LOOK_S: Final = 1.0
DRIVER_S: Final = 5.0
"""How long a driver may take for its answer."""
SILENT: Final = (
    "the driver of the GPUs does not answer: how busy they are is left out until it does"
)
_GIB: Final = 1024**3
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
        self._machine, self._gpus = Machine(pid), Gpus()
        self._next_at = time.monotonic() + min(FIRST_LOOK_S, every_s)
        self._count = count_lines(folder, SYSTEM)
        self._look: tuple[int, dict[str, float]] | None = None
        """When the machine was looked at, and what was seen, while its GPUs are still asked."""
        self._until = 0.0
        self._is_silence_told = False

    def tend(self, now: float) -> None:
        """Look, if it is time for it; what a full disk does not take is left out.

        The driver of the GPUs has some seconds for its answer, in which nobody waits for it.
        """
        if self._look is None:
            if now < self._next_at:
                return
            self._next_at = now + self._every_s
            self._look = (time.time_ns() // 1000, self._machine.look())
            self._until = now + (DRIVER_S if self._gpus.ask() else 0.0)
        gpus = self._gpus.answer()
        if gpus is not None or now >= self._until:
            self._write(gpus)

    def finish(self) -> None:
        """Write what is known by now: the run is over."""
        if self._look is not None:
            self._write(self._gpus.answer() or {})

    def _write(self, gpus: dict[str, float] | None) -> None:
        assert self._look is not None, "only what was looked at is written"
        (at_us, seen), self._look = self._look, None
        with suppress(OSError):
            if gpus is None and not self._is_silence_told:
                append_text(self._folder.log, log_line(time.time(), "WARN", SILENT))
                self._is_silence_told = True
            add(self._folder, SYSTEM, [SideRow(self._count, at_us, seen | (gpus or {}))])
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
        return found

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


def memory_columns(total: float, used: float) -> dict[str, float]:
    """Return the columns of a machine's memory, of bytes."""
    return {
        "mem.util_pct": 100 * used / total if total else 0.0,
        "mem.used_gb": used / _GIB,
        "mem.total_gb": total / _GIB,
    }
