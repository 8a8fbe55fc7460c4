"""Holds every byte that matters of a store against what was written."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from lineshaft_coordinator.store.changes import read_setting
from lineshaft_coordinator.store.errors import StoreDamagedError
from lineshaft_coordinator.store.faults import FAULTS, DamageError
from lineshaft_coordinator.store.files import StoreFiles
from lineshaft_coordinator.store.lock import FolderLock
from lineshaft_coordinator.store.readers import connect_read_only
from lineshaft_coordinator.store.rows import (
    FIRST_ROW_COLUMNS,
    RECORD_COLUMNS,
    ROW_COLUMNS,
    RecordCells,
    RowCells,
    read_record,
    read_row,
)
from lineshaft_coordinator.store.schema import MIGRATIONS, find_schema_damage, schema_version
from lineshaft_coordinator.store.stretches import (
    EVENT_COLUMNS,
    SINGLE_EVENT_COLUMNS,
    EventCells,
    read_stretch,
)

_PROBLEMS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    path: Path
    problems: tuple[str, ...]
    """Empty if everything is as it was written; at most 100 are listed."""
    schema_version: int
    epoch: int
    job_count: int
    live_count: int
    record_count: int
    event_count: int


def check_store(folder: Path) -> Report:
    """Check the store of a data folder that no coordinator has open; blocks, changes nothing.

    Raises:
        StoreLockedError: A coordinator has it; check a backup instead.
    """
    with FolderLock(folder).held():
        return check_held_store(folder)


def check_held_store(folder: Path) -> Report:
    """Check the store of a data folder whose lock the caller holds; blocks, changes nothing."""
    files = StoreFiles(folder)
    try:
        files.refuse_lost_data()
    except StoreDamagedError as error:
        return _unreadable(error.path, error.detail)
    return check_database(files.database)


def check_database(path: Path) -> Report:
    """Check one database file that no process writes, such as a backup."""
    try:
        with closing(connect_read_only(path)) as connection:
            return _check(connection, path)
    except FAULTS as error:
        return _unreadable(path, str(error))
    except StoreDamagedError as error:
        return _unreadable(path, error.detail)


def find_live_damage(connection: sqlite3.Connection) -> str | None:
    """Check what a restart relies on, in a time that depends on the live jobs.

    A job that lost its mark, or its place in the index of live jobs, would never be replayed: so
    the marks are counted in the table as well, where nothing but a count is needed.
    """
    (marked,) = connection.execute(
        "SELECT count(*) FROM jobs NOT INDEXED WHERE is_live = 1"
    ).fetchone()
    live = connection.execute(f"SELECT {ROW_COLUMNS} FROM jobs WHERE is_live = 1").fetchall()  # noqa: S608 - constants
    if marked != len(live):
        return f"{marked} jobs are marked live, {len(live)} are in the index of live jobs"
    try:
        for cells in live:
            read_row(cast("RowCells", cells))
    except DamageError as error:
        return str(error)
    return None


def _check(connection: sqlite3.Connection, path: Path) -> Report:
    version = schema_version(connection, path)
    integrity = connection.execute(f"PRAGMA integrity_check({_PROBLEMS_MAX})").fetchall()
    problems = [] if integrity == [("ok",)] else [str(text) for (text,) in integrity]
    if version == 0:
        return _unreadable(path, "it has no tables")
    known = [step for step in MIGRATIONS if step.version <= version]
    if damage := find_schema_damage(connection, known):
        return _unreadable(path, damage)
    problems.extend(_find_misfits(connection, version))
    try:
        epoch = read_setting(connection, "epoch", otherwise=0)
    except DamageError as error:
        epoch = 0
        problems.append(str(error))
    return Report(
        path=path,
        problems=tuple(problems[:_PROBLEMS_MAX]),
        schema_version=version,
        epoch=epoch,
        job_count=_count(connection, "jobs NOT INDEXED"),
        live_count=_count(connection, "jobs NOT INDEXED WHERE is_live = 1"),
        record_count=_count(connection, "journal NOT INDEXED"),
        event_count=_count_events(connection, version),
    )


def _find_misfits(connection: sqlite3.Connection, version: int) -> Iterator[str]:
    row_columns = ROW_COLUMNS if version > 1 else FIRST_ROW_COLUMNS
    event_columns = _event_columns(version)
    tables: tuple[tuple[str, str, Callable[[object], object]], ...] = (
        ("journal", RECORD_COLUMNS, lambda cells: read_record(cast("RecordCells", cells))),
        ("jobs", row_columns, lambda cells: read_row(cast("RowCells", cells))),
        ("events", event_columns, lambda cells: read_stretch(cast("EventCells", cells))),
    )
    for table, columns, read in tables:
        for cells in connection.execute(f"SELECT {columns} FROM {table}"):  # noqa: S608 - constants
            try:
                read(cells)
            except DamageError as error:
                yield str(error)
    orphans = connection.execute(
        "SELECT DISTINCT job_id FROM journal WHERE job_id NOT IN (SELECT job_id FROM jobs)"
    )
    for (job_id,) in orphans:
        yield f"job {job_id} has records and no row"


def _count(connection: sqlite3.Connection, source: str) -> int:
    return cast("int", connection.execute(f"SELECT count(*) FROM {source}").fetchone()[0])  # noqa: S608 - constants


def _event_columns(version: int) -> str:
    return EVENT_COLUMNS if version > 2 else SINGLE_EVENT_COLUMNS


def _count_events(connection: sqlite3.Connection, version: int) -> int:
    *_, count = _event_columns(version).split(", ")
    found = connection.execute(f"SELECT coalesce(sum({count}), 0) FROM events")  # noqa: S608 - constants
    return cast("int", found.fetchone()[0])


def _unreadable(path: Path, problem: str) -> Report:
    return Report(
        path=path,
        problems=(problem,),
        schema_version=0,
        epoch=0,
        job_count=0,
        live_count=0,
        record_count=0,
        event_count=0,
    )
