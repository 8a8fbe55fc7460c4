"""Makes metrics.parquet of what was appended so far: a file of its own, synced, then renamed.

Rows are streamed in groups, so that memory stays flat however long the run is.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from lineshaft_records import optional
from lineshaft_records.layout import RunFolder
from lineshaft_records.segments import Frame, frames
from lineshaft_runtime.durable import sync_path

GROUP_ROWS: Final = 1 << 16
RESERVED: Final = frozenset({"step", "timestamp", "attempt"})
DELTAS: Final = "DELTA_BINARY_PACKED"
"""How step, timestamp and attempt are written: as what they differ from the row before. A million
of them are unpacked in a sixth of the time that Snappy takes for the numbers themselves."""
COVERS: Final = b"lineshaft.covers"
"""Key of the file's metadata that says which frames are in it."""


@dataclass(frozen=True, slots=True)
class Covered:
    """Up to where a published file goes."""

    segment: int
    offset: int
    columns: tuple[str, ...]
    """Of the last frame before the offset."""
    rows: int
    names: tuple[str, ...] = ()
    """All columns of the published file, as the frames call them."""


def public_names(columns: Sequence[str]) -> dict[str, str]:
    """Return what each column is called in the file: the metric's name wherever it can be.

    A metric with numbers and texts has its texts in `name.text`; one that is called as a column of
    ours, as `step`, is `step.metric`.
    """
    numbers = {name for name in columns if name.startswith("n:")}
    taken = set(RESERVED)
    public: dict[str, str] = {}
    # Numbers first: they keep their names.
    for name in sorted(columns, key=lambda each: each.startswith("t:")):
        metric = name[2:]
        wanted = f"{metric}.metric" if metric in RESERVED else metric
        if name.startswith("t:") and f"n:{metric}" in numbers:
            wanted += ".text"
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        public[name] = wanted
    return {name: public[name] for name in columns}


def public_schema(columns: Sequence[str], *, has_attempts: bool) -> Any:
    """Return the schema of the file: step, timestamp, attempt if there are several, metrics."""
    pa = optional.arrow()
    fields = [
        pa.field("step", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
    if has_attempts:
        fields.append(pa.field("attempt", pa.int32(), nullable=False))
    for name, public in public_names(columns).items():
        fields.append(pa.field(public, pa.float64() if name.startswith("n:") else pa.string()))
    return pa.schema(fields)


def tables(found: Iterable[Frame], columns: Sequence[str], *, has_attempts: bool) -> Iterator[Any]:
    """Yield Arrow tables of the file's schema, of some ten thousand rows each."""
    schema = public_schema(columns, has_attempts=has_attempts)
    waiting: list[Frame] = []
    parts: list[Any] = []
    rows = 0
    for frame in found:
        if not frame.rows:
            continue
        if waiting and waiting[-1].columns != frame.columns:
            parts.append(_table(waiting, columns, schema, has_attempts=has_attempts))
            waiting = []
        waiting.append(frame)
        rows += frame.rows
        if rows >= GROUP_ROWS:
            parts.append(_table(waiting, columns, schema, has_attempts=has_attempts))
            yield optional.arrow().concat_tables(parts)
            waiting, parts, rows = [], [], 0
    if waiting:
        parts.append(_table(waiting, columns, schema, has_attempts=has_attempts))
    if parts:
        yield optional.arrow().concat_tables(parts)


def _table(
    alike: Sequence[Frame],
    columns: Sequence[str],
    schema: Any,
    *,
    has_attempts: bool,
) -> Any:
    pa = optional.arrow()
    table = pa.Table.from_batches([frame.batch() for frame in alike]).combine_chunks()
    present = set(alike[0].columns)
    arrays = [table.column("step"), table.column("at").cast(pa.timestamp("us", tz="UTC"))]
    if has_attempts:
        arrays.append(table.column("attempt"))
    for name in columns:
        kind = pa.float64() if name.startswith("n:") else pa.string()
        arrays.append(
            table.column(name) if name in present else pa.nulls(table.num_rows, type=kind)
        )
    return pa.Table.from_arrays(arrays, schema=schema)


def publish(folder: RunFolder, columns: Sequence[str], covered: Covered, *, last: int) -> int:
    """Replace metrics.parquet by all rows of the segments up to a place; returns its bytes.

    Args:
        folder: The run.
        columns: All there are in these segments, in the order of the file.
        covered: Where to stop.
        last: The highest attempt in them.
    """
    pq = optional.parquet()
    has_attempts = last > 1
    schema = public_schema(columns, has_attempts=has_attempts)
    facts = {
        "segment": covered.segment,
        "offset": covered.offset,
        "columns": list(covered.columns),
        "rows": covered.rows,
        "names": list(columns),
    }
    schema = schema.with_metadata({COVERS: json.dumps(facts)})
    texts = [field.name for field in schema if field.type == optional.arrow().string()]
    draft = folder.path / f".metrics.{os.getpid()}.tmp"
    twin = draft.with_suffix(".twin")
    try:
        with draft.open("wb") as file:
            writer = pq.ParquetWriter(
                file,
                schema,
                compression="snappy",
                use_dictionary=texts or False,
                column_encoding={each: DELTAS for each in schema.names if each in RESERVED},
            )
            with writer:
                found = _up_to(folder, covered)
                for table in tables(found, columns, has_attempts=has_attempts):
                    writer.write_table(table.cast(schema), row_group_size=GROUP_ROWS)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        # The seed's version 1.3 looks for this name: the same file under two names costs nothing.
        with suppress(OSError):
            os.link(draft, twin)
            twin.replace(folder.path / "vectors.parquet")
        draft.replace(folder.metrics)
    finally:
        twin.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
    sync_path(folder.path)
    return size


def _up_to(folder: RunFolder, covered: Covered) -> Iterator[Frame]:
    for number in range(1, covered.segment + 1):
        for frame in frames(folder.segment(number)):
            if number == covered.segment and frame.end > covered.offset:
                return
            yield frame


def covered_in(metadata: Mapping[bytes, bytes] | None) -> Covered:
    """Read of a published file's metadata which frames it has; nothing if it does not say."""
    try:
        facts = json.loads((metadata or {})[COVERS])
        return Covered(
            facts["segment"],
            facts["offset"],
            tuple(facts["columns"]),
            facts["rows"],
            tuple(facts["names"]),
        )
    except (KeyError, TypeError, ValueError):
        return Covered(0, 0, (), 0)
