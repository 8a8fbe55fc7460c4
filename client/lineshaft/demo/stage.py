"""What the demo shows while it works: moving bars on a terminal, lines in a pipe."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from lineshaft.cli.output import Column, Output, duration

NARROW = 60


class Act:
    """One thing the demo does, while it does it."""

    def __init__(self, progress: Progress | None, total: int | None) -> None:
        self.summary = ""
        """What to say about it in the end."""
        self._progress = progress
        if progress is not None:
            self._task = progress.add_task("", total=total)

    def move(self, done: float, total: float | None = None, *, text: str = "") -> None:
        """Say how far it is."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, description=escape(text))


class Stage:
    """Where the demo is shown."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def say(self, text: str = "", *, style: str | None = None) -> None:
        """Show a line."""
        if not self._output.is_json:
            self._output.line(text, style=style)

    def command(self, text: str) -> None:
        """Show a line that can be copied to a shell."""
        if not self._output.is_json:
            self._output.command(text, style="dim")

    def table(self, columns: list[Column], rows: list[list[str]]) -> None:
        """Show a table."""
        if not self._output.is_json:
            self._output.table(columns, rows)

    @contextmanager
    def act(self, title: str, *, total: int | None = None) -> Generator[Act]:
        """Show what is done inside of the block, and then how it went."""
        started = time.monotonic()
        out = self._output.out
        if not out.is_terminal or self._output.is_json:
            act = Act(None, total)
            yield act
        else:
            columns = [SpinnerColumn(finished_text=" "), TextColumn(escape(title))]
            if total is not None:
                columns += [BarColumn(bar_width=12 if out.width < NARROW else 24)]
                columns += [MofNCompleteColumn()]
            if out.width >= NARROW:
                columns += [TextColumn("[dim]{task.description}")]
            with Progress(*columns, console=out, transient=True) as progress:
                act = Act(progress, total)
                yield act
        took = duration(time.monotonic() - started)
        self.done(f"{title}: {act.summary}" if act.summary else title, took)

    def done(self, text: str, took: str | None = None) -> None:
        """Show something that went well."""
        if self._output.is_json:
            return
        after = f" [dim]({took})[/]" if took else ""
        mark = "[green]✓[/]" if self._output.out.is_terminal else "ok:"
        self._output.out.print(f"{mark} {escape(text)}{after}", highlight=False)

    def failed(self, text: str) -> None:
        """Show something that did not go well."""
        if self._output.is_json:
            self._output.error(text)
            return
        mark = "[bold red]✗[/]" if self._output.out.is_terminal else "FAILED:"
        self._output.out.print(f"{mark} {escape(text)}", highlight=False)
