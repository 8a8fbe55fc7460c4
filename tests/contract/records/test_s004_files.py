"""Seed 004's record, item by item: its files, written by real programs and read by others."""

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.contract.records.stage import do, start, until_ended
from tests.e2e.farm import DEADLINE_S, until

from lineshaft_records import Run, artifacts
from lineshaft_records.documents import RunInfo, read_info
from lineshaft_records.errors import BadNameError, RunExistsError
from lineshaft_records.layout import RunFolder, run_folder
from lineshaft_records.reading import RunReader
from lineshaft_records.rows import Row
from lineshaft_records.writer import RunWriter


def folder_of(base: Path, run: str = "r", experiment: str = "e") -> RunFolder:
    return run_folder(base / "experiments", experiment, run)


def opened(base: Path, run: str = "r", **facts: object) -> Run:
    return Run("e", run, base=base / "experiments", console=False, provenance=False, **facts)  # type: ignore[arg-type]


def test_s004_01_a_new_run_has_its_files_before_anything_is_logged(tmp_path: Path) -> None:
    (tmp_path / "experiments" / "e").mkdir(parents=True)
    (tmp_path / "experiments" / "e" / "experiment.yaml").write_text("display_name: mine\n")
    run = opened(tmp_path)
    folder = folder_of(tmp_path)

    assert yaml.safe_load(folder.info.read_text())["status"] == "RUNNING"
    assert folder.artifacts.is_dir()
    kept = (tmp_path / "experiments" / "e" / "experiment.yaml").read_text()
    assert kept == "display_name: mine\n"
    with pytest.raises(RunExistsError):
        opened(tmp_path)
    with pytest.raises(BadNameError):
        Run("../up", base=tmp_path)
    run.close()
    named = Run("fresh", base=tmp_path, console=False)
    named.close()
    assert re.fullmatch(r"\d{8}_\d{6}", named.path.name)
    assert (tmp_path / "fresh" / "experiment.yaml").exists()


def test_s004_02_run_yaml_has_the_seeds_keys_in_its_order(tmp_path: Path) -> None:
    with opened(tmp_path, tags=["a"], description="d") as run:
        run.log_metrics({"loss": 0.5})
    text = folder_of(tmp_path).info.read_text()
    said = yaml.safe_load(text)

    assert list(said) == [
        *("name", "experiment", "status", "started_at", "finished_at", "duration_secs"),
        *("description", "tags", "group", "rank", "heartbeat_at", "scalars", "vectors"),
        *("language", "env_path"),
    ]
    assert re.search(r"^started_at: '?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z'?$", text, re.MULTILINE)
    assert (said["status"], said["vectors"], said["tags"]) == ("FINISHED", {"loss": 0.5}, ["a"])


def test_s004_03_experiment_yaml_has_name_description_tags_and_project(tmp_path: Path) -> None:
    opened(tmp_path).close()

    said = yaml.safe_load((tmp_path / "experiments" / "e" / "experiment.yaml").read_text())

    assert said == {"display_name": None, "description": None, "tags": [], "project": None}


def test_s004_03_an_experiment_yaml_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "experiments" / "e" / "experiment.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("display_name: mine\n")

    opened(tmp_path).close()

    assert file.read_text() == "display_name: mine\n"


def test_s004_04_what_is_logged_after_the_end_is_dropped_in_silence(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.log_metrics({"a": 1.0}, step=1)
    run.close()

    run.log_metrics({"a": 2.0}, step=2)
    run.log_params({"a": 2.0})
    run.info("late")
    run.close("FAILED")

    assert RunReader(run.folder).points(["a"])["a"].values == [1.0]
    assert read_info(run.folder).status == "FINISHED"
    assert not run.folder.config.exists()


def test_s004_05_a_single_row_is_readable_by_others_while_the_run_goes_on(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.log_metrics({"a": 1.0}, step=1)

    # No flush: the keeper does it by itself.
    until(lambda: RunReader(run.folder).points(["a"]).get("a"), what="the row is readable")
    until(run.folder.metrics.exists, what="it is published")
    run.log_metrics({"a": 2.0}, step=2)
    assert run.flush(DEADLINE_S)
    assert RunReader(run.folder).points(["a"])["a"].values == [1.0, 2.0]
    run.close()


def test_s004_06_the_columns_have_the_seeds_types(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.log_metrics({"f": 0.5, "i": 3, "b": True, "t": "x"}, step=1)
        run.log_metrics({"late": 1.0})
    table = pq.read_table(run.folder.metrics)

    assert table.schema.field("step").equals(pa.field("step", pa.int64()))
    at = pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False)
    assert table.schema.field("timestamp").equals(at)
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names[2:]}
    assert kinds == {"f": "double", "i": "double", "b": "double", "t": "string", "late": "double"}
    assert table.column("late").to_pylist() == [None, 1.0]
    assert table.column("step").to_pylist() == [1, None]
    file = pq.ParquetFile(run.folder.metrics)
    assert file.metadata.row_group(0).column(2).compression == "SNAPPY"
    (told,) = {each.date() for each in table.column("timestamp").to_pylist()}
    assert told == datetime.now(UTC).date()


def test_s004_07_rows_of_one_step_in_one_flush_are_one_row(tmp_path: Path) -> None:
    with opened(tmp_path, flush_ms=60_000, flush_rows=1000) as run:
        run.log_metrics({"a": 1.0}, step=1)
        run.log_metrics({"b": 2.0}, step=1)
        run.log_metrics({"c": 3.0})
        run.log_metrics({"c": 4.0})

    table = pq.read_table(run.folder.metrics)

    assert table.column("step").to_pylist() == [1, None, None]
    assert table.select(["a", "b"]).to_pylist()[0] == {"a": 1.0, "b": 2.0}


def test_s004_08_the_bytes_of_a_flush_do_not_grow_with_the_run(tmp_path: Path) -> None:
    info = RunInfo(name="r", experiment="e", started_at=datetime.now(UTC))
    writer = RunWriter(folder_of(tmp_path), info)
    sizes: list[int] = []
    for flush in range(500):
        before = writer.folder.segment(1).stat().st_size if flush else 0
        writer.append([Row(1, flush * 50 + n, n, {"a": 0.5}) for n in range(50)], {"offset": 9})
        sizes.append(writer.folder.segment(1).stat().st_size - before)
    writer.leave()

    assert max(sizes[1:]) == min(sizes[1:])


def test_s004_09_nan_infinity_and_changes_of_type_survive(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.log_metrics({"nan": float("nan"), "inf": float("inf"), "mixed": 1}, step=1)
        run.log_metrics({"nan": float("nan"), "mixed": "off"}, step=2)

    assert [str(v) for v in RunReader(run.folder).points(["nan"])["nan"].values] == ["nan", "nan"]
    points = RunReader(run.folder).points(["inf", "mixed", "mixed.text"])
    assert {name: each.values for name, each in points.items()} == {
        "inf": [float("inf")],
        "mixed": [1.0],
        "mixed.text": ["off"],
    }


def test_s004_10_parameters_merge_and_nested_ones_stay_nested(tmp_path: Path) -> None:
    nested = {"opt": {"name": "adam", "betas": [0.9, 0.99], "amsgrad": False, "eps": None}}
    with opened(tmp_path) as run:
        run.log_params({"lr": 0.1, "seed": 1})
        run.log_params({"lr": 0.2, **nested})

    said = yaml.safe_load(run.folder.config.read_text())

    assert said == {"lr": 0.2, "seed": 1, **nested}
    assert said["opt"]["amsgrad"] is False, "and not 0, which is equal to it"


def test_s004_11_artifacts_never_escape_overwrite_or_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    (work / "out").mkdir(parents=True)
    monkeypatch.chdir(work)
    Path("out/model.bin").write_bytes(b"1")
    Path("../outside.bin").write_bytes(b"2")
    with opened(tmp_path) as run:
        run.save_artifact("out/model.bin")
        run.save_artifact(work / "out" / "model.bin")
        run.save_artifact("../outside.bin")
        assert run.flush(DEADLINE_S)
        Path("out/model.bin").write_bytes(b"3")
        run.save_artifact("out/model.bin")
        run.save_artifact("missing.bin")

    found = {each["path"]: (each["size_bytes"], each["sha256"]) for each in artifacts_of(run)}

    assert set(found) == {"out/model.bin", "model.bin", "outside.bin", "out/model-2.bin"}
    assert (run.folder.artifacts / "out" / "model.bin").read_bytes() == b"1"
    assert (run.folder.artifacts / "out" / "model-2.bin").read_bytes() == b"3"
    assert "[ERROR] artifact missing.bin could not be kept" in run.folder.log.read_text()
    sha256 = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert found["model.bin"] == (1, sha256)
    assert artifacts.place_of("/a/../../etc/passwd").as_posix() == "passwd"


def artifacts_of(run: Run) -> list[dict[str, object]]:
    return [json.loads(line) for line in run.folder.artifact_list.read_text().splitlines()]


def test_s004_12_run_log_and_console_log_say_what_was_said_and_printed(tmp_path: Path) -> None:
    done = do(
        tmp_path,
        """
        import sys
        with Run("e", "r") as run:
            run.info("begun")
            run.warn("odd")
            run.error("bad")
            print("printed")
            print("to stderr", file=sys.stderr)
        print("after")
        """,
    )

    lines = folder_of(tmp_path).log.read_text().splitlines()
    assert [re.sub(r"^\[[-0-9]{10}T[0-9:]{8}\.\d{3}Z\] ", "", line) for line in lines] == [
        *("[INFO] begun", "[WARN] odd", "[ERROR] bad")
    ]
    assert (done.stdout, done.stderr) == ("printed\nafter\n", "to stderr\n")
    assert folder_of(tmp_path).console.read_text() == "printed\nto stderr\n"


TRAIN = """
    import time
    run = Run("e", "r")
    for step in range(100):
        run.log_metrics({"a": 1.0}, step=step)
"""


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        ("run.close()", "FINISHED", None),
        ("pass", "FINISHED", None),
        ("with run: raise ValueError('odd loss')", "FAILED", "run FAILED: ValueError: odd loss"),
        ("raise RuntimeError('lost')", "FAILED", "run FAILED: RuntimeError: lost"),
        ("run.close('CRASHED', 'by hand')", "CRASHED", "run CRASHED: by hand"),
    ],
)
def test_s004_13_each_ending_is_told_as_it_was(
    tmp_path: Path, end: str, status: str, reason: str | None
) -> None:
    do(tmp_path, f"{TRAIN}    {end}\n")
    folder = folder_of(tmp_path)

    assert until_ended(folder) == status
    info = read_info(folder)
    assert info.finished_at is not None
    assert info.duration_secs is not None
    assert len(RunReader(folder).points(["a"])["a"].values) == 100
    log = folder.log.read_text() if folder.log.exists() else ""
    assert reason is None or log.rstrip().endswith(f"[ERROR] {reason}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_s004_13_who_is_killed_has_crashed_and_lost_no_row(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = start(tmp_path, f"{TRAIN}    print('done', flush=True)\n    time.sleep(600)\n")
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(number)
    program.communicate()

    assert until_ended(folder_of(tmp_path)) == "CRASHED"
    assert len(RunReader(folder_of(tmp_path)).points(["a"])["a"].values) == 100


@pytest.mark.parametrize("content", [None, "", "status: [", "name: r\nstatus: DANCING\n", "[1, 2]"])
def test_s004_14_a_run_without_a_whole_run_yaml_is_shown_as_crashed(
    tmp_path: Path, content: str | None
) -> None:
    with opened(tmp_path) as run:
        for step in range(10):
            run.log_metrics({"a": float(step)}, step=step)
    run.folder.info.unlink()
    if content is not None:
        run.folder.info.write_text(content)

    assert read_info(run.folder).status == "CRASHED"
    assert RunReader(run.folder).points(["a"], since_step=7)["a"].steps == [8, 9]
