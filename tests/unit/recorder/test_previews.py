"""The first rows of tables, whatever their jobs put into them."""

import resource
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineshaft_coordinator.recorder.answers import Answers
from lineshaft_coordinator.recorder.previews import (
    CELL_MAX,
    COLUMNS_MAX,
    CSV_BYTES,
    PREVIEW_ROWS,
    preview,
)
from lineshaft_records.catalog import Catalog


def of_text(folder: Path, text: str, name: str = "t.csv") -> dict[str, Any]:
    path = folder / "blob"
    path.write_bytes(text.encode())
    return preview(str(path), name)


def test_a_text_table_has_columns_rows_and_how_many_there_are(tmp_path: Path) -> None:
    found = of_text(tmp_path, '\ufeffa,b\r\n1,"x\ny"\r\n\r\n2,=1+1\r\n')

    assert found == {
        "columns": ["a", "b"],
        "rows": [{"a": "1", "b": "x\ny"}, {"a": "2", "b": "=1+1"}],
        "total_rows": 2,
        "total_columns": 2,
    }


@pytest.mark.parametrize(("text", "name"), [("a;b\n1,5;2\n", "t.csv"), ("a\tb\n1,5\t2\n", "t.TSV")])
def test_tables_of_other_countries_and_tabs_are_read(tmp_path: Path, text: str, name: str) -> None:
    assert of_text(tmp_path, text, name)["rows"] == [{"a": "1,5", "b": "2"}]


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert of_text(tmp_path, "a,a,a.1\n1,2,3\n")["rows"] == [{"a": "1", "a.1": "2", "a.1.1": "3"}]


def test_of_a_large_table_a_part_is_shown_and_nothing_is_guessed(tmp_path: Path) -> None:
    row = "y" * (CELL_MAX + 5)
    found = of_text(tmp_path, "head\n" + f"{row}\n" * (CSV_BYTES // len(row) + 2))

    assert len(found["rows"]) == PREVIEW_ROWS
    assert found["total_rows"] is None
    assert {len(each["head"]) for each in found["rows"]} == {CELL_MAX + 1}


def test_a_table_of_many_columns_is_cut(tmp_path: Path) -> None:
    names = ",".join(f"c{n}" for n in range(COLUMNS_MAX + 7))
    found = of_text(tmp_path, f"{names}\n{names}\n")

    assert len(found["columns"]) == len(found["rows"][0]) == COLUMNS_MAX
    assert found["total_columns"] == COLUMNS_MAX + 7


@pytest.mark.parametrize("text", ["", "\n\n", "a,b", "\x00\x01\xff"])
def test_what_is_hardly_a_table_has_no_rows(tmp_path: Path, text: str) -> None:
    assert of_text(tmp_path, text)["rows"] == []


def test_a_cell_without_end_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.csv cannot be read as a table"):
        of_text(tmp_path, 'a\n"' + "x" * 200_000)


def test_values_of_parquet_are_short_and_exact(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    large = 2**53 + 1
    columns = {
        "n": [large, 5],
        "long": ["x" * 5000, "short"],
        "raw": [b"\x00" * 9, None],
        "list": [[1, 2], [7] * 1000],
    }
    pq.write_table(pa.table(columns), path)

    first, second = preview(str(path), "t.parquet")["rows"]

    assert first == {
        "n": str(large),
        "long": "x" * CELL_MAX + "…",
        "raw": "<9 bytes>",
        "list": [1, 2],
    }
    assert (second["n"], second["long"], second["raw"]) == (5, "short", None)
    assert len(second["list"]) == CELL_MAX + 1


def test_what_is_no_parquet_is_said_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"PAR1 not really")

    with pytest.raises(ValueError, match=r"model\.parquet cannot be read as Parquet"):
        preview(str(tmp_path / "blob"), "model.parquet")


def columns_of(folder: Path, table: Any, **options: Any) -> dict[str, Any]:
    pq.write_table(table, folder / "blob", compression="zstd", **options)
    return preview(str(folder / "blob"), "t.parquet")


def test_columns_of_one_name_are_told_apart_in_parquet_too(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])

    assert columns_of(tmp_path, table)["rows"] == [{"a": 1, "a.1": 2}]


def test_a_small_file_that_unfolds_to_gigabytes_takes_no_memory_here(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), ["x" * 40_000_000])
    table = pa.table({"t": text})
    del text
    before = memory_peak()

    with pytest.raises(ValueError, match=r"t\.parquet cannot be looked at, .* too large"):
        columns_of(tmp_path, table)

    assert (tmp_path / "blob").stat().st_size < 10_000
    assert memory_peak() - before < 512 << 20


def memory_peak() -> int:
    """Most memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_value_that_python_has_not_is_said_to_be_unreadable(tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([2**62], pa.int64()).cast(pa.timestamp("us"))})

    with pytest.raises(ValueError, match=r"t\.parquet cannot be read as Parquet: date value"):
        columns_of(tmp_path, table)


def test_where_a_file_lies_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.parquet cannot be read") as told:
        preview(str(tmp_path / "nothing"), "t.parquet")

    assert str(tmp_path) not in str(told.value)


def test_who_asks_what_breaks_is_answered(tmp_path: Path) -> None:
    answers = Answers(tmp_path, {}, {})

    head, _ = answers.answer({"ask": "run", "with": {"nonsense": 1}})

    answers.close()
    assert head["status"] == 500
    assert "nonsense" in head["error"]


def test_what_people_write_into_an_experiment_by_hand_is_told_as_text(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "experiment.yaml").write_text("project: [a]\ndescription: 5\ntags: one\n")

    with closing(Catalog(tmp_path)) as catalog:
        found, stats = catalog.experiment(experiment="e"), catalog.stats()

    assert found == {"display_name": None, "description": "5", "project": "['a']", "tags": []}
    assert stats["total_projects"] == 1
