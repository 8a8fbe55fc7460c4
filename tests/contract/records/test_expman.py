"""What the real expman sees of our records: its command, its library, its reader of Parquet."""

import json
import math
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.contract.records.real_expman import Expman, installed
from tests.e2e.farm import until

from lineshaft_records import Run
from lineshaft_records.documents import read_info, read_yaml
from lineshaft_records.layout import run_folder

STEPS = 500
PARAMS = {"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.999]}, "amp": True}


@pytest.fixture(scope="module")
def expman(tmp_path_factory: pytest.TempPathFactory) -> Expman:
    return installed(tmp_path_factory.mktemp("expman"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of which failed."""
    base = tmp_path_factory.mktemp("records") / "experiments"
    with Run("digits", "first", base=base, tags=["good"], console=False) as run:
        run.log_params(PARAMS)
        for step in range(STEPS):
            odd = math.nan if step % 3 == 0 else math.inf if step % 3 == 1 else -0.5
            row = {"loss": 1 / (step + 1), "odd": odd, "word": f"w{step % 4}"}
            run.log_metrics(row, step=step)
        run.log_metrics({"final": 1.5}, step=STEPS)
    with suppress(ValueError), Run("digits", "second", base=base) as run:
        run.log_metrics({"loss": 1.0}, step=0)
        raise ValueError("on purpose")
    for name in ("first", "second"):
        # The program does not wait for it for long, on a busy machine.
        folder = run_folder(base, "digits", name)
        until(lambda folder=folder: read_info(folder).status != "RUNNING", what=f"{name} is closed")
    return base


def test_s004_02_expmans_command_lists_our_runs(expman: Expman, base: Path) -> None:
    assert [row[:3] for row in expman.rows("list", base)] == [["digits", "-", "2"]]

    runs = {row[0]: row for row in expman.rows("list", base, "--runs")}

    assert {name: (row[1], row[3], row[6]) for name, row in runs.items()} == {
        "first": ("digits", "FINISHED", "good"),
        "second": ("digits", "FAILED", "-"),
    }
    assert [row[0] for row in expman.rows("list", base, "--runs", "-s", "FAILED")] == ["second"]
    assert [row[0] for row in expman.rows("list", base, "--runs", "-t", "good")] == ["first"]


def test_s004_02_expmans_command_inspects_our_run(expman: Expman, base: Path) -> None:
    said = expman.say("inspect", base / "digits" / "first")

    assert "Status: FINISHED" in said
    assert "  betas:\n  - 0.9\n  - 0.999\n" in said
    assert f"({STEPS + 1} total rows)" in said
    assert "final     ┆ 1.5" in said


def test_s004_06_expmans_reader_gets_every_row_of_ours(
    expman: Expman, base: Path, tmp_path: Path
) -> None:
    rows = expman.exported(base / "digits" / "first", tmp_path / "rows.json")

    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    assert [row["loss"] for row in rows[:-1]] == [1 / (step + 1) for step in range(STEPS)]
    assert [row["word"] for row in rows[:4]] == ["w0", "w1", "w2", "w3"]
    # JSON has neither NaN nor infinity; the file does.
    assert [row["odd"] for row in rows[:3]] == [None, None, -0.5]
    assert rows[-1]["final"] == 1.5
    assert rows[0]["timestamp"].endswith("+00:00")


def test_s004_06_expmans_library_gets_every_row_of_ours(base: Path) -> None:
    library = pytest.importorskip("expman", reason="expman-rs is not installed")
    run = str(base / "digits" / "first")

    rows = library.read_metrics(run)

    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    assert [row["loss"] for row in rows[:-1]] == [1 / (step + 1) for step in range(STEPS)]
    assert library.load_config(run) == PARAMS
    assert library.load_run(run)["status"] == "FINISHED"


def test_s004_05_a_run_that_goes_on_is_running_to_expman(expman: Expman, tmp_path: Path) -> None:
    with Run("live", "now", base=tmp_path, console=False) as run:
        run.log_metrics({"loss": 0.5}, step=1)
        published = tmp_path / "live" / "now" / "vectors.parquet"
        until(published.exists, what="its first rows are published")
        expman.say("reap", tmp_path, "--older-than", "1h", "--force")

        listed = expman.rows("list", tmp_path, "--runs")
        rows = expman.exported(tmp_path / "live" / "now", tmp_path / "rows.json")

    assert [(row[0], row[3]) for row in listed] == [("now", "RUNNING")]
    assert [row["loss"] for row in rows] == [0.5]


TRIAL = """
import os
from lineshaft_records import Run, sweep_params

with Run(os.environ["EXPMAN_EXPERIMENT"], base="not here", console=False) as run:
    run.log_metrics({"loss": 2 * sweep_params()["lr"]}, step=1)
"""
SWEEP = """
name: search
experiment: digits
project: numbers
command: {command}
params:
  lr: {{values: [0.1, 0.2]}}
  kind: {{values: [adam]}}
"""


def test_s004_18_expmans_sweep_runs_programs_that_record_with_us(
    expman: Expman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trial.py").write_text(TRIAL)
    command = json.dumps(f"{sys.executable} trial.py")
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(command=command))

    assert "2 succeeded, 0 failed" in expman.say("sweep", "run", "sweep.yaml")

    base = tmp_path / "experiments"
    runs = {row[0]: row for row in expman.rows("list", base, "--runs", "--group", "search")}
    assert {name: (row[1], row[3], row[4], row[7]) for name, row in runs.items()} == {
        "search-0000": ("digits", "search[0]", "FINISHED", "kind:adam, lr:0.1"),
        "search-0001": ("digits", "search[1]", "FINISHED", "kind:adam, lr:0.2"),
    }
    second = base / "digits" / "search-0001"
    assert read_yaml(second / "config.yaml") == {"lr": 0.2, "kind": "adam"}
    assert read_info(run_folder(base, "digits", "search-0001")).vectors == {"loss": 0.4}
    assert read_yaml(base / "digits" / "experiment.yaml")["project"] == "numbers"
    assert not (tmp_path / "not here").exists()
