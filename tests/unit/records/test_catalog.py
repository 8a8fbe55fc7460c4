"""Runs of a folder, as commands and HTTP tell them."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lineshaft_records.catalog import Catalog
from lineshaft_records.documents import RunInfo, merge_config
from lineshaft_records.errors import NoSuchRunError
from lineshaft_records.exporting import write_export
from lineshaft_records.importing import import_folder
from lineshaft_records.layout import run_folder
from lineshaft_records.reading import RunReader
from lineshaft_records.rows import Row
from lineshaft_records.tensorboard_files import masked_crc, scalars
from lineshaft_records.writer import RunWriter

AT = datetime(2026, 1, 2, tzinfo=UTC)
Open = Callable[[Path], Catalog]


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda base: stack.enter_context(closing(Catalog(base)))


def made(base: Path, run: str, values: list[float], **params: object) -> None:
    folder = run_folder(base, "e", run)
    writer = RunWriter(folder, RunInfo(name=run, experiment="e", started_at=AT))
    rows = [Row(1, step, step * 10**6, {"loss": value}) for step, value in enumerate(values)]
    writer.append(rows, {})
    merge_config(folder, params)
    writer.close("FINISHED", AT)


@pytest.mark.parametrize("offset", [4, 1000, 2**53])
def test_behind_the_end_of_a_log_there_is_nothing(
    opened: Open, tmp_path: Path, offset: int
) -> None:
    made(tmp_path, "a", [1.0])
    (tmp_path / "e" / "a" / "run.log").write_text("said")

    found = opened(tmp_path).text(run="a", offset=offset)

    assert found == {"text": "", "offset": offset}


def test_runs_side_by_side_show_what_differs(opened: Open, tmp_path: Path) -> None:
    made(tmp_path, "a", [3.0, 1.0, 2.0], lr=0.1, seed=1)
    made(tmp_path, "b", [5.0], lr=0.2, seed=1)

    found = opened(tmp_path).compare(runs=["a", "e/b"])

    assert found["differing"] == ["lr"]
    assert found["params"]["lr"] == [0.1, 0.2]
    assert found["metrics"]["loss"] == [
        {"last": 2.0, "min": 1.0, "max": 3.0, "count": 3},
        {"last": 5.0, "min": 5.0, "max": 5.0, "count": 1},
    ]


def test_what_is_told_of_long_runs_is_as_if_all_points_were_looked_at(
    opened: Open, tmp_path: Path
) -> None:
    nan, inf = float("nan"), float("inf")
    waves = [math.sin(step / 70) * step for step in range(10_007)]
    curves = {
        "waves": waves,
        "holes": [nan if step % 3 else value for step, value in enumerate(waves)] + [nan],
        "highs": [nan, inf, nan, inf] * 500,
        "lows": [-inf, nan] * 500,
        "nothing": [nan] * 999,
        "both": [*waves[:5000], inf, -inf, *waves[5000:]],
    }
    for name, values in curves.items():
        made(tmp_path, name, values)

    found = opened(tmp_path).compare(runs=list(curves))["metrics"]["loss"]

    for told, values in zip(found, curves.values(), strict=True):
        numbers = [value for value in values if not math.isnan(value)]
        assert told["count"] == len(values)
        assert told["min"] == min(numbers, default=None)
        assert told["max"] == max(numbers, default=None)
        assert told["last"] == pytest.approx(values[-1], rel=0, nan_ok=True)


def test_a_run_is_found_by_its_name_alone_or_not_at_all(opened: Open, tmp_path: Path) -> None:
    made(tmp_path, "a", [1.0])
    catalog = opened(tmp_path)

    assert catalog.run(run="a")["metrics"] == ["loss"]
    assert catalog.folder("e/a") == run_folder(tmp_path, "e", "a")
    for name in ("b", "f/a", "../e/a"):
        with pytest.raises(NoSuchRunError):
            catalog.run(run=name)


def test_artifacts_are_found_inside_of_their_run_only(opened: Open, tmp_path: Path) -> None:
    made(tmp_path, "a", [1.0])
    artifacts = run_folder(tmp_path, "e", "a").artifacts
    (artifacts / "in.bin").write_bytes(b"1")
    (artifacts / "link").symlink_to(tmp_path / "e" / "a" / "run.yaml")
    catalog = opened(tmp_path)

    assert catalog.path(run="a", file="in.bin") == str((artifacts / "in.bin").resolve())
    for name in ("../run.yaml", "link", "/etc/hostname", "nothing", ""):
        assert catalog.path(run="a", file=name) is None


def test_what_goes_to_tensorboard_comes_back(opened: Open, tmp_path: Path) -> None:
    values = [0.5, float("inf"), -2.0, 0.25]
    made(tmp_path / "base", "a", values)
    curves = opened(tmp_path / "base").metrics(run="a", max_points=None)["metrics"]

    assert write_export(curves, "tensorboard", tmp_path / "tb" / "first") == 4
    assert import_folder(tmp_path / "tb", tmp_path / "again", "imported") == [("first", 4)]

    points = RunReader(run_folder(tmp_path / "again", "imported", "first")).points(["loss"])
    assert points["loss"].values == values
    assert points["loss"].times == [0.0, 1.0, 2.0, 3.0]
    assert points["loss"].steps == [0, 1, 2, 3]


def test_a_torn_event_file_gives_what_is_whole(opened: Open, tmp_path: Path) -> None:
    made(tmp_path / "base", "a", [1.0, 2.0])
    curves = opened(tmp_path / "base").metrics(run="a")["metrics"]
    write_export(curves, "tensorboard", tmp_path / "tb")
    (path,) = (tmp_path / "tb").iterdir()
    path.write_bytes(path.read_bytes()[:-1])

    assert [each.value for each in scalars(path)] == [1.0]


def test_the_checksum_is_that_of_tensorboard() -> None:
    # CRC-32C of "123456789" is e3069283; the mask is that of TensorFlow's record files.
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc(b"123456789") == masked


def test_csv_and_json_have_every_point(opened: Open, tmp_path: Path) -> None:
    made(tmp_path / "base", "a", [1.0, 2.0])
    curves = opened(tmp_path / "base").metrics(run="a")["metrics"]

    assert write_export(curves, "csv", tmp_path / "a.csv") == 2
    assert write_export(curves, "json", tmp_path / "a.json") == 2
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == ["metric,step,time,attempt,value", "loss,0,0.0,1,1.0", "loss,1,1.0,1,2.0"]


def test_rows_of_a_long_run_are_thinned_to_at_most_so_many(opened: Open, tmp_path: Path) -> None:
    values = [1.0] * 5000
    values[1234] = 9.0
    made(tmp_path, "a", values)
    catalog = opened(tmp_path)

    rows = catalog.rows(run="a", max_points=100)

    assert 90 < len(rows) <= 100
    assert [rows[0]["step"], rows[-1]["step"]] == [0, 4999]
    assert {"step": 1234, "loss": 9.0}.items() <= max(rows, key=lambda row: row["loss"]).items()
    assert [row["step"] for row in catalog.rows(run="a", since_step=4997)] == [4998, 4999]
    assert len(catalog.rows(run="a", max_points=None)) == 5000


def test_a_log_that_ends_within_a_character_is_told_without_a_scar(
    opened: Open, tmp_path: Path
) -> None:
    made(tmp_path, "a", [1.0])
    log = run_folder(tmp_path, "e", "a").console
    said = "grün\n".encode()
    log.write_bytes(said[:3])
    catalog = opened(tmp_path)

    first = catalog.text(run="a", file="console.log")
    log.write_bytes(said + b"\xff")
    rest = catalog.text(run="a", file="console.log", offset=first["offset"])

    assert (first["text"], rest["text"]) == ("gr", "ün\n\ufffd")
    assert rest["offset"] == len(said) + 1
