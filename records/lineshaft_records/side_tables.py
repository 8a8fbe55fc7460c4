"""Tables of a run besides its metrics: histograms.parquet and system.parquet, as seed 004 has them.

Their rows are lines of JSON below `.live` while the run goes on, and are made a Parquet file at its
end, before that at most each minute and only if it grew by a fifth. A line that its writer could
not finish is left out.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from lineshaft_records import optional
from lineshaft_records.layout import RunFolder
from lineshaft_records.text_logs import append_text
from lineshaft_runtime.durable import sync_path

PUBLISH_EVERY_S: Final = 60.0
PUBLISH_GROWTH: Final = 1.2
GROUP_ROWS: Final = 1 << 12
HISTOGRAMS: Final = "histograms"
SYSTEM: Final = "system"
_TEXTS: Final = {HISTOGRAMS: ("tag", "edges", "counts")}
"""Columns that are texts; all others are numbers."""


@dataclass(frozen=True, slots=True)
class SideRow:
    """A row of such a table."""

    step: int | None
    at_us: int
    """When, microseconds since 1970."""
    values: Mapping[str, float | str]

    def line(self) -> str:
        """Return it as a line of its file."""
        return json.dumps([self.step, self.at_us, dict(self.values)]) + "\n"


def lines_of(folder: RunFolder, table: str) -> Path:
    """Return the file of lines that a run has of a table while it goes on."""
    return folder.live / f"{table}.jsonl"


def add(folder: RunFolder, table: str, rows: Sequence[SideRow]) -> int:
    """Append rows; returns how long the file of lines is then, in bytes.

    Raises:
        OSError: The disk is full or broken.
    """
    return append_text(lines_of(folder, table), "".join(row.line() for row in rows))


def count_lines(folder: RunFolder, table: str) -> int:
    """Return how many rows of a table its lines have so far."""
    try:
        with lines_of(folder, table).open("rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0


def read_rows(folder: RunFolder, table: str) -> list[SideRow]:
    """Read all rows of a table, whether the run goes on or not; none if it has none."""
    lines = lines_of(folder, table)
    if lines.exists():
        try:
            with lines.open("rb") as file:
                return list(rows_of(file))
        except FileNotFoundError:
            pass  # The run ended a moment ago: its file is complete.
    path = folder.path / f"{table}.parquet"
    if not path.exists():
        return []
    table_read = optional.parquet().read_table(path)
    times = table_read.column("timestamp").cast(optional.arrow().int64()).to_pylist()
    told: list[dict[str, Any]] = table_read.drop_columns(["timestamp"]).to_pylist()
    return [
        SideRow(row.pop("step"), at_us, {k: v for k, v in row.items() if v is not None})
        for row, at_us in zip(told, times, strict=True)
    ]


def columns_with_values(file: BinaryIO) -> frozenset[str]:
    """Return which columns of a table's Parquet file have values, by its footer alone."""
    footer = optional.parquet().ParquetFile(file).metadata
    found: set[str] = set()
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            said = column.statistics
            is_empty = said is not None and said.has_null_count and not said.num_values
            if not is_empty:
                found.add(column.path_in_schema)
    return frozenset(found - {"step", "timestamp"})


class SideTables:
    """Publishes the tables of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._published: dict[str, tuple[int, float]] = {}
        """Bytes of lines that are published, and when that was."""

    def tend(self, now: float) -> None:
        """Publish what it is time for.

        Args:
            now: Any clock's seconds.
        """
        for table in (HISTOGRAMS, SYSTEM):
            size = self._size(table)
            before, at = self._published.get(table, (0, now - PUBLISH_EVERY_S))
            if size > before * PUBLISH_GROWTH and now - at >= PUBLISH_EVERY_S:
                publish(self._folder, table)
                self._published[table] = (size, now)

    def close(self) -> None:
        """Publish all that is not."""
        for table in (HISTOGRAMS, SYSTEM):
            if self._size(table) > self._published.get(table, (0, 0.0))[0]:
                publish(self._folder, table)

    def _size(self, table: str) -> int:
        try:
            return os.stat(lines_of(self._folder, table)).st_size  # noqa: PTH116 - each 0.1 s
        except FileNotFoundError:
            return 0


def publish(folder: RunFolder, table: str) -> None:
    """Make the Parquet file of a table from its lines; replaced whole, never torn."""
    pa, pq = optional.arrow(), optional.parquet()
    lines = lines_of(folder, table)
    texts = _TEXTS.get(table, ())
    with lines.open("rb") as file:
        columns = list(dict.fromkeys(name for row in rows_of(file) for name in row.values))
    fields = [
        pa.field("step", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
    fields += [pa.field(each, pa.string() if each in texts else pa.float64()) for each in columns]
    schema = pa.schema(fields)
    draft = folder.path / f".{table}.{os.getpid()}.tmp"
    try:
        with draft.open("wb") as file:
            with (
                lines.open("rb") as told,
                pq.ParquetWriter(file, schema, compression="snappy") as writer,
            ):
                for rows in _groups(rows_of(told)):
                    arrays = [
                        pa.array([row.step for row in rows], pa.int64()),
                        pa.array([row.at_us for row in rows], pa.int64()).cast(fields[1].type),
                        *(
                            pa.array([row.values.get(field.name) for row in rows], field.type)
                            for field in fields[2:]
                        ),
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder.path / f"{table}.parquet")
    finally:
        draft.unlink(missing_ok=True)
    sync_path(folder.path)


def rows_of(lines: Iterable[bytes]) -> Iterator[SideRow]:
    """Read rows from lines of JSON, without those that are torn by a full disk or a kill."""
    for line in lines:
        try:
            step, at_us, values = json.loads(line)
            yield SideRow(step, int(at_us), cast("dict[str, float | str]", dict(values)))
        except (ValueError, TypeError):
            continue


def _groups(rows: Iterator[SideRow]) -> Iterator[list[SideRow]]:
    group: list[SideRow] = []
    for row in rows:
        group.append(row)
        if len(group) == GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group
