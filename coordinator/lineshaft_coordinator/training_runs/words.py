"""Seed 000's words and units, and ours: converted here and nowhere else."""

import time
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from pydantic import JsonValue

from lineshaft_coordinator.strict_json import finite

Status: TypeAlias = Literal["pending", "running", "completed", "failed", "stopped"]
STATUSES: Final[tuple[Status, ...]] = ("pending", "running", "completed", "failed", "stopped")
ENDED: Final[frozenset[str]] = frozenset({"completed", "failed", "stopped"})

_STATUS_OF: Final[Mapping[str, Status]] = {
    "waiting": "pending",
    "queued": "pending",
    "assigned": "pending",
    "preparing": "pending",
    "running": "running",
    # The seed has no pause: a run that pauses is one that says nothing.
    "pausing": "running",
    "paused": "running",
    "frozen": "running",
    "cancelling": "running",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "stopped",
}
_OUTCOME_OF: Final[Mapping[str, Literal["succeeded", "failed", "cancelled"]]] = {
    "completed": "succeeded",
    "failed": "failed",
    "stopped": "cancelled",
}

# Their name, our names, and how many of theirs are one of ours. The first of ours is what we write.
_VALUES: Final = (
    ("loss", ("loss", "train_loss", "train/loss"), 1.0),
    ("accuracy", ("accuracy", "acc", "train/accuracy"), 1.0),
    ("lr", ("learning_rate", "lr"), 1.0),
    ("gpu_util", ("gpu_util", "gpu_utilization"), 1.0),  # A part of 1, in both.
    ("memory_mb", ("gpu_memory_allocated_gb",), 1024.0),
)
_PERCENT: Final = "gpu_utilization_percent"
_LAST_S: Final = 250_000_000_000.0
"""In the year 9892."""
U32_MAX: Final = 2**32 - 1


def status_of(state: str) -> Status:
    """Seed 000's word for where a job of ours is, or how it ended."""
    return _STATUS_OF[state]


def outcome_of(status: str) -> Literal["succeeded", "failed", "cancelled"]:
    """Our word for one of seed 000's ends."""
    return _OUTCOME_OF[status]


def values_of(metrics: Mapping[str, JsonValue], step: int | None) -> dict[str, JsonValue] | None:
    """What seed 000 says of metrics that a job logged, but for their time.

    What is unknown, or cannot be said in JSON, is left out.

    Returns:
        Its values, which always have an epoch and a step; None if it has no word for any of it.
    """
    found: dict[str, JsonValue] = {}
    for theirs, names, factor in _VALUES:
        value = next((each for each in map(metrics.get, names) if _is_number(each)), None)
        if isinstance(value, int | float) and finite(value * factor) is not None:
            found[theirs] = value * factor
    percent = metrics.get(_PERCENT)
    if "gpu_util" not in found and _is_number(percent) and isinstance(percent, int | float):
        found["gpu_util"] = percent / 100
    epoch = metrics.get("epoch")
    if not found and not _is_number(epoch):
        return None
    return {"epoch": _u32(epoch), "step": _u32(step), **found}


def metrics_of(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Our metrics for what a program told in seed 000's words."""
    metrics: dict[str, JsonValue] = {"epoch": values.get("epoch", 0)}
    for theirs, names, factor in _VALUES:
        value = values.get(theirs)
        if isinstance(value, int | float):
            metrics[names[0]] = value / factor if factor != 1.0 else value
    return metrics


def timestamp(at: float) -> str:
    """Seconds since 1970 as ``2026-04-16T23:15:00.123456789+00:00``.

    A time that no calendar has, by the clock of some machine, is told as the first one.
    """
    at = at if 0 <= at < _LAST_S else 0.0
    nanoseconds = round(at * 1e9)
    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}+00:00"


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return finite(value) is not None


def _u32(value: JsonValue) -> int:
    if isinstance(value, int | float) and finite(value) is not None:
        return min(max(int(value), 0), U32_MAX)
    return 0
