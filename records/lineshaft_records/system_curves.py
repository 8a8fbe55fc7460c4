"""How busy the machine of a run was, as curves beside those of its metrics: `sys/cpu.util_pct`."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lineshaft_records import optional
from lineshaft_records.layout import RunFolder
from lineshaft_records.side_tables import (
    SYSTEM,
    SideRow,
    columns_with_values,
    lines_of,
    read_rows,
    rows_of,
)
from lineshaft_records.thinning import label, thin

PREFIX: Final = "sys/"
KNOWN_MAX: Final = 256
"""Runs whose names are kept."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Which file was read, how far, and what it has."""

    inode: int
    mtime_ns: int
    """0 of a file that only grows."""
    size: int
    columns: frozenset[str]


class SystemNames:
    """What runs tell of their machines: names, read again only from what was added since.

    It is asked as long as somebody looks at a run, some times a minute.
    """

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}

    def of(self, folder: RunFolder) -> list[str]:
        """Return what there is of the machine of a run, each with `sys/` before it."""
        known = self._known.pop(folder.path, None)
        found = _added(folder, known) or _published(folder, known)
        if found is None:
            return []
        self._known[folder.path] = found
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]  # The one not asked for longest.
        return _prefixed(found.columns)


def system_curves(
    folder: RunFolder, names: Sequence[str] | None, max_points: int | None
) -> dict[str, dict[str, Any]]:
    """Return curves in the form of metrics; their steps count the looks at the machine.

    Args:
        folder: The run.
        names: Which ones, each with `sys/` before it; None: all.
        max_points: At most so many of each; None: all.
    """
    if names is not None and not names:
        return {}
    rows = read_rows(folder, SYSTEM)
    known = _names(rows)
    curves: dict[str, dict[str, Any]] = {}
    for name in known if names is None else [each for each in names if each in known]:
        own = [row for row in rows if name.removeprefix(PREFIX) in row.values]
        count = len(own)
        if max_points is not None and count > max_points:
            values = optional.numbers().array([row.values[name[len(PREFIX) :]] for row in own])
            places: list[int] = thin(values, max_points).tolist()
            own = [own[place] for place in places]
        curves[name] = {
            "steps": [row.step for row in own],
            "values": [row.values[name.removeprefix(PREFIX)] for row in own],
            "times": [row.at_us / 1e6 for row in own],
            "attempts": [1] * len(own),
            "there_are": count,
            "label": label(len(own), count),
        }
    return curves


def _names(rows: Sequence[SideRow]) -> list[str]:
    return _prefixed({name for row in rows for name in row.values})


def _prefixed(columns: Iterable[str]) -> list[str]:
    return sorted(f"{PREFIX}{name}" for name in columns)


def _added(folder: RunFolder, known: _Known | None) -> _Known | None:
    """Read the lines behind those that are known; None if the run has none, or is over."""
    try:
        with lines_of(folder, SYSTEM).open("rb") as file:
            status = os.fstat(file.fileno())
            is_longer = known is not None and (known.inode, 0) == (status.st_ino, known.mtime_ns)
            before = known if known is not None and is_longer else _Known(0, 0, 0, frozenset())
            file.seek(before.size)
            data = file.read()
    except FileNotFoundError:
        return None
    whole = data.rfind(b"\n") + 1  # The last line may go on.
    rows = rows_of(data[:whole].splitlines())
    return _Known(
        status.st_ino, 0, before.size + whole, before.columns.union(*(row.values for row in rows))
    )


def _published(folder: RunFolder, known: _Known | None) -> _Known | None:
    """Read of a closed run which columns have values, from the end of its file."""
    path = folder.path / f"{SYSTEM}.parquet"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mark = (status.st_ino, status.st_mtime_ns, status.st_size)
            if known is not None and (known.inode, known.mtime_ns, known.size) == mark:
                return known
            columns = columns_with_values(file)
    except FileNotFoundError:
        return None
    return _Known(*mark, columns)
