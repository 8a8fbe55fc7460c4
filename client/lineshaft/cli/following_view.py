"""What is shown of a job while it runs."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from lineshaft import job_events
from lineshaft.async_client import AsyncClient
from lineshaft.cli.exits import FailedError
from lineshaft.cli.jobs import reasons_of
from lineshaft.cli.output import Output
from lineshaft.errors import LineshaftError
from lineshaft.job import AsyncJob
from lineshaft.questions import LogsWanted
from lineshaft_protocol.outcomes import Outcome
from lineshaft_runtime.terminal_lines import as_seen, open_line

QUEUED_S = 2.0
"""How long a job waits before it is asked why."""
TAIL_CHARS = 20_000
WIDE = 60
"""Columns of a terminal that has room for everything."""
STEPS_TOLD = 10
"""In a pipe, progress is told this often in all."""


class View:
    """Shows output, progress and moves of one job: with a bar on a terminal, else in lines.

    Output of the job goes to standard output and standard error as it did there; all else goes to
    standard error.
    """

    def __init__(
        self,
        output: Output,
        client: AsyncClient,
        job: AsyncJob[object],
        wanted: LogsWanted | None = None,
    ) -> None:
        self._output, self._client, self._job = output, client, job
        self._wanted = wanted or LogsWanted()
        self.tail = ""
        """The end of what the job printed to standard error."""
        self._bar = _Bar(output) if output.is_live else None
        self._state = ""
        self._told_count = 0
        self._asking: asyncio.Task[None] | None = None
        # On a terminal the bar must be moved out of the way of each line; files get bytes at once.
        self._lines = {
            name: _Lines(self._bar.print_line, self._bar.describe)
            if self._bar and file.isatty()
            else None
            for name, file in (("stdout", sys.stdout), ("stderr", sys.stderr))
        }

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._asking is not None:
            self._asking.cancel()
        for lines in self._lines.values():
            if lines is not None:
                lines.flush()
        if self._bar:
            self._bar.stop()

    async def read(self) -> Outcome:
        """Show everything until the job's end.

        Raises:
            LineshaftError: Nobody knows the job, or the connection was closed.
        """
        after = (0, 0)
        if self._wanted.tail is not None:
            page = await self._job.log_page(self._wanted)
            for log in page.pieces:
                self._show(log)
            after = page.place
        async with aclosing(self._job.events(after=after)) as events:
            async for event in events:
                if isinstance(event, job_events.Finished):
                    return event.outcome
                if not isinstance(event, job_events.Log) or self._wanted.has(event):
                    self._show(event)
        raise FailedError(f"job {self._job.id} ended without an outcome")

    def _show(self, event: job_events.Event) -> None:
        if self._output.is_json:
            return
        match event:
            case job_events.Log(stream=stream, text=text):
                self._print(stream, text)
            case job_events.Progress():
                self._on_progress(event)
            case job_events.Metrics(metrics=metrics):
                if self._bar and metrics:
                    self._bar.describe(", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
            case job_events.State():
                self._on_state(event)
            case job_events.Kept(kind=kind, body=body):
                self._output.note(f"{kind} {body.get('path', '')} was kept")
            case job_events.Notice(body=body):
                self._output.note(str(body.get("text", body)))
            case job_events.Finished():
                pass

    def _print(self, stream: str, text: str) -> None:
        if stream == "stderr":
            self.tail = (self.tail + text)[-TAIL_CHARS:]
        lines = self._lines["stderr" if stream == "stderr" else "stdout"]
        if lines is None:
            self._output.text(text, stream=stream)
        else:
            lines.add(text)

    def _on_progress(self, event: job_events.Progress) -> None:
        if self._bar:
            self._bar.move(event.step, event.total, event.phase)
            return
        count = int(STEPS_TOLD * event.step / event.total) if event.total else 0
        if count > self._told_count:
            self._told_count = count
            phase = f" ({event.phase})" if event.phase else ""
            self._output.note(f"progress {event.step:g} of {event.total:g}{phase}")

    def _on_state(self, event: job_events.State) -> None:
        if event.state == self._state:
            return
        if not self._state:
            self._output.note(f"job {self._job.id} was submitted")
        self._state = event.state
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        where = f" on worker {event.worker_id}" if event.worker_id else ""
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        if self._bar:
            self._bar.describe(f"{event.state}{where}{again}")
        elif event.state == "running":
            self._output.note(f"job {self._job.id} is running{where}{again}")
        if event.state in ("queued", "waiting"):
            self._asking = asyncio.create_task(self._ask_why())

    async def _ask_why(self) -> None:
        await asyncio.sleep(QUEUED_S)
        with suppress(LineshaftError):
            status, reasons = reasons_of(await self._client.why(self._job.id))
            if reasons:
                self._output.note(f"job {self._job.id} is {status}: {'; '.join(reasons)}")


class _Lines:
    """Puts pieces of output together to lines, as a terminal shows them.

    Args:
        put: Prints a line.
        hint: Shows the state of a line that overwrites itself and has not ended.
    """

    def __init__(self, put: Callable[[str], None], hint: Callable[[str], None]) -> None:
        self._put, self._hint, self._rest = put, hint, ""

    def add(self, text: str) -> None:
        *lines, rest = (self._rest + text).split("\n")
        for line in lines:
            self._put(as_seen(line))
        # A bar that is never ended would grow for as long as the job runs.
        self._rest = open_line(rest)
        if "\r" in self._rest and (state := as_seen(self._rest).strip()):
            self._hint(state)

    def flush(self) -> None:
        if self._rest:
            self._put(as_seen(self._rest))
            self._rest = ""


class _Bar:
    """One line at the bottom of the terminal."""

    def __init__(self, output: Output) -> None:
        width = output.err.width
        is_wide = width >= WIDE
        bar = BarColumn(bar_width=20 if is_wide else 10)
        steps = TextColumn("{task.fields[steps]}")
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), bar, steps]
        if is_wide:
            columns += [TimeElapsedColumn()]
        self._progress = Progress(*columns, console=output.err, transient=True)
        # What is left beside spinner, bar, "1234/5678" and time.
        self._room = max(10, width - (46 if is_wide else 24))
        self._task = self._progress.add_task("submitted", total=None, steps="")
        self._phase = ""

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def print_line(self, line: str) -> None:
        self._progress.console.print(Text.from_ansi(line), soft_wrap=True)

    def move(self, step: float, total: float | None, phase: str) -> None:
        steps = f"{step:g}/{total:g}" if total else f"{step:g}"
        self._progress.update(self._task, completed=step, total=total, steps=steps)
        if phase and phase != self._phase:
            self._phase = phase
            self.describe(phase)

    def describe(self, text: str) -> None:
        shown = text if len(text) <= self._room else f"{text[: self._room - 1]}…"
        self._progress.update(self._task, description=shown)
