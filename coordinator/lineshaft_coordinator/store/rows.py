"""How records and job rows lie in the tables, each with a checksum of its own.

SQLite has none: after a flipped bit in a value the database is as well-formed as before.
"""

import struct
from typing import Final
from zlib import crc32

from lineshaft_coordinator.store.faults import DamageError
from lineshaft_coordinator.store.interface import JobRow

RECORD_COLUMNS: Final = "seq, job_id, at, record, crc"
ROW_COLUMNS: Final = (
    "job_id, is_live, status, name, kind, client_id, submitted_at,"
    " finished_at, worker_id, attempt, tags, error, owner, crc"
)

FIRST_ROW_COLUMNS: Final = ROW_COLUMNS.replace("owner", "''")
"""The same of a database of schema version 1, whose jobs have no owners."""

RecordCells = tuple[int, str, float, bytes, int]
_RowValues = tuple[
    str, int, str, str, str, str, float, float | None, str | None, int, str, str | None, str
]
RowCells = tuple[*_RowValues, int]
_SUBMITTED_AT: Final = 6
_FINISHED_AT: Final = 7
_WORKER_ID: Final = 8
_ERROR: Final = 11
_OWNER: Final = 12

_RECORD_NUMBERS: Final = struct.Struct("<qd")
# What a cell of a wrong type raises: a damaged database may hold a text where a number was.
_MISFITS: Final = (TypeError, ValueError, AttributeError, struct.error)


def cells_of_record(seq: int, job_id: str, at: float, record: bytes) -> RecordCells:
    """Lay out one journal record."""
    # `_record_crc` once more: the call of it would be a fifth of the time.
    crc = crc32(record, crc32(_RECORD_NUMBERS.pack(seq, at) + job_id.encode()))
    return seq, job_id, at, record, crc


def cells_of_row(row: JobRow, earlier: RowCells | None) -> RowCells:
    """Lay out one job row, with what `earlier` says of it where the row itself is silent."""
    job_id, is_live, submitted_at = row.job_id, row.is_live, float(row.submitted_at)
    finished_at, worker_id, error = row.finished_at, row.worker_id, row.error
    owner = row.owner
    if earlier is not None:
        submitted_at, owner = earlier[_SUBMITTED_AT], earlier[_OWNER]
        finished_at = earlier[_FINISHED_AT] if finished_at is None else finished_at
        worker_id = earlier[_WORKER_ID] if worker_id is None else worker_id
        error = earlier[_ERROR] if error is None else error
    cells = (
        job_id,
        int(is_live),
        row.status,
        row.name,
        row.kind,
        row.client_id,
        submitted_at,
        None if is_live or finished_at is None else float(finished_at),
        worker_id or None,
        row.attempt,
        row.tags,
        error or None,
        owner,
    )
    return *cells, _row_crc(cells)


def read_record(cells: RecordCells) -> tuple[int, float, bytes]:
    """Read seq, wall time in seconds and record back.

    Raises:
        DamageError: They are not what was written.
    """
    seq, job_id, at, record, crc = cells
    try:
        is_whole = _record_crc(seq, job_id, at, record) == crc
    except _MISFITS:
        is_whole = False
    if not is_whole:
        raise DamageError(f"record {seq} of the journal does not match its checksum")
    return seq, at, record


def read_row(cells: RowCells) -> JobRow:
    """Read a job row back.

    Raises:
        DamageError: It is not what was written.
    """
    try:
        is_whole = _row_crc(cells[:-1]) == cells[-1]
    except _MISFITS:
        is_whole = False
    if not is_whole:
        raise DamageError(f"the row of job {cells[0]} does not match its checksum")
    return JobRow(cells[0], cells[1] == 1, *cells[2:-1])


def setting_crc(key: str, value: int) -> int:
    """Compute the checksum of a setting."""
    return crc32(f"{key}={value}".encode())


def _record_crc(seq: int, job_id: str, at: float, record: bytes) -> int:
    return crc32(record, crc32(_RECORD_NUMBERS.pack(seq, at) + job_id.encode()))


def _row_crc(cells: _RowValues) -> int:
    # Spelled with separators that no column has; a float's shortest spelling is one to one.
    a, b, c, d, e, f, g, h, i, j, k, m, owner = cells
    text = f"{a}\0{b}\0{c}\0{d}\0{e}\0{f}\0{g}\0{h}\0{i}\0{j}\0{k}\0{m}"
    # Rows from before there were owners have none, and their checksums do not know of any.
    return crc32((f"{text}\0{owner}" if owner else text).encode())
