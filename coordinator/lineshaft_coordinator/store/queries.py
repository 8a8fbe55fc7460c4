"""Reads the tables; every value that is handed out has been held against its checksum."""

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from string import ascii_lowercase, ascii_uppercase
from typing import Final, TypeAlias, cast

from lineshaft_coordinator.store.interface import EventRow, JobRow, Sought
from lineshaft_coordinator.store.rows import (
    RECORD_COLUMNS,
    ROW_COLUMNS,
    RecordCells,
    RowCells,
    read_record,
    read_row,
)
from lineshaft_coordinator.store.stretches import EVENT_COLUMNS, EventCells, Stretch, read_stretch

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
    with closing(_stretches_behind(connection, job_id, after)) as stretches:
        found = (event for stretch in stretches for event in stretch.behind(after).events())
        return _page(found, limit, bytes_max)


def last_events_of(
    connection: sqlite3.Connection, job_id: str, before: tuple[int, int], limit: int, bytes_max: int
) -> list[EventRow]:
    """Read events of one job backwards."""
    with closing(_stretches_before(connection, job_id, before)) as stretches:
        backwards = (event for stretch in stretches for event in reversed(stretch.events()))
        found = (event for event in backwards if (event.attempt, event.seq) < before)
        return _page(found, limit, bytes_max)


def stretches_of(
    connection: sqlite3.Connection,
    job_id: str,
    after: tuple[int, int],
    limit: int,
    bytes_max: int,
) -> list[Stretch]:
    """Read events of one job in order, as they lie together; some more than the limits, perhaps."""
    found: list[Stretch] = []
    count = size = 0
    with closing(_stretches_behind(connection, job_id, after)) as stretches:
        for stretch in stretches:
            found.append(stretch.behind(after))
            count += len(stretch.bodies)
            size += sum(map(len, stretch.bodies))
            if count >= limit or size >= bytes_max:
                break
    return found


def _stretches_behind(
    connection: sqlite3.Connection, job_id: str, after: tuple[int, int]
) -> Generator[Stretch]:
    """Yield stretches that end behind a place; the first one may begin in front of it."""
    return _stretches(
        connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE job_id = ? AND (attempt, seq) > (?, ?)"  # noqa: S608 - constants
            " ORDER BY attempt, seq",
            (job_id, *after),
        )
    )


def _stretches_before(
    connection: sqlite3.Connection, job_id: str, before: tuple[int, int]
) -> Generator[Stretch]:
    """Yield stretches that begin in front of a place, backwards; the first one may end behind."""
    yield from _stretches(
        connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE job_id = ? AND attempt = ? AND seq >= ?"  # noqa: S608 - constants
            " ORDER BY seq LIMIT 1",
            (job_id, *before),
        )
    )
    yield from _stretches(
        connection.execute(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE job_id = ? AND (attempt, seq) < (?, ?)"  # noqa: S608 - constants
            " ORDER BY attempt DESC, seq DESC",
            (job_id, *before),
        )
    )


def _stretches(found: sqlite3.Cursor) -> Generator[Stretch]:
    """Read row by row, for a single event may have a quarter of a megabyte."""
    try:
        for cells in found:
            yield read_stretch(cast("EventCells", cells))
    finally:
        # A statement that is not at its end would hold its snapshot open.
        found.close()


def _page(found: Iterator[EventRow], limit: int, bytes_max: int | None) -> list[EventRow]:
    rows: list[EventRow] = []
    size = 0
    for event in islice(found, limit):
        rows.append(event)
        size += len(event.body)
        if bytes_max is not None and size >= bytes_max:
            break
    return rows
