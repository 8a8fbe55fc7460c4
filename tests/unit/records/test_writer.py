"""Rows in segments, what is published of them, and what a killed writer leaves."""

import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lineshaft_records import writer as writing
from lineshaft_records.documents import RunInfo
from lineshaft_records.layout import RunFolder, run_folder
from lineshaft_records.reading import RunReader
from lineshaft_records.rows import Row, flush_of
from lineshaft_records.writer import RunBusyError, RunWriter, is_open

AT = datetime(2026, 1, 2, tzinfo=UTC)


def opened(base: Path, run: str = "r") -> RunWriter:
    info = RunInfo(name=run, experiment="e", started_at=AT)
    return RunWriter(run_folder(base, "e", run), info)


def row(step: int | None, attempt: int = 1, **values: object) -> Row:
    return Row(attempt, step, 1_000_000 * (step or 0), values)


def told(folder: RunFolder, name: str) -> list[tuple[int | None, float | str]]:
    points = RunReader(folder).points([name], attempts="all")[name]
    return list(zip(points.steps, points.values, strict=True))


def test_rows_are_read_while_the_run_is_open_and_after_it_is_closed(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.append([row(1, loss=0.5), row(2, loss=0.25)], {"offset": 7})

    while_open = told(writer.folder, "loss")
    writer.close("FINISHED", AT)

    assert while_open == told(writer.folder, "loss") == [(1, 0.5), (2, 0.25)]
    assert not is_open(writer.folder)
    assert RunReader(writer.folder).info().vectors == {"loss": 0.25}


def test_what_is_published_and_what_came_after_are_one_curve(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.append([row(step, loss=float(step)) for step in range(50)], {})
    assert writer.tend(1000.0)
    writer.append([row(50, loss=50.0, acc=1.0), row(51, phase="late")], {})

    assert pq.read_table(writer.folder.metrics).num_rows == 50
    assert told(writer.folder, "loss") == [(step, float(step)) for step in range(51)]
    assert told(writer.folder, "acc") == [(50, 1.0)]
    assert RunReader(writer.folder).names() == ["loss", "acc", "phase"]
    writer.leave()


def test_s004_08_it_publishes_again_only_when_it_grew_by_a_fifth_and_a_minute_went_by(
    tmp_path: Path,
) -> None:
    writer = opened(tmp_path)

    def published() -> int:
        return int(pq.read_metadata(writer.folder.metrics).num_rows)

    writer.append([row(step, loss=1.0) for step in range(100)], {})
    writer.tend(0.0)
    assert published() == 100
    writer.append([row(step, loss=1.0) for step in range(100, 119)], {})
    writer.tend(100.0)
    assert published() == 100
    writer.append([row(119, loss=1.0)], {})
    writer.tend(101.0)
    assert published() == 120
    writer.append([row(step, loss=1.0) for step in range(120, 220)], {})
    writer.tend(102.0)
    assert published() == 120
    writer.leave()


def test_a_flush_that_is_torn_anywhere_is_gone_whole_and_its_position_with_it(
    tmp_path: Path,
) -> None:
    writer = opened(tmp_path)
    writer.append([row(1, loss=1.0)], {"offset": 10})
    whole = writer.folder.segment(1).stat().st_size
    writer.append([row(2, loss=2.0)], {"offset": 20})
    writer.leave()
    content = writer.folder.segment(1).read_bytes()

    for size in range(whole, len(content)):
        writer.folder.segment(1).write_bytes(content[:size])
        again = opened(tmp_path)
        assert (again.position, again.rows) == ({"offset": 10}, 1)
        assert again.last == {"loss": 1.0}
        again.leave()


def test_a_flipped_bit_ends_what_is_believed(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.append([row(1, loss=1.0)], {"offset": 10})
    whole = writer.folder.segment(1).stat().st_size
    writer.append([row(2, loss=2.0)], {"offset": 20})
    writer.leave()
    content = bytearray(writer.folder.segment(1).read_bytes())
    content[-9] ^= 1
    writer.folder.segment(1).write_bytes(bytes(content))

    again = opened(tmp_path)

    assert (again.rows, again.folder.segment(1).stat().st_size) == (1, whole)
    again.leave()


def test_files_beside_the_rows_are_cut_to_what_the_last_flush_says(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.folder.console.write_text("one\n")
    writer.append([], {"seq": 1}, {"console.log": 4})
    writer.folder.console.write_text("one\ntwo\n")  # and then it was killed
    writer.leave()

    opened(tmp_path).leave()

    assert writer.folder.console.read_text() == "one\n"


def test_one_run_has_one_writer(tmp_path: Path) -> None:
    first = opened(tmp_path)

    with pytest.raises(RunBusyError):
        opened(tmp_path)
    first.leave()
    opened(tmp_path).leave()


def test_segments_rotate_and_are_read_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SEGMENT_BYTES", 2000)
    writer = opened(tmp_path)
    for step in range(200):
        writer.append([row(step, loss=float(step))], {"offset": step})
        if step == 90:
            assert writer.tend(0.0)

    assert len(writer.folder.segments()) > 10
    assert told(writer.folder, "loss") == [(step, float(step)) for step in range(200)]
    writer.leave()
    again = opened(tmp_path)
    assert (again.rows, again.position) == (200, {"offset": 199})
    again.close("FINISHED")
    assert told(writer.folder, "loss") == [(step, float(step)) for step in range(200)]


def test_a_writer_killed_between_publishing_and_tidying_left_a_closed_run(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.append([row(1, loss=1.0)], {})
    segment = writer.folder.segment(1).read_bytes()
    writer.close("FINISHED", AT)
    writer.folder.live.mkdir()
    writer.folder.segment(1).write_bytes(segment)

    assert told(writer.folder, "loss") == [(1, 1.0)]
    assert not is_open(writer.folder)
    assert not writer.folder.live.exists()


def test_repeated_and_backward_steps_and_later_attempts_keep_every_value(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.append([row(1, loss=1.0), row(1, loss=1.5), row(0, loss=9.0)], {})
    writer.append([row(2, loss=2.0), row(3, loss=3.0)], {})
    writer.append([row(2, 2, loss=2.5), row(4, 2, loss=4.0)], {})
    writer.close("FINISHED", AT)

    every = RunReader(writer.folder).points(["loss"], attempts="all")["loss"]
    newest = RunReader(writer.folder).points(["loss"])["loss"]

    assert every.values == [1.0, 1.5, 9.0, 2.0, 3.0, 2.5, 4.0]
    assert every.attempts == [1, 1, 1, 1, 1, 2, 2]
    assert list(zip(newest.steps, newest.values, strict=True)) == [
        (1, 1.0),
        (1, 1.5),
        (0, 9.0),
        (2, 2.5),
        (4, 4.0),
    ]
    assert pq.read_table(writer.folder.metrics)["attempt"].to_pylist() == [1, 1, 1, 1, 1, 2, 2]


def test_a_metric_that_changes_its_type_has_a_second_column(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.append([Row(1, 1, 0, {"a": "warming up", "step": "x"})], {})
    writer.append([row(2, a=0.5, n=2**53 + 1)], {})
    writer.append([row(3, a=math.inf)], {})
    writer.close("FINISHED", AT)

    assert told(writer.folder, "a") == [(2, 0.5), (3, math.inf)]
    assert told(writer.folder, "a.text") == [(1, "warming up")]
    assert told(writer.folder, "n") == [(2, str(2**53 + 1))]
    assert told(writer.folder, "step.metric") == [(1, "x")]


def test_s004_07_rows_of_a_step_merge_unless_they_tell_a_metric_twice() -> None:
    rows = [row(1, a=1.0), row(1, b=2.0), row(1, a=3.0), row(None, a=4.0)]

    flush = flush_of([replace(each, at_us=10 + place) for place, each in enumerate(rows)])

    assert flush.steps == [1, 1, None]
    assert flush.at_us == [11, 12, 13], "of what was merged the newest time"
    assert flush.columns == {"n:a": [1.0, 3.0, 4.0], "n:b": [2.0, None, None]}


def test_a_full_disk_leaves_the_segment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(tmp_path)
    writer.append([row(1, loss=1.0)], {"offset": 1})
    write = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            writer.append([row(2, loss=2.0)], {"offset": 2})
    writer.append([row(3, loss=3.0)], {"offset": 3})

    assert told(writer.folder, "loss") == [(1, 1.0), (3, 3.0)]
    writer.leave()


@pytest.mark.parametrize(
    "rows",
    [
        [row(1, a=1.0, b=2.0), row(1, a=3.0, b=4.0), row(None, a=5.0, b=math.inf)],
        [row(1, a=1.0), row(2, a=3)],
        [row(1, a=1.0, b=2.0), row(1, b=3.0, a=4.0)],
        [row(1, a=1.0), row(1, b=2.0), row(2, a=3.0), row(2, b=4.0)],
        [row(1, a=True), row(2, a=False)],
        [row(1, a=None), row(1, a=None)],
        [row(1 << 70, a=1.0), row(-(1 << 63), 2, a=2.0)],
        [Row(1, 1, 0, {"a\ud800": 1.0, "a?": 2.0}), Row(1, 1, 1, {"a\ud800": 3.0, "a?": 4.0})],
        [Row(1, 1, 0, {"a\ud800": 1.0}), Row(1, 1, 1, {"a\ud800": 3.0})],
        [row(1)],
    ],
)
def test_rows_that_all_tell_the_same_metrics_are_laid_out_as_all_others(rows: list[Row]) -> None:
    one_by_one = flush_of([*rows, row(99, other="text")])

    flush = flush_of(rows)

    count = len(flush.at_us)
    assert count == len(one_by_one.at_us) - 1
    assert flush.steps == one_by_one.steps[:count]
    assert flush.at_us == one_by_one.at_us[:count]
    assert flush.attempts == one_by_one.attempts[:count]
    expected = {name: cells[:count] for name, cells in one_by_one.columns.items()}
    del expected["t:other"]
    assert repr(flush.columns) == repr(expected), "of the same types, too"
