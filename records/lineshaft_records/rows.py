"""Rows of metrics, and the columns that one flush of them becomes.

A metric has a column for numbers (`n:loss`) and, if it ever was something else, one for texts
(`t:loss`): no value is lost because a metric changed its type.
"""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, SupportsFloat, SupportsIndex, cast

from lineshaft_protocol.values import value


@value()
class Row:
    """What was told in one call."""

    attempt: int
    """From 1."""
    step: int | None
    at_us: int
    """When, microseconds since 1970."""
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Flush:
    """Rows side by side, as columns of equal length."""

    attempts: list[int]
    steps: list[int | None]
    at_us: list[int]
    columns: dict[str, list[float | str | None]]


STEP_MAX: Final = (1 << 63) - 1


def cell(value: object) -> tuple[str, float | str] | None:
    """Return the kind of column that a value goes to, `n` or `t`, and what is written there.

    A bool is a number, as it arrives through the seed's Python package. An integer that no double
    can hold stays exact as a text. None says nothing.
    """
    if isinstance(value, float):
        return "n", value
    if isinstance(value, int):  # and bool
        try:
            number = float(value)
        except OverflowError:
            return "t", str(value)
        return ("n", number) if number == value else ("t", str(value))
    if value is None:
        return None
    if isinstance(value, str):
        return "t", clean(value)
    if isinstance(value, dict | list | tuple):
        return "t", json.dumps(value, default=str)
    return "t", str(value)


def flush_of(rows: Sequence[Row]) -> Flush:
    """Lay rows out as columns.

    Rows of one step that have no metric in common become one row with the newest time, as the seed
    merges them; a metric that is told twice for a step keeps both values, in two rows.
    """
    return _even(rows) or _uneven(rows)


def _even(rows: Sequence[Row]) -> Flush | None:
    """Lay rows out that all tell numbers of the same metrics; None if they do not.

    That is what training loops tell, and a third of the work for others: whole columns at once, and
    rows that have every metric in common are never merged.
    """
    if not rows:
        return None
    names = tuple(rows[0].values)
    if not names or any(tuple(row.values) != names for row in rows):
        return None
    columns: dict[str, list[float | str | None]] = {}
    told_by_name = zip(*(row.values.values() for row in rows), strict=True)
    for name, told in zip(names, told_by_name, strict=True):
        if {*map(type, told)} != {float}:
            return None
        columns[f"n:{clean(name)}"] = list(cast("tuple[float, ...]", told))
    if len(columns) != len(names):
        return None  # Names that are the same once they are clean.
    return Flush(
        [row.attempt for row in rows],
        [_step(row.step) for row in rows],
        [row.at_us for row in rows],
        columns,
    )


def _step(step: int | None) -> int | None:
    return step if step is not None and -STEP_MAX <= step <= STEP_MAX else None


def _uneven(rows: Sequence[Row]) -> Flush:
    attempts: list[int] = []
    steps: list[int | None] = []
    at_us: list[int] = []
    cells: list[dict[str, float | str]] = []
    places: dict[tuple[int, int], int] = {}
    called: dict[str, str] = {}
    """Columns of numbers by metric: most values are floats of metrics that were seen before."""
    for row in rows:
        made: dict[str, float | str] = {}
        for name, told in row.values.items():
            if type(told) is float and name in called:
                made[called[name]] = told
            elif (found := cell(told)) is not None:
                column_name = f"{found[0]}:{clean(name)}"
                made[column_name] = found[1]
                if found[0] == "n":
                    called[name] = column_name
        step = _step(row.step)
        if step is not None:
            place = places.get((row.attempt, step))
            if place is not None and not _share(cells[place], row.values):
                cells[place] |= made
                at_us[place] = max(at_us[place], row.at_us)
                continue
            places[row.attempt, step] = len(cells)
        attempts.append(row.attempt)
        steps.append(step)
        at_us.append(row.at_us)
        cells.append(made)
    columns: dict[str, list[float | str | None]] = {}
    for place, each in enumerate(cells):
        for name, written in each.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = [None] * len(cells)
            column[place] = written
    return Flush(attempts, steps, at_us, columns)


def clean(text: str) -> str:
    """Return a text without lone surrogates, which no file could hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _share(cells: Mapping[str, object], values: Mapping[str, object]) -> bool:
    return any(f"n:{name}" in cells or f"t:{name}" in cells for name in map(clean, values))


def row_of_event(attempt: int, at_s: float, body: Mapping[str, object]) -> Row | None:
    """Read a told line of metrics; None if there are none in it."""
    metrics = body.get("metrics")
    if not isinstance(metrics, dict):
        return None
    step = body.get("step")
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    is_step = isinstance(step, int) and not isinstance(step, bool)
    values = cast("dict[str, object]", metrics)
    return Row(attempt, cast("int", step) if is_step else None, round(at_s * 1e6), values)


def whole_step(step: object) -> int | None:
    """Return a step as files hold it: also one of NumPy, a tensor, `3.0`; None for all others."""
    if step is None or isinstance(step, bool):
        return None
    try:
        found = operator.index(cast("SupportsIndex", step))
    except TypeError:
        try:
            number = float(cast("SupportsFloat", step))
        except (TypeError, ValueError, OverflowError):
            return None
        if not number.is_integer():
            return None
        found = int(number)
    return found if abs(found) <= STEP_MAX else None
