"""How busy the machine of a run was, as curves beside those of its metrics: `sys/cpu.util_pct`."""

from collections.abc import Sequence
from typing import Any, Final

from lineshaft_records import optional
from lineshaft_records.layout import RunFolder
from lineshaft_records.side_tables import SYSTEM, SideRow, read_rows
from lineshaft_records.thinning import label, thin

PREFIX: Final = "sys/"


def system_names(folder: RunFolder) -> list[str]:
    """Return what there is of the machine of a run, each with `sys/` before it."""
    return _names(read_rows(folder, SYSTEM))


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
    return sorted({f"{PREFIX}{name}" for row in rows for name in row.values})
