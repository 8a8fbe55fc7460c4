"""Words and units of the training server beside those that Lineshaft uses inside."""

import math
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from pydantic import JsonValue

from lineshaft_coordinator.strict_json import finite
from lineshaft_protocol.wire import NUMBER_MAX

Status: TypeAlias = Literal[
    "queued", "pending", "running", "paused", "completed", "failed", "cancelled"
]

STATUSES: Final[Mapping[str, Status]] = {
    "waiting": "queued",
    "queued": "queued",
    "assigned": "pending",
    "preparing": "pending",
    "running": "running",
    "cancelling": "running",  # Until no process of it is left.
    "pausing": "paused",
    "paused": "paused",
    "frozen": "paused",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""What a state of ours is called there."""
STATES: Final[Mapping[Status, tuple[str, ...]]] = {
    "queued": ("waiting", "queued"),
    "pending": ("assigned", "preparing"),
    "running": ("running", "cancelling"),
    "paused": ("pausing", "paused", "frozen"),
    "completed": ("succeeded",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}
"""What a status of theirs may be here."""
TERMINAL: Final[tuple[Status, ...]] = ("completed", "failed", "cancelled")

_MB_IN_GB = 1024
_LAST_S: Final = 250_000_000_000.0
"""In the year 9892."""


class Reading(NamedTuple):
    """Where a field is read from: a name of ours, and what its value is to be multiplied by."""

    name: str
    factor: float = 1.0


FIELDS: Final[Mapping[str, tuple[Reading, ...]]] = {
    "train_loss": (Reading("loss"), Reading("train_loss")),
    "eval_loss": (Reading("eval_loss"), Reading("val_loss")),
    "learning_rate": (Reading("lr"), Reading("learning_rate")),
    "grad_norm": (Reading("grad_norm"),),
    "gpu_memory_allocated_gb": (
        Reading("memory_mb", 1 / _MB_IN_GB),
        Reading("gpu_memory_allocated_gb"),
    ),
    "gpu_memory_reserved_gb": (
        Reading("memory_reserved_mb", 1 / _MB_IN_GB),
        Reading("gpu_memory_reserved_gb"),
    ),
    "gpu_utilization_percent": (Reading("gpu_util", 100.0), Reading("gpu_utilization_percent")),
    "gpu_temperature_celsius": (
        Reading("gpu_temperature"),
        Reading("gpu_temperature_celsius"),
    ),
    "perplexity": (Reading("perplexity"),),
    "train_perplexity": (Reading("train_perplexity"),),
    "samples_per_second": (Reading("samples_per_second"), Reading("train_samples_per_second")),
    "tokens_per_second": (Reading("tokens_per_second"),),
    "total_samples": (Reading("total_samples"),),
    "train_samples": (Reading("train_samples"),),
    "val_samples": (Reading("val_samples"),),
    "total_tokens_processed": (Reading("total_tokens_processed"), Reading("tokens")),
}
"""The fields of the dialect, and the metrics that a trainer may log for each, ours first."""

POINT_FIELDS: Final = (
    "train_loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "gpu_memory_allocated_gb",
    "gpu_memory_reserved_gb",
    "gpu_utilization_percent",
    "perplexity",
    "train_perplexity",
    "samples_per_second",
    "tokens_per_second",
)
"""What a point of the history has besides step, epoch and timestamp."""


def status_of(state: str) -> Status:
    """Return what a state of ours is called there."""
    return STATUSES[state]


def values_of(metrics: Mapping[str, JsonValue]) -> dict[str, float | None]:
    """Return the fields that metrics of ours are, in the units of the dialect.

    NaN and infinities, which JSON does not have, are None; what is no number is left out.
    """
    found: dict[str, float | None] = {}
    for field, readings in FIELDS.items():
        for name, factor in readings:
            value = metrics.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                known = finite(value)
                found[field] = None if known is None else finite(known * factor)
                break
    return found


def metrics_of(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the metrics of ours that fields of the dialect are, in our units."""
    found: dict[str, float | None] = {}
    for field, value in values.items():
        name, factor = FIELDS[field][0]
        found[name] = None if value is None else value / factor
    return found


def epoch_there(epoch: float, total: int | None) -> int:
    """Return the dialect's epoch, from 1, for one of ours, from 0; a fraction is part of one."""
    number = max(0, math.floor(epoch)) + 1
    # Some libraries end with epoch 3.0 of 3: that is still the third.
    return min(number, total) if total else number


def epoch_here(current_epoch: int) -> int:
    """Return our epoch, from 0, for one of the dialect's."""
    return max(0, current_epoch - 1)


def whole(value: JsonValue) -> int | None:
    """Return a number of ours as a whole one, if it is one that others can read, too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if finite(value) is not None and abs(value) <= NUMBER_MAX else None


def moment(at: float) -> float | None:
    """Return a wall time in seconds as it is, or None if no calendar has it."""
    return at if 0 <= at < _LAST_S else None


Clock: TypeAlias = Callable[[], float]
"""Wall time, in seconds since 1970."""
