"""GPUs of all workers, in the words and units of seed 000's system page."""

from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

_MIB: Final = 1024 * 1024
_SENSORS: Final = (("temperature_c", "gpu_temperature_c"), ("power_watts", "gpu_power_w"))


def gpu_gauges(workers: Iterable[JsonValue]) -> list[JsonValue]:
    """What is known of each GPU; what is not known is left out.

    Args:
        workers: As ``GET /api/v1/workers`` tells them: memory in bytes, busy from 0 to 1.
    """
    found: list[JsonValue] = []
    for worker in workers:
        gpus: JsonValue = worker["gpus"] if isinstance(worker, dict) else None
        load: JsonValue = worker.get("load") if isinstance(worker, dict) else None
        for index, gpu in enumerate(gpus if isinstance(gpus, list) else ()):
            if not isinstance(gpu, dict):
                continue
            gauge: dict[str, JsonValue] = {"id": gpu["uuid"], "name": gpu["name"]}
            if (busy := _measured(load, "gpu_usage", index)) is not None:
                gauge["utilization_percent"] = round(100 * busy, 1)
            if (used := _measured(load, "gpu_memory_used_bytes", index)) is not None:
                gauge["memory_used_mb"] = int(used) // _MIB
            total = gpu["memory_bytes"]
            gauge["memory_total_mb"] = total // _MIB if isinstance(total, int) else 0
            for name, told in _SENSORS:
                if (value := _measured(load, told, index)) is not None:
                    gauge[name] = value
            gauge["jobs"] = gpu["jobs"]
            found.append(gauge)
    return found


def mean_busy(workers: Iterable[JsonValue]) -> float:
    """How busy the GPUs of all workers are on average, in per cent; 0 if none says so."""
    busy = [
        gauge["utilization_percent"]
        for gauge in gpu_gauges(workers)
        if isinstance(gauge, dict) and "utilization_percent" in gauge
    ]
    told = [each for each in busy if isinstance(each, int | float)]
    return round(sum(told) / len(told), 1) if told else 0.0


def _measured(load: JsonValue, name: str, index: int) -> float | None:
    """One number of a worker's last heartbeat; its lists are in the order of its GPUs."""
    values = load.get(name) if isinstance(load, dict) else None
    value = values[index] if isinstance(values, list) and index < len(values) else None
    return value if isinstance(value, int | float) else None
