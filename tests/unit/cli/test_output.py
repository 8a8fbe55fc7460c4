"""What is printed: tables, amounts, JSON."""

import io
import json
import math

import pytest
from rich.console import Console

from lineshaft.cli.following import as_json, shown
from lineshaft.cli.output import Column, Output, duration, finite, plain_table, rich_table, size

COLUMNS = [Column("NAME"), Column("COUNT", "right"), Column("REMARK", wide_from=60)]
ROWS = [["one", "1", "first"], ["eleven", "11", "[bold]not markup[/]"]]


def on_terminal(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(rich_table(COLUMNS, ROWS, width=width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_table_in_a_pipe_is_aligned_and_unabridged() -> None:
    assert plain_table(COLUMNS, ROWS) == [
        "NAME    COUNT  REMARK",
        "one         1  first",
        "eleven     11  [bold]not markup[/]",
    ]


def test_a_name_makes_no_line_of_its_own_and_steers_no_terminal() -> None:
    lines = plain_table(COLUMNS[:1], [["two\nlines\tand \x1b[31mred"]])

    assert lines[1:] == ["two lines and \ufffd[31mred"]


def test_a_table_on_a_narrow_terminal_leaves_out_what_matters_less() -> None:
    assert [line.split() for line in on_terminal(40)] == [
        ["NAME", "COUNT"],
        ["one", "1"],
        ["eleven", "11"],
    ]


def test_a_wide_terminal_shows_all_columns_and_no_cell_is_taken_for_markup() -> None:
    assert "[bold]not markup[/]" in on_terminal(80)[2]


def test_a_name_that_somebody_chose_steers_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    names = ["\x1b]0;mine\x07job", "turned \u202egnp.exe", "\udce9", "été\n✓"]
    console.print(rich_table(COLUMNS[:1], [[name] for name in names], width=80))

    printed = console.file.getvalue()  # type: ignore[attr-defined]

    assert [line.strip() for line in printed.splitlines()[1:]] == [
        "�]0;mine�job", "turned �gnp.exe", "�", "été", "✓",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [10, 20, 40])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, on_terminal(width))) <= width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (99.9, "99.9 s"),
        (125, "2 min 5 s"),
        (7260, "2 h 1 min"),
        (2 * 86400 + 3600, "2 d 1 h"),
    ],
)
def test_a_duration_is_written_as_people_write_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (5 * 2**20, "5 MiB"), (80 * 2**30, "80 GiB")],
)
def test_an_amount_of_memory_has_a_unit(count_bytes: int, text: str) -> None:
    assert size(count_bytes) == text


def test_json_has_no_nan() -> None:
    found = json.dumps(finite({"loss": math.nan, "all": [math.inf, 1.5, "x"]}), allow_nan=False)

    assert json.loads(found) == {"loss": "nan", "all": ["inf", 1.5, "x"]}


def test_a_document_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=True).document({"a": [1, "ä"]})

    assert capsys.readouterr().out == '{"a": [1, "ä"]}\n'


def test_an_error_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Output().error(f"no [such] thing; {'do something else ' * 20}")

    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith("lineshaft: no [such] thing; do")


@pytest.mark.parametrize(
    ("value", "text", "document"),
    [
        ("text", "text", "text"),
        ({"a": 1}, '{"a": 1}', {"a": 1}),
        (math.nan, '"nan"', "nan"),
        ({1, 2} - {2}, "{1}", None),
    ],
)
def test_a_result_is_shown_as_json_if_json_has_it(
    value: object, text: str, document: object
) -> None:
    assert (shown(value), as_json(value)) == (text, document)


def test_the_id_of_a_job_is_never_broken_into_lines() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    columns = [Column("JOB", is_copied=True), Column("NAME"), Column("ERROR")]

    console.print(rich_table(columns, [["1osa2mmajde4-14", "x" * 60, "y" * 60]], width=40))

    assert "1osa2mmajde4-14" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
