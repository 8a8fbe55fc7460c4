"""`lineshaft runs` on a folder."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from tests.unit.records.test_catalog import made

from lineshaft.cli.app import run
from lineshaft.cli.exits import ExitCode
from lineshaft.cli.run_plots import COLOURS, Curve, terminal_plot
from lineshaft_records.documents import RunInfo, write_info
from lineshaft_records.index import Index
from lineshaft_records.layout import INDEX_NAME, run_folder
from lineshaft_records.side_tables import SYSTEM, SideRow, add
from lineshaft_records.writer import RunWriter
from lineshaft_runtime.spool import SpoolWriter


def colours_in(picture: Path) -> int:
    """How many of the first two curves are there, by their colours."""
    pixels: Any = imread(picture)
    return sum(
        bool((abs(pixels[..., :3] - to_rgb(colour)) < 0.01).all(axis=2).any())
        for colour in COLOURS[:2]
    )


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = run(["runs", *words])
    told = capsys.readouterr()
    assert code == ExitCode.OK, told.err
    return told.out


@pytest.fixture
def base(tmp_path: Path) -> Path:
    made(tmp_path / "experiments", "a", [3.0, 1.0, 2.0], lr=0.1)
    made(tmp_path / "experiments", "b", [5.0, 4.0], lr=0.2)
    return tmp_path / "experiments"


def test_s004_15_runs_are_listed_shown_and_compared(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = said(capsys, "list", "--dir", str(base)).splitlines()
    shown = said(capsys, "show", "a", "--dir", str(base))
    compared = said(capsys, "compare", "a", "b", "--dir", str(base)).splitlines()

    assert listed[0].split() == ["EXPERIMENT", "RUN", "STATUS", "STARTED", "SECONDS", "LAST"]
    assert [line.split()[1] for line in listed[1:]] == ["b", "a"]
    assert "lr = 0.1" in shown
    assert [line.split() for line in compared[2:]] == [
        ["lr", "0.1", "0.2"],
        ["loss", "last", "2", "4"],
        ["loss", "min", "1", "4"],
        ["loss", "max", "3", "5"],
    ]
    filtered = said(capsys, "list", "--dir", str(base), "-s", "failed", "--json")
    assert json.loads(filtered) == []


def test_s004_18_what_is_known_of_the_machine_is_shown_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, "e", "r")
    writer = RunWriter(folder, RunInfo(name="r", experiment="e", started_at=datetime.now(UTC)))
    looks = [SideRow(i, i, {"cpu.util_pct": 10.0 * i, "mem.used_gb": 2.0}) for i in range(5)]
    add(folder, SYSTEM, looks)
    writer.close("FINISHED")

    shown = said(capsys, "show", "r", "--dir", str(tmp_path))
    drawn = said(capsys, "show", "r", "--dir", str(tmp_path), "--plot", "sys/cpu.util_pct")

    assert "machine: sys/cpu.util_pct, sys/mem.used_gb\n" in shown
    assert "5 of 5" in drawn


@pytest.mark.parametrize("kind", ["csv", "json", "tensorboard"])
def test_s004_15_a_run_is_exported_and_tensorboard_is_imported(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    target = tmp_path / "out" / "tb"
    out = said(capsys, "export", "a", "-f", kind, "-o", str(target), "--dir", str(base))

    assert out == f"{target}: 3 points\n"
    if kind == "tensorboard":
        told = said(capsys, "import", str(target.parent), "--dir", str(base), "-e", "new")
        assert told == "tb: 3 rows\n"
        assert json.loads(said(capsys, "show", "tb", "--json", "--dir", str(base)))["rows"] == 3


def test_s004_15_clean_removes_old_runs_only_when_forced(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    would = said(capsys, "clean", "e", "--keep", "1", "--dir", str(base))
    there = sorted(path.name for path in (base / "e").iterdir() if path.is_dir())
    did = said(capsys, "clean", "e", "--keep", "1", "--force", "--dir", str(base))

    assert (would, there) == (f"would remove {base}/e/a\n", ["a", "b"])
    assert did == f"removed {base}/e/a\n"
    assert [
        each["run"] for each in json.loads(said(capsys, "list", "--json", "--dir", str(base)))
    ] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("e",), "e has 2 ended runs; the newest 5 stay (--keep)"),
        (("typo", "--force"), "experiments has no runs of typo"),
    ],
)
def test_clean_says_so_when_there_is_nothing_to_remove(
    base: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(base.parent)

    code = run(["runs", "clean", *arguments])

    said = " ".join(capsys.readouterr().err.split())
    assert (code, said) == (ExitCode.OK, f"nothing to remove: {told}")


def test_rebuild_makes_the_index_again_and_ends_what_nobody_writes(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(base, "e", "left")
    folder.live.mkdir(parents=True)
    started = datetime(2026, 1, 3, tzinfo=UTC)
    write_info(folder, RunInfo(name="left", experiment="e", started_at=started))
    SpoolWriter(str(folder.spool)).write("metrics", {"metrics": {"loss": 0.5}, "step": 1})
    (base / INDEX_NAME).unlink(missing_ok=True)

    out = said(capsys, "rebuild", "--dir", str(base))

    assert out == f"e/left has crashed\n{base}: 3 runs\n"
    index = Index(base)
    assert [(each.run, each.status) for each in index.listed(status="CRASHED")] == [
        ("left", "CRASHED")
    ]
    index.close()


def test_a_curve_is_drawn_in_the_terminal_and_as_a_page(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "loss.html"
    drawn = said(capsys, "compare", "a", "b", "--plot", "loss", "--dir", str(base))
    said(capsys, "show", "a", "--plot", "loss", "-o", str(page), "--dir", str(base))

    assert drawn.splitlines()[0] == "loss"
    assert [line[:1] for line in drawn.splitlines()[-2:]] == ["*", "+"]
    assert page.read_text().count("<polyline") == 1
    assert "<script" not in page.read_text()


def test_a_curve_is_drawn_as_a_picture(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, both = tmp_path / "one.png", tmp_path / "both.png"
    said(capsys, "show", "a", "--plot", "loss", "-o", str(one), "--dir", str(base))
    said(capsys, "compare", "a", "b", "--plot", "loss", "-o", str(both), "--dir", str(base))

    assert (colours_in(one), colours_in(both)) == (1, 2)


def test_a_plot_has_each_point_where_it_belongs() -> None:
    lines = terminal_plot("loss", [Curve("r", [(0.0, 0.0), (1.0, 1.0)], "2 of 2")], width=42)

    assert lines[1].endswith("*")
    assert lines[16].split("|")[1] == "*"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["show", "nobody"], ExitCode.NO_SUCH_JOB, "there is no run 'nobody'"),
        (["show", "a", "--plot", "acc"], ExitCode.USAGE, "no numbers of 'acc'"),
        (["show", "a", "--plot", "loss", "-o", "x.gif"], ExitCode.USAGE, ".html or .png"),
        (["export", "a", "-f", "xml", "-o", "x"], ExitCode.USAGE, "no format 'xml'"),
    ],
)
def test_wrong_use_says_what_is_right(
    base: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    assert run(["runs", *words, "--dir", str(base)]) == code
    assert text in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["runs", "list", "--dir", str(tmp_path / "none")]) == ExitCode.USAGE
    assert f"there is no folder {tmp_path}/none" in capsys.readouterr().err
