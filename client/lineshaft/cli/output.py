"""What commands print: tables and colours on a terminal, plain lines in a pipe, or JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Literal
from unicodedata import category

from rich.console import Console
from rich.markup import escape
from typing_extensions import override

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.table import Table

WIDTH_OF_A_PIPE = 10_000
"""Lines in a pipe are never wrapped: another program reads them."""
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    align: Literal["left", "right"] = "left"
    wide_from: int = 0
    """Shown on terminals of this width at least, in characters; always shown in a pipe."""
    is_copied: bool = False
    """People copy it from here, so it is never broken into lines."""


class Output:
    """Standard output for what was asked for, standard error for everything else."""

    def __init__(self, *, is_json: bool = False) -> None:
        self.is_json = is_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def is_live(self) -> bool:
        """Whether somebody watches, so that bars may move."""
        return self.err.is_terminal and not self.is_json

    def document(self, value: object) -> None:
        """Print one JSON value; indented for people."""
        indent = 2 if self.out.is_terminal else None
        self._write(json.dumps(finite(value), indent=indent, ensure_ascii=False, default=str))

    def event(self, value: object) -> None:
        """Print one of many JSON values, on a line of its own."""
        self._write(json.dumps(finite(value), ensure_ascii=False, default=str))

    def line(self, text: str = "", *, style: str | None = None) -> None:
        """Print a line that was asked for."""
        self.out.print(escape(tame(text)), style=style, highlight=False)

    def command(self, text: str, *, style: str | None = None) -> None:
        """Print a line that is to be copied, so that a terminal must not break it."""
        self.out.print(escape(text), style=style, highlight=False, soft_wrap=True)

    def text(self, text: str, *, stream: str = "stdout") -> None:
        """Print text as it is, without a line end of our own."""
        file = sys.stderr if stream == "stderr" else sys.stdout
        file.write(text)
        file.flush()

    def note(self, text: str) -> None:
        """Say something beside what was asked for."""
        self.err.print(escape(tame(text)), style="dim", highlight=False)

    def error(self, text: str) -> None:
        """Say what went wrong."""
        self.err.print(f"[bold red]lineshaft:[/] {escape(tame(text))}", highlight=False)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print rows, fitted to the terminal; aligned and unabridged in a pipe."""
        if self.out.is_terminal:
            self.out.print(rich_table(columns, rows, width=self.out.width))
            return
        for row in plain_table(columns, rows):
            self._write(row)

    def _write(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int) -> Table:
    """Return a table without the columns for which the terminal is too narrow."""
    shown = [place for place, column in enumerate(columns) if column.wide_from <= width]
    from rich.table import Table  # noqa: PLC0415 - few commands print one

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place in shown:
        column = columns[place]
        table.add_column(
            column.title, justify=column.align, overflow="fold", no_wrap=column.is_copied
        )
    for row in rows:
        table.add_row(*(escape(tame(row[place])) for place in shown))
    return table


def tame(text: str) -> str:
    """Return a text without what steers a terminal or turns the text around: others chose names."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        "\ufffd" if letter not in "\n\t" and category(letter) in {"Cc", "Cf", "Cs"} else letter
        for letter in text
    )


_BREAKS: Final = str.maketrans("\n\t", "  ")


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, columns two spaces apart; a name cannot make another line."""
    cells = ([tame(cell.translate(_BREAKS)) for cell in row] for row in rows)
    lines = [[column.title for column in columns], *cells]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    ]


def finite(value: object) -> object:
    """Return a value without NaN and infinities, which JSON has not: they become texts."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(key): finite(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
        case list() | tuple():
            return [finite(each) for each in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
        case _:
            return value


def duration(seconds: float) -> str:
    """Return a length of time as people write it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count_bytes: float) -> str:
    """Return an amount of memory as people write it."""
    for unit in ("B", "KiB", "MiB"):
        if count_bytes < 1024:
            return f"{count_bytes:.3g} {unit}" if unit != "B" else f"{count_bytes:.0f} B"
        count_bytes /= 1024
    return f"{count_bytes:.4g} GiB"


def text_of(value: JsonValue) -> str:
    """Return a JSON value for a cell."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list():
            return ",".join(text_of(each) for each in value)
        case _:
            return json.dumps(value)


def give_up_stdout() -> None:
    """Nobody reads on: keep Python from complaining about it when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


class _Console(Console):
    @override
    def on_broken_pipe(self) -> None:
        # rich would end the program with code 1: to have read enough is no failure.
        raise BrokenPipeError


def _console(file: IO[str]) -> Console:
    is_terminal = file.isatty()
    return _Console(
        file=file,
        width=None if is_terminal else WIDTH_OF_A_PIPE,
        # FORCE_COLOR and the like would put escape codes into pipes.
        force_terminal=is_terminal,
        no_color=True if "NO_COLOR" in os.environ else None,
        emoji=False,
    )
