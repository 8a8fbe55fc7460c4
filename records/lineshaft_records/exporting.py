"""Writes curves for other programs: CSV, JSON, TensorBoard."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lineshaft_records.tensorboard_files import EventFile

Format = Literal["csv", "json", "tensorboard"]


def write_export(curves: Mapping[str, Mapping[str, Any]], kind: str, target: Path) -> int:
    """Write curves, as `Catalog.metrics` returns them; returns how many points.

    Args:
        curves: By metric: steps, values, times, attempts.
        kind: `csv`, `json` or `tensorboard`.
        target: A file; for TensorBoard a folder. Values that are no numbers are left out there.

    Raises:
        OSError: It cannot be written.
    """
    if kind == "tensorboard":
        return _tensorboard(curves, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "json":
        target.write_text(json.dumps({name: dict(each) for name, each in curves.items()}))
    else:
        _csv(curves, target)
    return sum(len(each["values"]) for each in curves.values())


def _csv(curves: Mapping[str, Mapping[str, Any]], target: Path) -> None:
    """One line a point: the metrics of a run need not share their steps."""
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["metric", "step", "time", "attempt", "value"])
        for name, each in curves.items():
            columns = (each["steps"], each["times"], each["attempts"], each["values"])
            for step, at, attempt, value in zip(*columns, strict=True):
                writer.writerow([name, "" if step is None else step, at, attempt, value])


def _tensorboard(curves: Mapping[str, Mapping[str, Any]], target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    count = 0
    with EventFile(target) as file:
        for name, each in curves.items():
            for step, value, at in zip(each["steps"], each["values"], each["times"], strict=True):
                number = _number(value)
                if number is not None:
                    file.add(name, number, step or 0, at)
                    count += 1
    return count


def _number(value: object) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    # Over HTTP, NaN and infinities are texts.
    if value in ("nan", "inf", "-inf"):
        return float(str(value))
    return None
