"""What NVIDIA's driver tells of GPUs, asked in a thread of its own.

A driver that fell over answers no call, for minutes or for ever, and a call to it cannot be taken
back. Who records goes on meanwhile, without what the GPUs would have told.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from lineshaft_records import optional

_MIB: Final = 1024**2


class Gpus:
    """The GPUs of this machine; nothing here raises or waits."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._has_asked = False
        self._found: dict[str, float] = {}
        self._asking: threading.Thread | None = None

    def ask(self) -> bool:
        """Begin to ask; returns whether it could: not while an earlier question has no answer."""
        if self._asking is not None and self._asking.is_alive():
            return False
        self._found = {}
        # A daemon: a program that ends does not wait for the driver.
        self._asking = threading.Thread(target=self._look, name="gpus", daemon=True)
        try:
            self._asking.start()
        except RuntimeError:  # No thread to be had now.
            self._asking = None
            return False
        return True

    def answer(self) -> dict[str, float] | None:
        """Return what was found, empty if there are no GPUs; None while the driver is silent."""
        if self._asking is None or self._asking.is_alive():
            return None
        return self._found

    def _look(self) -> None:
        # To open the library may hang as well.
        if not self._has_asked:
            self._nvml = optional.gpus()
            self._has_asked = True
        nvml = self._nvml
        if nvml is None:
            return
        found: dict[str, float] = {}
        with suppress(nvml.NVMLError):
            for index in range(nvml.nvmlDeviceGetCount()):
                with suppress(nvml.NVMLError):  # One that failed hides none of the others.
                    found |= _columns_of(nvml, index)
        self._found = found


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


def _columns_of(nvml: Any, index: int) -> dict[str, float]:
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
