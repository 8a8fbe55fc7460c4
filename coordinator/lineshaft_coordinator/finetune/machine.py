"""How warm and busy the GPUs of a training were, from the record of its run.

What its trainer told comes first; this is for what it did not tell.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pydantic import JsonValue

from lineshaft_coordinator.finetune.views import View
from lineshaft_coordinator.recorder.supervisor import AskError, Recorder, RecorderAwayError

WAIT_S: Final = 2.0
"""A recorder that is away longer than this is done without."""
POINTS: Final = 2000
_TOLD: Final[Mapping[str, tuple[str, Callable[[list[float]], float]]]] = {
    "average_gpu_utilization_percent": ("util_pct", lambda each: sum(each) / len(each)),
    "peak_gpu_memory_mb": ("mem_used_mb", max),
    "average_gpu_memory_mb": ("mem_used_mb", lambda each: sum(each) / len(each)),
    "average_gpu_temp_celsius": ("temp_c", lambda each: sum(each) / len(each)),
    "peak_gpu_temp_celsius": ("temp_c", max),
}
"""What is said of GPUs by the column of system.parquet, and what is made of its values."""
Curves = Mapping[str, Mapping[str, Any]]


def machine_of(recorder: Recorder) -> Callable[[str], Awaitable[Curves]]:
    """Return what tells how the machine of a job was; nothing where there is no record of it."""

    async def ask(job_id: str) -> Curves:
        try:
            async with asyncio.timeout(WAIT_S):
                answer = await recorder.ask(
                    "metrics", run=job_id, names=[], system=True, max_points=POINTS
                )
        except (TimeoutError, AskError, RecorderAwayError):
            return {}
        found: Curves = json.loads(answer)["metrics"]
        return found

    return ask


def with_machine(view: View, curves: Curves) -> View:
    """Return analytics with what the trainer did not tell of its GPUs; null if nobody did.

    Args:
        view: What the trainer told.
        curves: Those of the machine, as `sys/gpu.0.temp_c`; of several GPUs all count alike.
    """
    used = view["resource_utilization"]
    assert isinstance(used, dict), "analytics have it"
    filled: dict[str, JsonValue] = {**used}
    for name, (column, sum_up) in _TOLD.items():
        values = [
            float(each)
            for curve, points in curves.items()
            if curve.startswith("sys/gpu.") and curve.endswith(f".{column}")
            for each in points["values"]
        ]
        if filled.get(name) is None and values:
            filled[name] = round(sum_up(values), 3)
    return {**view, "resource_utilization": filled}
