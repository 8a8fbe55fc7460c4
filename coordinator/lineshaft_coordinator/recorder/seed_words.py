"""Rows of runs as seed 004 has them: step, timestamp, and metrics beside them; null for NaN."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lineshaft_coordinator.recorder.parquet_look import first_rows
from lineshaft_records.rows import Row, cell


def seed_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a file; what a row does not have is null, and so is what JSON has not."""
    return [{name: _seed_value(value) for name, value in row.items()} for row in rows]


def told_row(row: Row) -> dict[str, Any]:
    """Return a row as it was told, with its attempt from the second on, as the file has it."""
    at = datetime.fromtimestamp(row.at_us / 1e6, UTC)
    said: dict[str, Any] = {"step": row.step, "timestamp": _seed_value(at)}
    if row.attempt > 1:
        said["attempt"] = row.attempt
    for name, value in row.values.items():
        if (found := cell(value)) is not None:
            said[f"{name}.metric" if name in said else name] = _seed_value(found[1])
    return said


def seed_preview(path: str, name: str) -> dict[str, Any]:
    """Return the first rows of a Parquet file, as seed 004 shows one.

    Raises:
        ValueError: It is none.
    """
    return {"type": "parquet", "data": first_rows(path, name, "seed")["rows"]}


def _seed_value(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case datetime():
            # As many digits as it takes, three at a time.
            is_whole = not value.microsecond % 1000 and value.microsecond
            return value.isoformat(timespec="milliseconds" if is_whole else "auto")
        case _:
            return value
