"""Curves, whatever else their rows hold."""

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lineshaft_records import reading
from lineshaft_records.documents import RunInfo
from lineshaft_records.layout import run_folder
from lineshaft_records.reading import Attempts, RunReader
from lineshaft_records.rows import Row
from lineshaft_records.writer import RunWriter

AT = datetime(2026, 1, 2, tzinfo=UTC)
SINCE, UNTIL = (None, -1, 3), (None, 2, 5)


def written(base: Path, rows: list[Row]) -> RunWriter:
    writer = RunWriter(run_folder(base, "e", "r"), RunInfo(name="r", experiment="e", started_at=AT))
    writer.append(rows, {})
    return writer


def a_row(attempt: int, step: int | None, at_s: int, **values: object) -> Row:
    return Row(attempt, step, at_s * 10**6, values)


SEVERAL = [
    a_row(1, 0, 1, loss=1.0, phase="a"),
    a_row(1, None, 2, loss=2.0),
    a_row(1, 3, 3, acc=3.0),
    a_row(1, 4, 4, loss=4.0),
    a_row(2, 3, 5, loss=5.0, phase="b"),
    a_row(2, None, 6, acc=6.0),
    a_row(2, 6, 7, loss=7.0, acc=7.0),
]
OVERTAKEN = (2, 3)
"""Places of rows that the second attempt did again."""


@pytest.mark.parametrize(
    ("rows", "since", "until", "attempts"),
    [
        (rows, *asked)
        for rows, asked in itertools.product(
            (SEVERAL, SEVERAL[:4]), itertools.product(SINCE, UNTIL, ("newest", "all"))
        )
    ],
)
def test_a_curve_has_the_rows_that_are_asked_for(
    tmp_path: Path, rows: list[Row], since: int | None, until: int | None, attempts: Attempts
) -> None:
    writer = written(tmp_path, rows)
    writer.close("FINISHED", AT)

    found = RunReader(writer.folder).points(
        ["loss", "acc", "phase"], since_step=since, until_step=until, attempts=attempts
    )

    for name, points in found.items():
        wanted = [
            (row.step, row.values[name], row.at_us / 1e6, row.attempt)
            for place, row in enumerate(rows)
            if name in row.values
            and (since is None or (row.step is not None and row.step > since))
            and (until is None or (row.step is not None and row.step <= until))
            and (attempts == "all" or rows is not SEVERAL or place not in OVERTAKEN)
        ]
        shown = zip(points.steps, points.values, points.times, points.attempts, strict=True)
        assert list(shown) == wanted
        assert points.there_are == len(wanted)
    assert set(found) == {name for row in rows for name in row.values}


@pytest.mark.parametrize("since", [None, 99])
def test_a_thinned_curve_has_the_step_and_time_of_each_value(
    tmp_path: Path, since: int | None
) -> None:
    rows = [a_row(1, n, 2 * n, loss=float(n * 7919 % 1000), note=str(n)) for n in range(1000)]
    rows += [a_row(1, 1000, 2000, other=1.0)]
    writer = written(tmp_path, rows)
    writer.close("FINISHED", AT)

    found = RunReader(writer.folder).points(["loss", "note"], since_step=since, max_points=50)

    for name, points in found.items():
        assert 4 < len(points.values) <= 50
        assert points.there_are == (1000 if since is None else 900)
        assert points.steps[0] == (0 if since is None else 100)
        assert points.steps[-1] == 999
        for step, value, at in zip(points.steps, points.values, points.times, strict=True):
            assert step is not None
            assert (value, at) == (rows[step].values[name], 2 * step)


def test_a_file_that_is_published_while_a_run_is_read_doubles_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = written(tmp_path, [a_row(1, n, n, loss=1.0) for n in range(50)])
    assert writer.tend(1000.0)
    writer.append([a_row(1, n, n, loss=1.0) for n in range(50, 100)], {})
    plain, published = reading.frames_in, list[bool]()

    def slowly(*about: object, **more: object) -> object:
        found = list(plain(*about, **more))  # type: ignore[arg-type]
        published.append(writer.tend(2000.0))
        return found

    monkeypatch.setattr(reading, "frames_in", slowly)

    points = RunReader(writer.folder).points(["loss"])["loss"]

    assert published == [True]
    assert points.steps == list(range(100))
    writer.leave()


@pytest.mark.parametrize("attempts", [1, 2])
def test_what_differs_little_from_row_to_row_is_written_as_the_difference(
    tmp_path: Path, attempts: int
) -> None:
    rows = [a_row(1 + n * attempts // 1001, n, n, loss=n / 3) for n in range(1000)]
    writer = written(tmp_path, rows)
    writer.close("FINISHED", AT)

    group = pq.read_metadata(writer.folder.metrics).row_group(0)

    columns = [group.column(place) for place in range(group.num_columns)]
    deltas = [each.path_in_schema for each in columns if "DELTA_BINARY_PACKED" in each.encodings]
    assert deltas == ["step", "timestamp", "attempt"][: 1 + attempts]
