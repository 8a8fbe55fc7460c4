"""The first rows of tables that jobs left, cut so that no file can fill memory or a page."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from lineshaft_coordinator.recorder.parquet_look import first_rows

PREVIEW_ROWS: Final = 100
COLUMNS_MAX: Final = 200
CELL_MAX: Final = 1000
"""Characters of one value."""
CSV_BYTES: Final = 1 << 20
_EXACT: Final = 1 << 53
"""From here on the numbers of a browser are not exact."""


def preview(path: str, name: str) -> dict[str, Any]:
    """Return the first rows of a table.

    Args:
        path: Where it lies.
        name: What its job called it; a name that ends in .csv or .tsv is one of text, any other
            of Parquet.

    Raises:
        ValueError: It is none.
    """
    if name.lower().endswith((".csv", ".tsv")):
        return _text_table(path, name)
    return first_rows(path, name, "page")


def shown(value: Any) -> Any:
    """Return a value as a page can show it: no longer than a cell, no number made inexact."""
    match value:
        case bool() | float() | None:
            return value
        case int():
            return value if abs(value) < _EXACT else str(value)
        case bytes() | bytearray():
            return f"<{len(value)} bytes>"
        case str():
            return _cut(value)
        case list() | dict():
            text = json.dumps(value, default=str)
            is_short = len(text) <= CELL_MAX
            return cast("object", value) if is_short else _cut(text)
        case _:
            return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= CELL_MAX else f"{text[:CELL_MAX]}…"


def _text_table(path: str, name: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            data = file.read(CSV_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from error
    is_whole = len(data) <= CSV_BYTES
    if not is_whole:
        # The last line may go on.
        data = data[: data.rfind(b"\n") + 1] or data[:CSV_BYTES]
    text = data.decode("utf-8-sig", errors="replace")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, name))
    try:
        head = next(lines, list[str]())
        rows = list(islice(_filled(lines), PREVIEW_ROWS))
        more = sum(1 for _ in _filled(lines)) if is_whole else 0
    except csv.Error as error:
        raise ValueError(f"{name} cannot be read as a table: {error}") from error
    names = distinct(head[:COLUMNS_MAX])
    return {
        "columns": names,
        "rows": [{key: _cut(cell) for key, cell in zip(names, row, strict=False)} for row in rows],
        "total_rows": len(rows) + more if is_whole else None,
        "total_columns": len(head),
    }


def _filled(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    return (line for line in lines if line)


def _delimiter(text: str, name: str) -> str:
    """Return what stands most often in the first line, as spreadsheets of some countries differ."""
    if name.lower().endswith(".tsv"):
        return "\t"
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def distinct(head: Sequence[str]) -> list[str]:
    """Return the names of columns, each once: `a`, `a.1`."""
    names: dict[str, None] = {}
    for each in map(_cut, head):
        number, name = 0, each
        while name in names:
            number += 1
            name = f"{each}.{number}"
        names[name] = None
    return [*names]
