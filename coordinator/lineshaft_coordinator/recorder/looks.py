"""Looks at a machine, as the coordinator hands them over, in the columns of system.parquet."""

from collections.abc import Mapping
from typing import Any

from lineshaft_records.gpus import gpu_columns
from lineshaft_records.machine import memory_columns

Look = tuple[float, Mapping[str, Any]]
"""When, in seconds since 1970, and what was seen."""


def columns_of(seen: Mapping[str, Any]) -> dict[str, float]:
    """Return the columns; what was not told is left out."""
    found: dict[str, float] = {}
    if seen["cpu"] is not None:
        found["cpu.util_pct"] = 100.0 * seen["cpu"]
    if seen["memory"] is not None:
        total = seen["memory_bytes"]
        found |= memory_columns(total, seen["memory"] * total)
    for gpu in seen["gpus"]:
        found |= gpu_columns(**gpu)
    return found
