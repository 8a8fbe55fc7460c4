"""Makes runs of what was written for TensorBoard."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lineshaft_records.documents import RunInfo
from lineshaft_records.errors import RunExistsError
from lineshaft_records.layout import RunFolder, run_folder, safe_name
from lineshaft_records.rows import Row
from lineshaft_records.tensorboard_files import Scalar, scalars
from lineshaft_records.writer import RunWriter

ROWS = 10_000


def import_folder(source: Path, base: Path, experiment: str) -> list[tuple[str, int]]:
    """Make a run of each folder below, itself included, that has event files.

    Args:
        source: Where TensorBoard looks.
        base: Where experiments lie.
        experiment: Name of the experiment that the runs go to.

    Returns:
        Names and numbers of rows.

    Raises:
        RunExistsError: There is a run of that name.
        OSError: Something cannot be read or written.
    """
    made: list[tuple[str, int]] = []
    folders = sorted({path.parent for path in source.rglob("*tfevents*") if path.is_file()})
    for folder in folders:
        inside = folder.relative_to(source).as_posix()
        name = safe_name(inside.replace("/", "_") if inside != "." else source.name, "imported")
        target = run_folder(base, experiment, name)
        if target.path.exists():
            raise RunExistsError(target.path)
        made.append((name, _import(folder, target)))
    return made


def _opened(folder: RunFolder, at_s: float) -> RunWriter:
    began = datetime.fromtimestamp(at_s, UTC)
    info = RunInfo(name=folder.name, experiment=folder.experiment, started_at=began)
    return RunWriter(folder, info)


def _import(folder: Path, target: RunFolder) -> int:
    writer: RunWriter | None = None
    last = 0.0
    rows: list[Row] = []
    for row in _rows(_all(folder)):
        last = row.at_us / 1e6
        if writer is None:
            writer = _opened(target, last)
        rows.append(row)
        if len(rows) >= ROWS:
            writer.append(rows, {})
            rows = []
    writer = writer or _opened(target, last)
    if rows:
        writer.append(rows, {})
    writer.close("FINISHED", datetime.fromtimestamp(last, UTC))
    return writer.rows


def _all(folder: Path) -> Iterator[Scalar]:
    for path in sorted(folder.glob("*tfevents*")):
        yield from scalars(path)


def _rows(found: Iterator[Scalar]) -> Iterator[Row]:
    """Put numbers of one step that follow each other into one row."""
    step: int | None = None
    at_us = 0
    values: dict[str, object] = {}
    for each in found:
        if values and (each.step != step or each.tag in values):
            yield Row(1, step, at_us, values)
            values = {}
        step, at_us = each.step, round(each.at_s * 1e6)
        values[each.tag] = each.value
    if values:
        yield Row(1, step, at_us, values)
