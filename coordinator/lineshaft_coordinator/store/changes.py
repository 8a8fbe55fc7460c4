"""Writes batches and forgets old jobs, in as few engine calls as possible.

Python gives up its interpreter lock around each step of a statement and may wait 5 ms to get it
back from a busy event loop. One insert of 256 rows is one step; `executemany` would take 256.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Final, cast

from lineshaft_coordinator.store.faults import DamageError
from lineshaft_coordinator.store.interface import Batch, EventRow, JobRow
from lineshaft_coordinator.store.rows import (
    RECORD_COLUMNS,
    ROW_COLUMNS,
    RowCells,
    cells_of_record,
    cells_of_row,
    setting_crc,
)
from lineshaft_coordinator.store.stretches import (
    EVENT_COLUMNS,
    EventCells,
    cells_of_stretch,
    neighbours,
)
from lineshaft_coordinator.store.transaction import Transaction

_SIZES: Final = (256, 32, 4, 2, 1)


def _sized(insert: str, columns: str, conflict: str = "") -> tuple[tuple[int, str], ...]:
    """Spell one insert for each number of rows we insert at once."""
    values = f"({', '.join('?' * len(columns.split(',')))})"
    return tuple(
        (size, f"{insert} ({columns}) VALUES {', '.join([values] * size)} {conflict}")
        for size in _SIZES
    )


# Only columns that are in no index: see the theory of the indexes in schema.py.
_UPDATE_LIVE: Final = (
    "ON CONFLICT (job_id) DO UPDATE SET status = excluded.status, name = excluded.name,"
    " kind = excluded.kind, client_id = excluded.client_id, worker_id = excluded.worker_id,"
    " attempt = excluded.attempt, tags = excluded.tags, error = excluded.error, crc = excluded.crc"
)
_UPDATE_ALL: Final = (
    f"{_UPDATE_LIVE}, is_live = excluded.is_live, finished_at = excluded.finished_at"
)
_INSERT_RECORDS: Final = _sized("INSERT INTO journal", RECORD_COLUMNS)
_INSERT_EVENTS: Final = _sized("INSERT INTO events", EVENT_COLUMNS)
_INSERT_ROWS: Final = _sized("INSERT INTO jobs", ROW_COLUMNS)
_UPDATE_LIVE_ROWS: Final = _sized("INSERT INTO jobs", ROW_COLUMNS, _UPDATE_LIVE)
_UPSERT_ROWS: Final = _sized("INSERT INTO jobs", ROW_COLUMNS, _UPDATE_ALL)
_OLDEST: Final = (
    "SELECT job_id FROM jobs WHERE is_live = 0 AND finished_at < ?"
    " ORDER BY finished_at, rowid LIMIT ?"
)


class Changes:
    """All that changes an open database; used by one thread at a time, see `writer`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Learn where the journal ends and which jobs live.

        Raises:
            DamageError: What the database says of them cannot be.
        """
        self._connection = connection
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchone()
        self._next_seq = max(last + 1, read_setting(connection, "next_seq", otherwise=1))
        found = connection.execute(f"SELECT {ROW_COLUMNS} FROM jobs WHERE is_live = 1")  # noqa: S608 - constants
        self._live = {cast("str", cells[0]): cast("RowCells", cells) for cells in found}
        """The rows of live jobs, as they are in the database."""
        self._older = set(self._live)
        """Live jobs that may have events that this process did not write."""
        self._told: dict[str, dict[int, int]] = {}
        """Of live jobs that said something: the last event of each attempt."""

    def write(self, batches: Sequence[Batch]) -> None:
        """Commit batches in one synced transaction, or change nothing and raise."""
        rows = [row for batch in batches for row in batch.rows]
        try:
            self._write(batches, rows, ended={})
        except sqlite3.IntegrityError:
            # A job that does not live is new, but for a few that ended and are written again:
            # the database finds them faster than a look at each.
            strangers = {row.job_id for row in rows if row.job_id not in self._live}
            if not (ended := self._find_rows(tuple(strangers))):
                raise
            self._write(batches, rows, ended=ended)

    def _write(
        self, batches: Sequence[Batch], rows: Sequence[JobRow], *, ended: Mapping[str, RowCells]
    ) -> None:
        live = self._live
        merged = self._merge(rows, ended)
        records = [record for batch in batches for record in batch.records]
        strangers = {
            job_id for job_id, _, _ in records if job_id not in live and job_id not in merged
        }
        if strangers:
            self._assert_rows_exist(strangers)
        numbered = [
            cells_of_record(seq, *record) for seq, record in enumerate(records, self._next_seq)
        ]
        events = [event for batch in batches for event in batch.events]
        new: list[RowCells] = []
        updated: list[RowCells] = []
        moved: list[RowCells] = []
        for job_id, cells in merged.items():
            if job_id in self._live:
                (updated if cells[1] else moved).append(cells)
            else:
                (moved if job_id in ended else new).append(cells)
        with Transaction(self._connection):
            self._insert(_INSERT_RECORDS, numbered)
            self._insert(_INSERT_ROWS, new)
            self._insert(_UPDATE_LIVE_ROWS, updated)
            self._insert(_UPSERT_ROWS, moved)
            told = self._insert_events(events)
        self._next_seq += len(numbered)
        for job_id, cells in merged.items():
            if cells[1]:
                self._live[job_id] = cells
            else:
                self._live.pop(job_id, None)
                self._told.pop(job_id, None)
                self._older.discard(job_id)
        self._older.update(job_id for job_id in ended if job_id in self._live)
        for job_id, attempts in told.items():
            if job_id in self._live:
                self._told[job_id] = attempts

    def _insert_events(self, events: Sequence[EventRow]) -> dict[str, dict[int, int]]:
        """Add events that are not there yet; return the last ones of the attempts of these jobs.

        Whoever speaks of what is there already (a worker that was not told of the commit) may do so
        with other neighbours, so that the key of the table does not find it.
        """
        told: dict[str, dict[int, int]] = {}
        cells: list[EventCells] = []
        strays: list[EventRow] = []
        for together in neighbours(events):
            job_id, attempt = together[0].job_id, together[0].attempt
            if (attempts := told.get(job_id)) is None:
                attempts = told[job_id] = self._last_events(job_id)
            last = attempts.get(attempt, -1)
            known = max(0, last + 1 - together[0].seq)
            strays += together[:known]
            if new := together[known:]:
                cells.append(cells_of_stretch(new))
                attempts[attempt] = new[-1].seq
        self._insert(_INSERT_EVENTS, cells)
        for event in strays:
            if not self._has_event(event):
                self._insert(_INSERT_EVENTS, [cells_of_stretch([event])])
        return told

    def _last_events(self, job_id: str) -> dict[int, int]:
        if job_id in self._told:
            return dict(self._told[job_id])
        if job_id in self._live and job_id not in self._older:
            return {}
        found = self._connection.execute(
            "SELECT attempt, max(seq) FROM events WHERE job_id = ? GROUP BY attempt", (job_id,)
        )
        return dict(found.fetchall())

    def _has_event(self, event: EventRow) -> bool:
        found = self._connection.execute(
            "SELECT seq - count FROM events WHERE job_id = ? AND attempt = ? AND seq >= ?"
            " ORDER BY seq LIMIT 1",
            (event.job_id, event.attempt, event.seq),
        ).fetchone()
        return found is not None and found[0] < event.seq

    def close(self) -> None:
        """Close the database; what was committed is in its main file then."""
        self._connection.close()

    def prune(self, finished_before: float, count_max: int) -> int:
        """Forget the longest finished jobs in one transaction; return how many."""
        oldest = (finished_before, count_max)
        with Transaction(self._connection) as connection:
            for table in ("journal", "events"):
                connection.execute(f"DELETE FROM {table} WHERE job_id IN ({_OLDEST})", oldest)  # noqa: S608 - constants
            count = connection.execute(
                f"DELETE FROM jobs WHERE job_id IN ({_OLDEST})",  # noqa: S608 - a constant
                oldest,
            ).rowcount
            # The last records may be gone now, and their numbers must not be given again.
            write_setting(connection, "next_seq", self._next_seq)
        return count

    def _merge(self, rows: Sequence[JobRow], ended: Mapping[str, RowCells]) -> dict[str, RowCells]:
        """Lay out the last row of each job, with what it leaves as it was."""
        merged: dict[str, RowCells] = {}
        for row in rows:
            job_id = row.job_id
            before = merged.get(job_id) or self._live.get(job_id) or ended.get(job_id)
            merged[job_id] = cells_of_row(row, before)
        return merged

    def _find_rows(self, job_ids: Sequence[str]) -> dict[str, RowCells]:
        found: dict[str, RowCells] = {}
        for start in range(0, len(job_ids), _SIZES[0]):
            chunk = job_ids[start : start + _SIZES[0]]
            marks = ", ".join("?" * len(chunk))
            rows = self._connection.execute(
                f"SELECT {ROW_COLUMNS} FROM jobs WHERE job_id IN ({marks})",  # noqa: S608 - constants
                chunk,
            )
            found |= {cells[0]: cells for cells in rows.fetchall()}
        return found

    def _assert_rows_exist(self, job_ids: AbstractSet[str]) -> None:
        # A record without a row would never be replayed.
        strangers = job_ids - self._find_rows(tuple(job_ids)).keys()
        assert not strangers, f"records came without a row, of jobs {sorted(strangers)[:3]}"

    def _insert(
        self, statements: tuple[tuple[int, str], ...], cells: Sequence[tuple[object, ...]]
    ) -> None:
        start = 0
        for size, statement in statements:
            while len(cells) - start >= size:
                values = tuple(chain.from_iterable(cells[start : start + size]))
                self._connection.execute(statement, values)
                start += size


def read_setting(connection: sqlite3.Connection, key: str, *, otherwise: int) -> int:
    """Read one number that outlives the process.

    Raises:
        DamageError: It is not what was written.
    """
    found = connection.execute("SELECT value, crc FROM settings WHERE key = ?", (key,)).fetchone()
    if found is None:
        return otherwise
    value, crc = found
    if not isinstance(value, int) or setting_crc(key, value) != crc:
        raise DamageError(f"the setting {key} does not match its checksum")
    return value


def write_setting(connection: sqlite3.Connection, key: str, value: int) -> None:
    """Write one number that outlives the process."""
    connection.execute(
        "INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (key, value, setting_crc(key, value))
    )
