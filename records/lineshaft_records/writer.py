"""Writes one run: rows into segments, and the files that readers look at.

One process writes a run at a time. What it has read of its source is kept with the rows, so a
writer that is killed leaves a folder from which the next one goes on, without loss or double.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from lineshaft_records.documents import (
    RunInfo,
    Status,
    make_experiment,
    read_info,
    write_info,
)
from lineshaft_records.errors import RecordsError
from lineshaft_records.layout import RunFolder
from lineshaft_records.publishing import Covered, publish
from lineshaft_records.rows import Row, flush_of
from lineshaft_records.segments import Position, Segment, frames
from lineshaft_records.side_tables import SideTables
from lineshaft_runtime.durable import sync_path

SEGMENT_BYTES: Final = 64 * 1024 * 1024
PUBLISH_EVERY_S: Final = 60.0
PUBLISH_GROWTH: Final = 1.2
HEARTBEAT_S: Final = 30.0


class RunBusyError(RecordsError):
    """Another process writes this run."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(f"another process writes {folder.path}")


def is_open(folder: RunFolder) -> bool:
    """Whether a run has rows to be published, or nobody has said how it ended.

    What a writer left that was killed at the very end is removed.
    """
    if not folder.live.is_dir():
        return False
    if read_info(folder).status != "RUNNING" and folder.info.exists():
        shutil.rmtree(folder.live, ignore_errors=True)
        return False
    return True


class RunWriter:
    """Goes on with a run where its files end, or begins it.

    Args:
        folder: Where.
        info: What run.yaml says first, if the run is new.
        display_name: What experiment.yaml says first, if the experiment is new.

    Raises:
        RunBusyError: Another process has it open.
        OSError: The folder cannot be written.
    """

    def __init__(
        self, folder: RunFolder, info: RunInfo, *, display_name: str | None = None
    ) -> None:
        self.folder = folder
        make_experiment(folder.path.parent, display_name=display_name)
        is_new = not folder.info.exists()
        folder.artifacts.mkdir(parents=True, exist_ok=True)
        folder.live.mkdir(exist_ok=True)
        self._lock = self._locked()
        self.info = info if is_new else read_info(folder)
        if is_new:
            write_info(folder, info)
            sync_path(folder.path)
        self.columns: dict[str, None] = {}
        """All columns so far, in order of appearance."""
        self.position: Position = {}
        self.sizes: Mapping[str, int] = {}
        self.rows = 0
        self.last: dict[str, float | str] = {}
        """The last value of each metric."""
        self._attempt = 1
        self._published_rows = 0
        self._published_at = -PUBLISH_EVERY_S
        self._told_at = time.monotonic()
        self._sides = SideTables(folder)
        self._number = 1
        try:
            self._segment = self._recovered()
        except BaseException:
            # Who tries again, in this process, must find it free.
            os.close(self._lock)
            raise

    def _locked(self) -> int:
        descriptor = os.open(self.folder.live / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise RunBusyError(self.folder) from error
        return descriptor

    def _recovered(self) -> Segment:
        """Read what is there, and cut off what is not whole."""
        end = 0
        columns: tuple[str, ...] = ()
        for path in self.folder.segments():
            self._number = int(path.stem.partition("-")[2])
            end, columns = 0, ()
            for frame in frames(path):
                end, columns = frame.end, frame.columns
                self.columns |= dict.fromkeys(columns)
                self.position, self.sizes = frame.position, frame.sizes
                self.rows += frame.rows
                if frame.rows:
                    self._note_last(frame.batch())
        # Files that are written beside the rows end where the last frame says: what is behind was
        # written by somebody who was killed before he could say so, and is written again.
        for name, size in self.sizes.items():
            with suppress(FileNotFoundError):
                path = self.folder.path / name
                if path.stat().st_size > size:
                    os.truncate(path, size)
        return Segment(self.folder.segment(self._number), size=end, columns=columns)

    def _note_last(self, batch: Any) -> None:
        for name, column in zip(batch.schema.names[3:], batch.columns[3:], strict=True):
            place = len(column) - 1
            while place >= 0 and not column[place].is_valid:
                place -= 1
            if place >= 0:
                self.last[name[2:]] = column[place].as_py()
        self._attempt = max(self._attempt, batch.column(0)[-1].as_py())

    def append(
        self,
        rows: Sequence[Row],
        position: Position,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Add rows, and how far their source was read with them.

        Args:
            rows: Any number, none included.
            position: What `position` is after a crash that comes later.
            sizes: Lengths in bytes of other files of the run, by name; see `_recovered`.

        Raises:
            OSError: The disk is full or broken; nothing was added.
        """
        flush = flush_of(rows) if rows else None
        if self._segment.size >= SEGMENT_BYTES:
            self._segment.sync()
            self._segment.close()
            self._number += 1
            self._segment = Segment(self.folder.segment(self._number))
        sizes = self.sizes if sizes is None else sizes
        self._segment.append(flush, position, sizes)
        self.position, self.sizes = position, sizes
        if flush is None:
            return
        self.rows += len(flush.at_us)
        self.columns |= dict.fromkeys(flush.columns)
        self._attempt = max(self._attempt, *flush.attempts)
        for name, values in flush.columns.items():
            self.last[name[2:]] = next(each for each in reversed(values) if each is not None)

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        self._segment.sync()

    def tend(self, now: float) -> bool:
        """Publish if it is time for it, and say that the run is alive; returns whether it did.

        Args:
            now: Any clock's seconds.
        """
        self._sides.tend(now)
        is_grown = self.rows >= max(1, self._published_rows) * PUBLISH_GROWTH or (
            self.rows > 0 and self._published_rows == 0
        )
        is_publishing = is_grown and now - self._published_at >= PUBLISH_EVERY_S
        if is_publishing:
            self._publish()
            self._published_at = now
        if is_publishing or now - self._told_at >= HEARTBEAT_S:
            self.update()
            self._told_at = now
            return True
        return False

    def update(self, **changes: Any) -> None:
        """Write run.yaml anew, with what changed and the last values."""
        self.info = replace(
            self.info, heartbeat_at=datetime.now(UTC), vectors=dict(self.last), **changes
        )
        write_info(self.folder, self.info)

    def _publish(self) -> None:
        covered = Covered(self._number, self._segment.size, self._segment.columns, self.rows)
        publish(self.folder, tuple(self.columns), covered, last=self._attempt)
        self._published_rows = self.rows

    def close(self, status: Status, at: datetime | None = None) -> None:
        """End the run: all rows in metrics.parquet, the end in run.yaml, no segments left.

        Args:
            status: How it ended.
            at: When; now if None.
        """
        if self.rows:
            self._publish()
        self._sides.close()
        self.info = self.info.ended(status, at or datetime.now(UTC))
        self.update()
        sync_path(self.folder.path)
        self.leave()
        # Only now: until here, the next writer could do it all again.
        shutil.rmtree(self.folder.live, ignore_errors=True)

    def leave(self) -> None:
        """Stop writing and leave the run open for the next writer."""
        self._segment.sync()
        self._segment.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
