"""Writes batches and forgets old jobs, in as few engine calls as possible.

Python gives up its interpreter lock around each step of a statement and may wait 5 ms to get it
back from a busy event loop. One insert of 64 rows is one step; `executemany` would take 64.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from lineshaft_coordinator.store.faults import DamageError
from lineshaft_coordinator.store.interface import Batch, JobRow
from lineshaft_coordinator.store.rows import (
    EVENT_COLUMNS,
    RECORD_COLUMNS,
    ROW_COLUMNS,
    cells_of_event,
    cells_of_record,
    cells_of_row,
    setting_crc,
)
from lineshaft_coordinator.store.transaction import Transaction

_SIZES: Final = (64, 8, 1)


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
    " kind = excluded.kind, client_id = excluded.client_id, attempt = excluded.attempt,"
    " tags = excluded.tags, crc = excluded.crc,"
    " worker_id = coalesce(excluded.worker_id, worker_id),"
    " error = coalesce(excluded.error, error)"
)
_UPDATE_ALL: Final = (
    f"{_UPDATE_LIVE}, is_live = excluded.is_live, finished_at = CASE excluded.is_live"
    " WHEN 1 THEN excluded.finished_at ELSE coalesce(excluded.finished_at, finished_at) END"
)
_INSERT_RECORDS: Final = _sized("INSERT INTO journal", RECORD_COLUMNS)
_INSERT_EVENTS: Final = _sized("INSERT OR IGNORE INTO events", EVENT_COLUMNS)
_UPDATE_LIVE_ROWS: Final = _sized("INSERT INTO jobs", ROW_COLUMNS, _UPDATE_LIVE)
_UPSERT_ROWS: Final = _sized("INSERT INTO jobs", ROW_COLUMNS, _UPDATE_ALL)
_OLDEST: Final = (
    "SELECT job_id FROM jobs WHERE is_live = 0 AND finished_at < ?"
    " ORDER BY finished_at, rowid LIMIT ?"
)


class Changes:
    """All that changes an open database; used by the writer's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Learn where the journal ends and which jobs live.

        Raises:
            DamageError: What the database says of them cannot be.
        """
        self._connection = connection
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchone()
        self._next_seq = max(last + 1, read_setting(connection, "next_seq", otherwise=1))
        self._live = {
            job_id for (job_id,) in connection.execute("SELECT job_id FROM jobs WHERE is_live = 1")
        }

    def write(self, batches: Sequence[Batch]) -> None:
        """Commit batches in one synced transaction, or change nothing and raise."""
        rows = merge_rows(row for batch in batches for row in batch.rows)
        records = [record for batch in batches for record in batch.records]
        self._assert_rows_exist({job_id for job_id, _, _ in records} - rows.keys() - self._live)
        numbered = [
            cells_of_record(seq, job_id, at, record)
            for seq, (job_id, at, record) in enumerate(records, self._next_seq)
        ]
        updated = [row for row in rows.values() if row.is_live and row.job_id in self._live]
        others = [row for row in rows.values() if not row.is_live or row.job_id not in self._live]
        with Transaction(self._connection):
            self._insert(_INSERT_RECORDS, numbered)
            self._insert(_UPDATE_LIVE_ROWS, [cells_of_row(row) for row in updated])
            self._insert(_UPSERT_ROWS, [cells_of_row(row) for row in others])
            self._insert(
                _INSERT_EVENTS,
                [cells_of_event(event) for batch in batches for event in batch.events],
            )
        self._next_seq += len(numbered)
        for row in others:
            if row.is_live:
                self._live.add(row.job_id)
            else:
                self._live.discard(row.job_id)

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

    def _assert_rows_exist(self, job_ids: Iterable[str]) -> None:
        # A record without a row would never be replayed.
        for job_id in job_ids:
            found = self._connection.execute("SELECT 1 FROM jobs WHERE job_id = ?", (job_id,))
            assert found.fetchone(), f"a record of job {job_id} came without a row"

    def _insert(
        self, statements: tuple[tuple[int, str], ...], cells: Sequence[tuple[object, ...]]
    ) -> None:
        start = 0
        for size, statement in statements:
            while len(cells) - start >= size:
                values = tuple(chain.from_iterable(cells[start : start + size]))
                self._connection.execute(statement, values)
                start += size


def merge_rows(rows: Iterable[JobRow]) -> dict[str, JobRow]:
    """Keep the last row of each job, with what earlier ones said and it leaves unchanged."""
    merged: dict[str, JobRow] = {}
    for row in rows:
        if earlier := merged.get(row.job_id):
            ended = earlier.finished_at if row.finished_at is None else row.finished_at
            merged[row.job_id] = replace(
                row,
                submitted_at=earlier.submitted_at,
                finished_at=row.finished_at if row.is_live else ended,
                worker_id=earlier.worker_id if row.worker_id is None else row.worker_id,
                error=earlier.error if row.error is None else row.error,
            )
        else:
            merged[row.job_id] = row
    return merged


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
