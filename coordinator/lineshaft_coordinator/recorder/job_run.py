"""One job as a run: its committed events become rows, log lines and the end of a record."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

from pydantic_core import from_json

from lineshaft_coordinator.recorder.job_files import JobFiles
from lineshaft_coordinator.recorder.looks import Look, columns_of
from lineshaft_coordinator.recorder.source import Begun, Source
from lineshaft_records.documents import RunInfo, Status, merge_config, write_yaml
from lineshaft_records.histograms import row_of_histogram
from lineshaft_records.layout import RunFolder, run_folder, safe_name
from lineshaft_records.rows import Row, row_of_event
from lineshaft_records.side_tables import HISTOGRAMS, SYSTEM, SideRow, add, count_lines, lines_of
from lineshaft_records.text_logs import Level, append_text, log_line
from lineshaft_records.writer import RunWriter

DEFAULT_EXPERIMENT: Final = "default"
WATCHED_S: Final = 30.0
RECENT_MAX: Final = 4096
LOST: Final = frozenset({"worker_lost", "signal", "oom"})
"""Causes of a failure that no code of the job chose."""


def experiment_of(begun: Begun) -> str:
    """Return which experiment a job belongs to: what it says, else its name."""
    wanted = begun.experiment or Path(begun.name or DEFAULT_EXPERIMENT).name
    return safe_name(wanted, DEFAULT_EXPERIMENT)


def folder_of(base: Path, begun: Begun) -> RunFolder:
    """Return where the run of a job lies."""
    return run_folder(base, experiment_of(begun), safe_name(begun.job_id, "job"))


class JobRun:
    """Records one job.

    Args:
        base: Where experiments lie, in the coordinator's data folder.
        begun: What the job is.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, base: Path, begun: Begun) -> None:
        self.job_id = begun.job_id
        self.folder = folder_of(base, begun)
        at = begun.started_at if begun.started_at is not None else begun.submitted_at
        info = RunInfo(
            name=self.folder.name,
            experiment=self.folder.experiment,
            started_at=datetime.fromtimestamp(at, UTC),
            tags=begun.tags,
            group=begun.group,
            rank=begun.rank,
            description=begun.name,
        )
        self.writer = RunWriter(self.folder, info)
        if begun.params and not self.folder.config.exists():
            merge_config(self.folder, begun.params)
        if not self.folder.provenance.exists():
            write_yaml(self.folder.provenance, begun.origin)
        position = self.writer.position
        self._after = (position.get("attempt", 0), position.get("seq", 0))
        self.recent: deque[tuple[tuple[int, int], Row]] = deque()
        """The last rows, while somebody looks at them; read by the thread that answers."""
        self.floor = self._after
        """Rows of events after this one are all among the recent ones."""
        self.watched_at = float("-inf")
        self._is_end_told = bool(position.get("ended"))
        self._console_bytes = self.writer.sizes.get("console.log", 0)
        self._log_bytes = self.writer.sizes.get("run.log", 0)
        self._files = JobFiles(self.folder, base.parent, self.writer.sizes)
        self._histograms: list[SideRow] = []
        lines = lines_of(self.folder, HISTOGRAMS)
        self._histogram_lines = lines.relative_to(self.folder.path).as_posix()
        self._histogram_bytes = self.writer.sizes.get(self._histogram_lines, 0)
        if not self._histogram_bytes:
            # Whoever wrote it was killed before he could say how much of it there is.
            lines.unlink(missing_ok=True)
        self._look_count = count_lines(self.folder, SYSTEM)

    @property
    def place(self) -> tuple[int, int]:
        """Attempt and number of the last event that is recorded."""
        return self._after

    @property
    def is_watched(self) -> bool:
        """Whether somebody asked for recent rows a moment ago."""
        return time.monotonic() - self.watched_at < WATCHED_S

    def advance(self, source: Source) -> int:
        """Record what was committed since; returns how many events that were.

        Raises:
            OSError: The disk is full or broken; nothing of the last page is recorded.
            sqlite3.Error: The database cannot be read.
        """
        count = 0
        while page := source.events(self.job_id, self._after):
            rows: list[Row] = []
            places: list[tuple[int, int]] = []
            console: list[str] = []
            log: list[str] = []
            # All at once: a reader that is called for each event costs as much again.
            bodies = chain.from_iterable(stretch.bodies for stretch in page)
            said = iter(cast("list[dict[str, Any]]", from_json(b"[%b]" % b",".join(bodies))))
            place = self._after
            for stretch in page:
                for seq, at in enumerate(stretch.ats, stretch.first):
                    place = stretch.attempt, seq
                    told = next(said)
                    if told["kind"] != "metrics":
                        self._take(at, told["kind"], told["body"], console, log)
                    elif (row := self._row(stretch.attempt, at, told["body"])) is not None:
                        rows.append(row)
                        places.append(place)
                count += len(stretch.ats)
            self._write(rows, "".join(console), "".join(log), place)
            self._remember(places, rows)
        return count

    def note_machine(self, looks: Sequence[Look]) -> None:
        """Write down how busy its machine was. A full disk costs these looks, and nothing else."""
        rows = [
            SideRow(self._look_count + place, round(at * 1e6), columns_of(seen))
            for place, (at, seen) in enumerate(looks)
        ]
        if rows:
            with suppress(OSError):
                add(self.folder, SYSTEM, rows)
                self._look_count += len(rows)

    def end(self, source: Source) -> None:
        """Record how the job ended; all its events are recorded already.

        Raises:
            OSError: The disk is full or broken.
            sqlite3.Error: The database cannot be read.
        """
        row = source.row(self.job_id)
        outcome: dict[str, Any] = {}
        for _, record in source.records(self.job_id):
            if record["type"] == "JobFinished":
                outcome = record["outcome"]
            elif record["type"] == "FileKept" and not self._is_end_told:
                file = record["file"]
                self._files.note(file, source.tag_of(self.job_id, str(file["file_id"])))
        status, text = ending_of(outcome)
        at = row.finished_at if row is not None and row.finished_at else time.time()
        if not self._is_end_told:
            line = log_line(at, "ERROR", text) if text else ""
            self._write([], "", line, self._after, ended=1)
            self._is_end_told = True
        self.writer.close(status, datetime.fromtimestamp(at, UTC))

    def _remember(self, places: Sequence[tuple[int, int]], rows: Sequence[Row]) -> None:
        if not self.is_watched:
            self.recent.clear()
            self.floor = self._after
            return
        self.recent.extend(zip(places, rows, strict=True))
        while len(self.recent) > RECENT_MAX:
            self.floor, _ = self.recent.popleft()

    def _row(self, attempt: int, at: float, body: dict[str, Any]) -> Row | None:
        if "histogram" in body and (histogram := row_of_histogram(at, body["histogram"])):
            self._histograms.append(histogram)
        row = row_of_event(attempt, at, body)
        return row if row is not None and row.values else None

    def _take(
        self, at: float, kind: str, body: dict[str, Any], console: list[str], log: list[str]
    ) -> None:
        match kind:
            case "log":
                console.append(str(body.get("text", "")))
            case "checkpoint" | "artifact":
                step = f" at step {body['step']}" if body.get("step") is not None else ""
                name = body.get("name") or body.get("path")
                log.append(log_line(at, "INFO", f"{kind} {name}{step}"))
            case "notice":
                level: Level = "WARN" if body.get("code") else "INFO"
                log.append(log_line(at, level, one_line(str(body.get("text", "")))))
            case _:
                pass

    def _write(
        self, rows: list[Row], console: str, log: str, last: tuple[int, int], *, ended: int = 0
    ) -> None:
        # Texts first: what is written and not yet said to be there is cut off by the next writer.
        if console:
            self._console_bytes = append_text(self.folder.console, console)
        if log:
            self._log_bytes = append_text(self.folder.log, log)
        if self._histograms:
            self._histogram_bytes = add(self.folder, HISTOGRAMS, self._histograms)
            self._histograms = []
        position = {"attempt": last[0], "seq": last[1]} | ({"ended": 1} if ended else {})
        sizes = {
            "console.log": self._console_bytes,
            "run.log": self._log_bytes,
            **self._files.sizes,
            self._histogram_lines: self._histogram_bytes,
        }
        self.writer.append(rows, position, sizes)
        self._after = last


def ending_of(outcome: dict[str, Any]) -> tuple[Status, str]:
    """Return how a run ended whose job ended so, and what to say of it in run.log."""
    failure = cast("dict[str, Any]", outcome.get("failure") or {})
    reason = one_line(str(failure.get("message") or outcome.get("reason") or ""))
    match outcome.get("status"):
        case "succeeded":
            return "FINISHED", ""
        case "cancelled":
            return "FAILED", f"run cancelled: {reason}" if reason else "run cancelled"
        case _:
            status: Status = "CRASHED" if failure.get("cause") in LOST else "FAILED"
            return status, f"run {status}: {reason}" if reason else f"run {status}"


def one_line(text: str) -> str:
    """Return a text without line ends."""
    return " ".join(text.split())[:2000]
