"""Lists of runs, and files that are not as they should be."""

import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lineshaft_records.documents import RunInfo, merge_config, write_info
from lineshaft_records.index import Index
from lineshaft_records.layout import INDEX_NAME, RunFolder, run_folder

AT = datetime(2026, 1, 2, tzinfo=UTC)


def made(base: Path, experiment: str, run: str, minutes: int = 0, **facts: object) -> RunFolder:
    folder = run_folder(base, experiment, run)
    folder.path.mkdir(parents=True)
    started = AT + timedelta(minutes=minutes)
    info = RunInfo(name=run, experiment=experiment, started_at=started, **facts)  # type: ignore[arg-type]
    write_info(folder, info)
    return folder


def test_runs_are_listed_newest_first_with_their_last_values(tmp_path: Path) -> None:
    made(tmp_path, "a", "one", 1, status="FINISHED", vectors={"loss": 0.5}, tags=("x",))
    merge_config(made(tmp_path, "b", "two", 2), {"lr": 0.1})
    index = Index(tmp_path)

    assert index.refresh() == 2
    assert [each.run for each in index.listed()] == ["two", "one"]
    assert [each.run for each in index.listed(status="FINISHED")] == ["one"]
    assert [each.run for each in index.listed(tag="x")] == ["one"]
    assert [each.run for each in index.listed(experiment="b", limit=1)] == ["two"]
    assert index.listed()[0].params == {"lr": 0.1}
    assert index.listed()[1].last == {"loss": 0.5}
    index.close()


def test_last_values_come_back_as_they_were_told(tmp_path: Path) -> None:
    told = {"loss": -0.0, "phase": "warm", "acc": math.inf, "3": 0.1, "stop": "nan", "lr": math.nan}
    made(tmp_path, "a", "one", 1, vectors=told)
    made(tmp_path, "a", "two", 2, vectors={**told, "phase": 1.0})
    made(tmp_path, "a", "three", 3)
    index = Index(tmp_path)
    index.refresh()

    three, two, one = (each.last for each in index.listed())

    assert repr(one) == repr(told)
    assert repr(two) == repr({**told, "phase": 1.0})
    assert three == {}
    assert repr(index.find("one")[0].last) == repr(told)
    index.close()


def test_parameters_with_keys_that_json_does_not_have_are_listed(tmp_path: Path) -> None:
    made(tmp_path, "a", "one").config.write_text("days: {2026-01-02: 3}")
    index = Index(tmp_path)

    index.refresh()

    assert index.listed()[0].params == {"days": {"2026-01-02": 3}}
    index.close()


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    folder = made(tmp_path, "a", "one")
    made(tmp_path, "a", "two", 1)
    index = Index(tmp_path)
    index.refresh()

    assert index.refresh() == 0
    info = RunInfo(name="one", experiment="a", started_at=AT, status="FAILED")
    write_info(folder, info)
    assert index.refresh() == 1
    assert [each.run for each in index.listed(status="FAILED")] == ["one"]
    folder.info.unlink()
    folder.path.rmdir()
    assert index.refresh() == 1
    assert [each.run for each in index.listed()] == ["two"]
    index.close()


def test_a_damaged_index_is_made_again_from_the_files(tmp_path: Path) -> None:
    made(tmp_path, "a", "one")
    (tmp_path / INDEX_NAME).write_bytes(b"no database at all" * 1000)

    index = Index(tmp_path)

    assert index.rebuild() == 1
    assert [each.run for each in index.listed()] == ["one"]
    index.close()


def test_an_index_of_another_version_is_made_again_from_the_files(tmp_path: Path) -> None:
    made(tmp_path, "a", "one", vectors={"loss": 0.5})
    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as old:
        old.execute("CREATE TABLE runs (experiment TEXT, run TEXT, last TEXT, stamp TEXT)")
        old.execute("INSERT INTO runs VALUES ('a', 'gone', '{}', '-')")
        old.execute("PRAGMA user_version = 1")
        old.commit()

    index = Index(tmp_path)
    index.refresh()

    assert [(each.run, each.last) for each in index.listed()] == [("one", {"loss": 0.5})]
    index.close()
