"""The first rows of tables, whatever their jobs put into them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineshaft_coordinator.recorder.previews import (
    CELL_MAX,
    COLUMNS_MAX,
    CSV_BYTES,
    PREVIEW_ROWS,
    preview,
)


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
