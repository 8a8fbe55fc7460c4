"""Reads a run, whether it is closed or still written."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal

from lineshaft_records import optional
from lineshaft_records.documents import RunInfo, read_info, read_yaml
from lineshaft_records.errors import DamagedRecordError
from lineshaft_records.layout import RunFolder
from lineshaft_records.media import listed_media
from lineshaft_records.publishing import Covered, covered_in, public_names, tables
from lineshaft_records.segments import Frame, frames_in
from lineshaft_records.text_logs import json_lines
from lineshaft_records.thinning import POINTS_MIN, label, thin

Attempts = Literal["newest", "all"]
INNER: Final = ("step", "timestamp", "attempt")


@dataclass(frozen=True, slots=True)
class Points:
    """A curve, or what is shown of it; all lists have the same length."""

    steps: list[int | None]
    values: list[float | str]
    times: list[float]
    """Seconds since 1970."""
    attempts: list[int]
    there_are: int
    """How many points the curve has that were asked for."""

    @property
    def label(self) -> str:
        """How much is shown, as `2,000 of 1,000,000`."""
        return label(len(self.values), self.there_are)


@dataclass(frozen=True, slots=True)
class _Published:
    """What metrics.parquet has."""

    covered: Covered
    columns: list[str]
    """As frames call them."""
    rows: int
    read: Callable[[Sequence[str]], Any] | None
    """Reads some of the columns; None if there is no file."""


class RunReader:
    """Reads the files of one run; nothing is kept between two calls."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def info(self) -> RunInfo:
        """Read what is known of the run as a whole."""
        return read_info(self.folder)

    def config(self) -> dict[str, object]:
        """Read its parameters; empty if there are none that can be read."""
        try:
            return read_yaml(self.folder.config)
        except (OSError, ValueError):
            return {}

    def artifacts(self) -> list[dict[str, Any]]:
        """List what it left, media too: path, size_bytes, sha256."""
        return json_lines(self.folder.artifact_list) + [
            {
                "path": each["file"],
                "size_bytes": each["bytes"],
                "sha256": each.get("sha256", ""),
                "tag": each["tag"],
                "step": each["step"],
                **{key: each[key] for key in ("file_id", "attempt") if key in each},
            }
            for each in listed_media(self.folder)
        ]

    def names(self) -> list[str]:
        """Return the columns of metrics, as the published file calls them."""
        return self.shape()[1]

    def shape(self) -> tuple[int, list[str]]:
        """Return how many rows there are, and the columns of metrics; reads no row that is old.

        Raises:
            DamagedRecordError: metrics.parquet is there, but is no Parquet file.
        """
        with ExitStack() as stack:
            published, tail = self._parts(stack)
        columns = [*published.columns, *(c for frame in tail for c in frame.columns)]
        rows = published.rows + sum(frame.rows for frame in tail)
        return rows, [*public_names(list(dict.fromkeys(columns))).values()]

    def table(self, names: Sequence[str] | None = None) -> Any:
        """Return all rows in the order in which they were told, as an Arrow table.

        It has step, timestamp, attempt and these metrics, or all if None; what the run does not
        have is left out. The key `all` of its metadata lists what there is.

        Raises:
            DamagedRecordError: metrics.parquet is there, but is no Parquet file.
        """
        with ExitStack() as stack:
            published, tail = self._parts(stack)
            columns = [*published.columns, *(c for frame in tail for c in frame.columns)]
            union = list(dict.fromkeys(columns))
            public = public_names(union)
            wanted = [c for c in union if names is None or public[c] in names]
            parts = [] if published.read is None else [published.read(wanted)]
            parts += list(tables(tail, wanted, has_attempts=True))
        table = _joined(parts, wanted)
        called = [*INNER, *(public[each] for each in wanted)]
        all_names = json.dumps(list(public.values()))
        return table.rename_columns(called).replace_schema_metadata({"all": all_names})

    def points(
        self,
        names: Sequence[str],
        *,
        since_step: int | None = None,
        until_step: int | None = None,
        max_points: int | None = None,
        attempts: Attempts = "newest",
    ) -> dict[str, Points]:
        """Read curves.

        Args:
            names: Which metrics; those the run does not have are left out.
            since_step: Only points with a higher step.
            until_step: Only points up to this step.
            max_points: Show at most so many of each, those that look like all; None shows all.
            attempts: Whether a step that a later attempt did again is left out.
        """
        np = optional.numbers()
        table = self.table(names)
        keep = _kept(np, table, since_step, until_step, attempts)
        made: dict[str, Points] = {}
        for name in table.column_names[len(INNER) :]:
            column = table.column(name)
            places = _places(np, column, keep)
            count = len(column) if places is None else len(places)
            if max_points is not None and count > max_points:
                shown = thin(_curve(np, column, places), max_points)
                places = shown if places is None else places[shown]
            chosen = table.select([*INNER, name])
            if places is not None:
                chosen = chosen.take(places)
            made[name] = Points(
                chosen.column("step").to_pylist(),
                chosen.column(name).to_pylist(),
                (chosen.column("timestamp").cast("int64").to_numpy() / 1e6).tolist(),
                chosen.column("attempt").to_pylist(),
                count,
            )
        return made

    def rows(self, *, since_step: int | None = None, max_points: int | None = None) -> Any:
        """Read whole rows, as an Arrow table; those that a later attempt did again are left out.

        Args:
            since_step: Only rows with a higher step, and those that have none.
            max_points: At most so many rows, those that the curves need to look alike; None: all.
        """
        np = optional.numbers()
        table = self.table()
        keep = _kept(np, table, None, None, "newest")
        if since_step is not None:
            steps = table.column("step").fill_null(since_step + 1).to_numpy()
            keep = (steps > since_step) if keep is None else keep & (steps > since_step)
        if keep is not None:
            table = table.filter(optional.arrow().array(keep))
        if max_points is None or table.num_rows <= max_points:
            return table
        names = table.column_names[len(INNER) :][: max(1, max_points // POINTS_MIN)]
        share = max(POINTS_MIN, max_points // max(1, len(names)))
        shown = [thin(np.arange(table.num_rows, dtype=float), POINTS_MIN)]
        for name in names:
            column = table.column(name)
            places = _places(np, column, None)
            chosen = thin(_curve(np, column, places), share)
            shown.append(chosen if places is None else places[chosen])
        found = np.unique(np.concatenate(shown))
        # Metrics that peak together leave room for rows in between.
        between = np.linspace(0, table.num_rows - 1, max(0, max_points - len(found)))
        found = np.unique(np.concatenate([found, between.astype(int)]))
        return table.take(found[np.unique(np.linspace(0, len(found) - 1, max_points).astype(int))])

    def _parts(self, stack: ExitStack) -> tuple["_Published", list[Frame]]:
        """Open the published file, and read the frames behind it."""
        # The segments first: they go only after all of them is published.
        opened = [
            (int(path.stem.partition("-")[2]), file)
            for path in self.folder.segments()
            if (file := _opened(path, stack)) is not None
        ]
        published = self._published(stack)
        return published, self._tail(opened, published.covered)

    def _published(self, stack: ExitStack) -> "_Published":
        pq, pa = optional.parquet(), optional.arrow()
        path = self.folder.metrics
        if not path.exists():
            return _Published(Covered(0, 0, (), 0), [], 0, None)
        try:
            # Opened once: a file that is put in its place meanwhile covers more rows than this one
            # says, and they would be read twice.
            file = stack.enter_context(pq.ParquetFile(path))
        except (OSError, pa.ArrowException) as error:
            raise DamagedRecordError(path, str(error)) from error
        schema = file.schema_arrow
        covered = covered_in(schema.metadata)
        called = _called(schema, covered)

        def read(wanted: Sequence[str]) -> Any:
            columns = [name for name in INNER if name in schema.names]
            columns += [called[each] for each in wanted if each in called]
            try:
                return _inner(file.read(columns=columns), wanted, called)
            except (OSError, pa.ArrowException) as error:
                raise DamagedRecordError(path, str(error)) from error

        return _Published(covered, list(called), file.metadata.num_rows, read)

    def _tail(self, opened: Sequence[tuple[int, Any]], covered: Covered) -> list[Frame]:
        """Read the frames behind those that are published."""
        found: list[Frame] = []
        for number, file in opened:
            if number > covered.segment:
                found += frames_in(file)
            elif number == covered.segment:
                found += frames_in(file, start=covered.offset, columns=covered.columns)
        return found


def _opened(path: Any, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(path.open("rb", buffering=1 << 20))
    except FileNotFoundError:
        return None


def _called(schema: Any, covered: Covered) -> dict[str, str]:
    """Return the columns of a published file: as frames call them, and as the file does."""
    if covered.names:
        return public_names(covered.names)
    # Somebody else's file: the types say which are texts.
    pa = optional.arrow()
    texts = (pa.string(), pa.large_string())
    return {
        f"{'t' if field.type in texts else 'n'}:{field.name}": field.name
        for field in schema
        if field.name not in INNER
    }


def _inner(table: Any, wanted: Sequence[str], called: Mapping[str, str]) -> Any:
    """Return a published table with the columns and types that frames have."""
    pa = optional.arrow()
    rows = table.num_rows
    attempts = (
        table.column("attempt").cast(pa.int32())
        if "attempt" in table.column_names
        else pa.repeat(pa.scalar(1, pa.int32()), rows)
    )
    times = table.column("timestamp").cast(pa.timestamp("us", tz="UTC"))
    arrays = [table.column("step").cast(pa.int64()), times, attempts]
    for each in wanted:
        kind = pa.float64() if each.startswith("n:") else pa.string()
        arrays.append(
            table.column(called[each]).cast(kind) if each in called else pa.nulls(rows, type=kind)
        )
    return pa.table(arrays, names=[*INNER, *wanted])


def _joined(parts: Sequence[Any], wanted: Sequence[str]) -> Any:
    pa = optional.arrow()
    kinds = [pa.int64(), pa.timestamp("us", tz="UTC"), pa.int32()]
    kinds += [pa.float64() if each.startswith("n:") else pa.string() for each in wanted]
    names = [*INNER, *wanted]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    if not parts:
        return schema.empty_table()
    if len(parts) == 1:
        return pa.table(parts[0].columns, names=names).cast(schema)
    return pa.concat_tables(
        [pa.table(part.columns, names=names).cast(schema) for part in parts]
    ).combine_chunks()


def _kept(
    np: Any, table: Any, since_step: int | None, until_step: int | None, attempts: Attempts
) -> Any:
    """Say which rows are asked for; None if all are, which most questions come to."""
    tries = table.column("attempt").to_numpy()
    has_several = attempts == "newest" and len(tries) > 0 and tries.min() != tries.max()
    if since_step is None and until_step is None and not has_several:
        return None
    steps = table.column("step").fill_null(0).to_numpy()
    has_step = table.column("step").is_valid().to_numpy()
    keep = _newest(np, steps, has_step, tries) if has_several else np.ones(len(steps), dtype=bool)
    if since_step is not None:
        keep &= has_step & (steps > since_step)
    if until_step is not None:
        keep &= has_step & (steps <= until_step)
    return keep


def _places(np: Any, column: Any, keep: Any) -> Any:
    """Return where a metric has a value that is asked for; None if that is everywhere."""
    if column.null_count == 0:
        return None if keep is None else np.flatnonzero(keep)
    is_valid = column.is_valid().to_numpy()
    return np.flatnonzero(is_valid if keep is None else is_valid & keep)


def _curve(np: Any, column: Any, places: Any) -> Any:
    """Return numbers for the values at these places, None being all; texts have no height."""
    if column.type == optional.arrow().string():
        return np.arange(len(column) if places is None else len(places), dtype=float)
    values = column.to_numpy()
    return values if places is None else values[places]


def _newest(np: Any, steps: Any, has_step: Any, tries: Any) -> Any:
    """Say which rows no later attempt did again: an attempt overtakes all from its first step."""
    keep = np.ones(len(steps), dtype=bool)
    limit: int | None = None
    for attempt in np.unique(tries)[::-1]:
        own = tries == attempt
        if limit is not None:
            keep &= ~(own & has_step & (steps >= limit))
        stepped = steps[own & has_step]
        if len(stepped):
            first = int(stepped.min())
            limit = first if limit is None else min(limit, first)
    return keep


def write_csv(reader: RunReader, path: Any) -> int:
    """Write all rows as CSV; returns how many."""
    table = reader.table()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=10_000):
            columns = [column.to_pylist() for column in batch.columns]
            columns[1] = [each.isoformat().replace("+00:00", "Z") for each in columns[1]]
            writer.writerows(zip(*columns, strict=True))
    return int(table.num_rows)
