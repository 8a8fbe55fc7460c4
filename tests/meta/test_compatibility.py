"""docs/compatibility.md names every item of the seeds' checklists, and a test that there is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.meta.tree import ROOT, parsed

PAGE = ROOT / "docs" / "compatibility.md"
ITEMS = {
    "S000": [f"S000-{number:02}" for number in (*range(1, 14), *range(20, 34), 40, 41)],
    "S001": [f"S001-{number:02}" for number in (*range(1, 14), *range(20, 40))],
    "S002": [f"S002-{number:02}" for number in range(1, 12)],
    "S004": [f"S004-{number:02}" for number in range(1, 20)],
}
"""Of each seed that the page has a section of."""
ROW = re.compile(r"^\| (S\d{3}-\d\d)( \[dev\])? \| (.+?) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NONE = "none"


def rows() -> Iterator[tuple[str, bool, str, str]]:
    """Item, whether it is done otherwise on purpose, the cell with its tests, the remark."""
    for found in ROW.finditer(PAGE.read_text()):
        yield found[1], found[2] is not None, found[4], found[5]


def functions(path: Path) -> set[str]:
    nodes = ast.walk(parsed(path))
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_item_has_one_row() -> None:
    found = [item for item, *_ in rows()]

    for seed, items in ITEMS.items():
        assert [item for item in found if item.startswith(seed)] == items


def test_each_test_that_is_named_exists_and_is_named_by_its_item() -> None:
    wrong: list[str] = []
    for item, _, cell, _ in rows():
        for file, name in TEST.findall(cell):
            path = ROOT / file
            if not path.is_file() or name not in functions(path):
                wrong.append(f"{item}: there is no {file}::{name}")
            if not name.startswith(f"test_{item.lower().replace('-', '_')}"):
                wrong.append(f"{item}: {name} is not named by it")

    assert wrong == []


def test_an_item_without_a_test_says_why_and_so_does_one_that_is_done_otherwise() -> None:
    silent = [
        item
        for item, is_otherwise, cell, remark in rows()
        if (is_otherwise or not TEST.search(cell)) and len(remark) < 20
    ]
    untested = [item for item, _, cell, _ in rows() if not TEST.search(cell) and cell != NONE]

    assert (silent, untested) == ([], [])


@pytest.mark.parametrize(
    ("line", "is_row"),
    [
        ("| S004-01 | a new run | `tests/x.py::test_s004_01_a` | |", True),
        ("| S004-08 [dev] | flushes | none | because of something |", True),
        ("| item | what | test | remark |", False),
    ],
)
def test_rows_are_told_from_other_lines(line: str, is_row: bool) -> None:
    assert (ROW.search(line) is not None) is is_row
