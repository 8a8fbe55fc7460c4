"""Reads the tables; every value that is handed out has been held against its checksum."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Final, TypeAlias, cast

from lineshaft_coordinator.store.interface import EventRow, JobRow, Sought
from lineshaft_coordinator.store.rows import (
    EVENT_COLUMNS,
    RECORD_COLUMNS,
    ROW_COLUMNS,
    EventCells,
    RecordCells,
    RowCells,
    read_event,
    read_record,
    read_row,
)

_CHUNK: Final = 256
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
"""What SQLite's own `lower` does: letters beyond ASCII stay as they are."""
_Clause: TypeAlias = tuple[str, "str | float | tuple[float | str, ...]"]
"""A condition, and what its question marks stand for."""


def live_records(connection: sqlite3.Connection) -> Iterator[bytes]:
    """Read the records of live jobs in order of seq.

    The numbers first, then the records by number: sorting whole records would spill to disk.
    """
    seqs = [
        cast("int", seq)
        for (seq,) in connection.execute(
            "SELECT journal.seq FROM jobs CROSS JOIN journal ON journal.job_id = jobs.job_id"
            " WHERE jobs.is_live = 1"
        )
    ]
    seqs.sort()
    for start in range(0, len(seqs), _CHUNK):
        chunk = seqs[start : start + _CHUNK]
        marks = ", ".join("?" * len(chunk))
        found = connection.execute(
            f"SELECT {RECORD_COLUMNS} FROM journal WHERE seq IN ({marks}) ORDER BY seq",  # noqa: S608 - constants
            chunk,
        )
        for cells in found.fetchall():
            yield read_record(cast("RecordCells", cells))[2]


def records_of(connection: sqlite3.Connection, job_id: str) -> list[tuple[int, float, bytes]]:
    """Read one job's records in order."""
    found = connection.execute(
        f"SELECT {RECORD_COLUMNS} FROM journal WHERE job_id = ? ORDER BY seq",  # noqa: S608 - constants
        (job_id,),
    )
    return [read_record(cast("RecordCells", cells)) for cells in found.fetchall()]


def visit_records(
    connection: sqlite3.Connection, visit: Callable[[str, bytes], None], after_seq: int
) -> int | None:
    """Show the next records after a position; returns the last one's, ``None`` at the end."""
    found = connection.execute(
        f"SELECT {RECORD_COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608 - constants
        (after_seq, _CHUNK),
    )
    last: int | None = None
    for cells in cast("list[RecordCells]", found.fetchall()):
        last, _, record = read_record(cells)
        visit(cells[1], record)
    return last


def last_seq(connection: sqlite3.Connection) -> int:
    """The position of the journal's last record; 0 if it is empty."""
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchone()
    return cast("int", last)


def visit_beginning(
    connection: sqlite3.Connection,
    prefix: bytes,
    visit: Callable[[bytes], None],
    after_seq: int,
    until_seq: int,
) -> int | None:
    """Show the next records that begin with a text; returns as `visit_records`."""
    found = connection.execute(
        f"SELECT {RECORD_COLUMNS} FROM journal WHERE seq > ? AND seq <= ?"  # noqa: S608 - constants
        " AND substr(record, 1, ?) = ? ORDER BY seq LIMIT ?",
        (after_seq, until_seq, len(prefix), prefix, _CHUNK),
    )
    last: int | None = None
    for cells in cast("list[RecordCells]", found.fetchall()):
        last, _, record = read_record(cells)
        visit(record)
    return last


def row_of(connection: sqlite3.Connection, job_id: str) -> JobRow | None:
    """Read one job's row."""
    cells = connection.execute(
        f"SELECT {ROW_COLUMNS} FROM jobs WHERE job_id = ?",  # noqa: S608 - constants
        (job_id,),
    ).fetchone()
    return None if cells is None else read_row(cast("RowCells", cells))


def rows(
    connection: sqlite3.Connection,
    wanted: Mapping[str, str | None],
    sought: Sought,
    *,
    is_live: bool | None,
    before: tuple[float, str] | None,
    limit: int,
) -> list[JobRow]:
    """List jobs whose columns hold what is wanted, the last submitted first."""
    clauses: list[_Clause] = [
        (f"{column} = ?", value) for column, value in wanted.items() if value is not None
    ]
    clauses += _sought(sought)
    if before is not None:
        clauses.append(("(submitted_at, job_id) < (?, ?)", before))
    if is_live is not None or wanted["status"] is None:
        return _rows(connection, clauses, is_live, limit)
    # Live jobs are few, and ended ones are indexed by status; asked together, a status that few
    # jobs have would be looked for in the whole history.
    halves = (_rows(connection, clauses, half, limit) for half in (True, False))
    both = [row for half in halves for row in half]
    both.sort(key=lambda row: (row.submitted_at, row.job_id), reverse=True)
    return both[:limit]


def _sought(sought: Sought) -> list[_Clause]:
    clauses: list[_Clause] = []
    if sought.find:
        text = sought.find.translate(_LOWER)
        anywhere = " OR ".join(f"instr(lower({each}), ?)" for each in ("job_id", "name", "tags"))
        clauses.append((f"({anywhere})", (text, text, text)))
    if sought.name:
        clauses.append(("instr(lower(name), ?)", sought.name.translate(_LOWER)))
    if sought.tag:
        clauses.append(("instr(',' || tags || ',', ?)", f",{sought.tag},"))
    if sought.owner:
        clauses.append(("owner = ?", sought.owner))
    if sought.since is not None:
        clauses.append(("submitted_at >= ?", sought.since))
    return clauses


def _rows(
    connection: sqlite3.Connection, wanted: Sequence[_Clause], is_live: bool | None, limit: int
) -> list[JobRow]:
    clauses, values = [clause for clause, _ in wanted], list[object]()
    for _, value in wanted:
        values.extend(value if isinstance(value, tuple) else (value,))
    if is_live is not None:
        clauses.append(f"is_live = {int(is_live)}")  # spelled out, or a partial index is not seen
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    found = connection.execute(
        f"SELECT {ROW_COLUMNS} FROM jobs {where} ORDER BY submitted_at DESC, job_id DESC LIMIT ?",  # noqa: S608 - our own column names
        (*values, limit),
    )
    return [read_row(cast("RowCells", cells)) for cells in found.fetchall()]


def rows_beginning(
    connection: sqlite3.Connection, prefix: str, *, after: str, limit: int
) -> list[JobRow]:
    """List jobs whose ids begin with a text, by their ids."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = connection.execute(
        f"SELECT {ROW_COLUMNS} FROM jobs WHERE job_id >= ? AND job_id < ? AND job_id > ?"  # noqa: S608 - constants
        " ORDER BY job_id LIMIT ?",
        (prefix, end, after, limit),
    )
    return [read_row(cast("RowCells", cells)) for cells in found.fetchall()]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Count jobs by status: live ones one by one, ended ones in their index."""
    totals: dict[str, int] = {}
    for is_live in (1, 0):
        found = connection.execute(
            f"SELECT status, count(*) FROM jobs WHERE is_live = {is_live} GROUP BY status"  # noqa: S608 - a number
        )
        for status, count in found.fetchall():
            totals[status] = totals.get(status, 0) + count
    return totals


def events_of(
    connection: sqlite3.Connection,
    job_id: str,
    after: tuple[int, int],
    limit: int,
    bytes_max: int | None,
) -> list[EventRow]:
    """Read events of one job in order of attempt and seq."""
    found = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE job_id = ? AND (attempt, seq) > (?, ?)"  # noqa: S608 - constants
        " ORDER BY attempt, seq LIMIT ?",
        (job_id, *after, limit),
    )
    return _events(found, bytes_max)


def last_events_of(
    connection: sqlite3.Connection, job_id: str, before: tuple[int, int], limit: int, bytes_max: int
) -> list[EventRow]:
    """Read events of one job backwards."""
    found = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE job_id = ? AND (attempt, seq) < (?, ?)"  # noqa: S608 - constants
        " ORDER BY attempt DESC, seq DESC LIMIT ?",
        (job_id, *before, limit),
    )
    return _events(found, bytes_max)


def _events(found: sqlite3.Cursor, bytes_max: int | None) -> list[EventRow]:
    """Read rows one by one, for a single one may have a quarter of a megabyte."""
    rows: list[EventRow] = []
    size = 0
    for cells in found:
        rows.append(read_event(cast("EventCells", cells)))
        size += len(rows[-1].body)
        if bytes_max is not None and size >= bytes_max:
            break
    # A statement that is not at its end would hold its snapshot open.
    found.close()
    return rows
