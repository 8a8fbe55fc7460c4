"""Brings what a process tells into the files of its run, and sees how the process ends.

    python -m lineshaft_records.keeper FOLDER --pid PID

It ends with the run: when that is closed, or when its process is gone, which makes it CRASHED.
"""

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from lineshaft_records import artifacts
from lineshaft_records.documents import STATUSES, Status, read_info, replace_file
from lineshaft_records.histograms import row_of_histogram
from lineshaft_records.layout import RunFolder, runs
from lineshaft_records.machine import Gauge
from lineshaft_records.rows import Row, row_of_event
from lineshaft_records.side_tables import HISTOGRAMS, SideRow, add, lines_of
from lineshaft_records.text_logs import append_text, log_line
from lineshaft_records.writer import RunBusyError, RunWriter, is_open

POLL_S: Final = 0.1
SYNC_S: Final = 1.0
READ_BYTES: Final = 1 << 20
ROWS_MAX: Final = 20_000
"""Of one frame."""


class Keeper:
    """Reads the spool of one run.

    Args:
        folder: The run.
        flush_rows: Rows that are written at once.
        flush_s: After which time fewer are written.
        machine: Looks at the machine now and then; None leaves that out.
    """

    def __init__(
        self, folder: RunFolder, *, flush_rows: int, flush_s: float, machine: Gauge | None = None
    ) -> None:
        self.folder = folder
        self.writer = RunWriter(folder, read_info(folder))
        self._flush_rows, self._flush_s = flush_rows, flush_s
        self._read = self.writer.position.get("offset", 0)
        self._rest = b""
        """The beginning of a line whose end is still to come."""
        self._machine = machine
        self._rows: list[Row] = []
        self._histograms: list[SideRow] = []
        histograms = lines_of(folder, HISTOGRAMS)
        self._histogram_lines = histograms.relative_to(folder.path).as_posix()
        if self._histogram_lines not in self.writer.sizes:
            # Whoever wrote it was killed before he could say how much of it there is.
            histograms.unlink(missing_ok=True)
        self._flushed_at = self._synced_at = time.monotonic()
        ending = self.writer.position.get("status")
        self.status: Status | None = None if ending is None else STATUSES[ending]
        """How the run ended, once it has said so; perhaps to the keeper before this one."""

    def step(self, *, is_last: bool = False) -> bool:
        """Read what is new, and write it if it is time for it.

        Args:
            is_last: Its process is gone: what there is, is all.

        Returns:
            Whether there was anything.
        """
        with self.folder.spool.open("rb") as file:
            file.seek(self._read + len(self._rest))
            data = file.read(READ_BYTES)
        *lines, rest = (self._rest + data).split(b"\n")
        place = self._read
        must_flush = is_last
        for line in lines:
            place += len(line) + 1
            must_flush |= self._take(line)
            if len(self._rows) >= ROWS_MAX:
                self._flush(place)
        self._rest, self._read = rest, place
        now = time.monotonic()
        is_due = now - self._flushed_at >= self._flush_s or len(self._rows) >= self._flush_rows
        has_news = place != self.writer.position.get("offset", 0)
        if has_news and (must_flush or is_due or self.status is not None):
            self._flush(place)
        if must_flush:
            replace_file(self.folder.live / "kept", str(place).encode())
        if now - self._synced_at >= SYNC_S:
            self.writer.sync()
            self._synced_at = now
        if self._machine is not None:
            self._machine.tend(now)
        self.writer.tend(now)
        return bool(data)

    def finish(self, status: Status) -> None:
        """Write what is left, and close the run."""
        while self.step(is_last=True):
            pass
        if self._machine is not None:
            self._machine.finish()
        self.writer.close(self.status or status)

    def _flush(self, place: int) -> None:
        position = {"offset": place}
        if self.status is not None:
            position["status"] = STATUSES.index(self.status)
        sizes = dict(self.writer.sizes)
        if self._histograms:
            # First: what is written and not yet said to be there is cut off by the next keeper.
            sizes[self._histogram_lines] = add(self.folder, HISTOGRAMS, self._histograms)
        self.writer.append(self._rows, position, sizes)
        self._rows, self._histograms = [], []
        self._flushed_at = time.monotonic()

    def _take(self, line: bytes) -> bool:
        """Take one line; returns whether somebody waits until it is written."""
        try:
            said: dict[str, Any] = json.loads(line)
            kind, at, body = str(said["k"]), float(said["t"]), cast("dict[str, Any]", said["b"])
        except (ValueError, TypeError, LookupError, RecursionError):
            return False  # torn by a full disk
        match kind:
            case "metrics":
                row = row_of_event(1, at, body)
                if row is not None:
                    self._rows.append(row)
            case "histogram":
                histogram = row_of_histogram(at, body)
                if histogram is not None:
                    self._histograms.append(histogram)
            case "artifact":
                self._keep(at, body)
            case "notice":
                self._say(at, str(body.get("text", "")))
            case "flush":
                return True
            case "close":
                status = body.get("status")
                self.status = status if status in STATUSES else "FINISHED"
            case _:
                pass
        return False

    def _keep(self, at: float, body: Mapping[str, object]) -> None:
        try:
            found = artifacts.keep(self.folder, Path(str(body["path"])), str(body["name"]))
        except OSError as error:
            why = error.strerror or str(error)
            self._say(at, f"artifact {body.get('name')} could not be kept: {why}")
            return
        if not found:
            self._say(at, f"artifact {body.get('name')} is a folder without files")

    def _say(self, at: float, text: str) -> None:
        append_text(self.folder.log, log_line(at, "ERROR", text))


def watch(pid: int) -> int | None:
    """Return a descriptor that can be read once the process has ended; None if it has already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def run(
    folder: RunFolder, pid: int, *, flush_rows: int, flush_s: float, system_s: float = 0.0
) -> None:
    """Keep a run until it ends."""
    process = watch(pid)
    if not is_open(folder):
        return
    machine = Gauge(folder, pid, system_s) if system_s else None
    keeper = Keeper(folder, flush_rows=flush_rows, flush_s=flush_s, machine=machine)
    wait_s = min(POLL_S, flush_s)
    while keeper.status is None:
        if process is None:
            break
        has_read = keeper.step()
        ended, _, _ = select.select([process], [], [], 0 if has_read else wait_s)
        if ended:
            break
    keeper.finish("CRASHED")


def end_abandoned(base: Path) -> list[str]:
    """End runs below a folder whose process and keeper are both gone; returns their names."""
    ended: list[str] = []
    for folder in runs(base):
        if not is_open(folder) or not folder.spool.exists():
            continue
        try:
            keeper = Keeper(folder, flush_rows=ROWS_MAX, flush_s=0.0)
        except RunBusyError:
            continue
        keeper.finish("CRASHED")
        ended.append(f"{folder.experiment}/{folder.name}")
    return ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a keeper; returns its exit status."""
    flags = argparse.ArgumentParser(prog="python -m lineshaft_records.keeper")
    flags.add_argument("folder", type=Path)
    flags.add_argument("--pid", type=int, required=True)
    flags.add_argument("--flush-rows", type=int, default=50)
    flags.add_argument("--flush-ms", type=int, default=500)
    flags.add_argument("--system-s", type=float, default=0.0)
    chosen = flags.parse_args(arguments)
    try:
        run(
            RunFolder(chosen.folder),
            chosen.pid,
            flush_rows=chosen.flush_rows,
            flush_s=chosen.flush_ms / 1000,
            system_s=chosen.system_s,
        )
    except RunBusyError:
        return 0  # The one before is still at it.
    return 0


if __name__ == "__main__":
    sys.exit(main())
