"""The tables, and how an older database becomes a current one."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lineshaft_coordinator.store.errors import StoreDamagedError, StoreVersionError
from lineshaft_coordinator.store.transaction import Transaction

APPLICATION_ID: Final = 0x4C534654
"""Marks a SQLite file as ours: `LSFT`."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A step to `version` from the one before; released steps never change."""

    version: int
    statements: tuple[str, ...]


# Why these indexes: journal_job reads a story, and the records of live jobs at a start.
# jobs_submitted pages through everything, newest first. jobs_live finds what a restart must
# replay; it holds live jobs only, so it stays small. jobs_ended counts and lists by status and
# jobs_finished finds what to prune; a job enters these two once, when it ends, so that the many
# updates of a running job touch no index at all.
MIGRATIONS: Final = (
    Migration(
        1,
        (
            "CREATE TABLE journal (seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL,"
            " at REAL NOT NULL, record BLOB NOT NULL, crc INTEGER NOT NULL)",
            "CREATE INDEX journal_job ON journal (job_id)",
            "CREATE TABLE jobs (job_id TEXT NOT NULL PRIMARY KEY, is_live INTEGER NOT NULL,"
            " status TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,"
            " client_id TEXT NOT NULL, submitted_at REAL NOT NULL, finished_at REAL,"
            " worker_id TEXT, attempt INTEGER NOT NULL, tags TEXT NOT NULL, error TEXT,"
            " crc INTEGER NOT NULL)",
            "CREATE INDEX jobs_submitted ON jobs (submitted_at, job_id)",
            "CREATE INDEX jobs_live ON jobs (submitted_at, job_id) WHERE is_live = 1",
            "CREATE INDEX jobs_ended ON jobs (status, submitted_at, job_id) WHERE is_live = 0",
            "CREATE INDEX jobs_finished ON jobs (finished_at) WHERE is_live = 0",
            "CREATE TABLE events (job_id TEXT NOT NULL, attempt INTEGER NOT NULL,"
            " seq INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL,"
            " PRIMARY KEY (job_id, attempt, seq)) WITHOUT ROWID",
            "CREATE TABLE settings (key TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL,"
            " crc INTEGER NOT NULL) WITHOUT ROWID",
        ),
    ),
    Migration(2, ("ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''",)),
    # How many events end in a row, see stretches.py.
    Migration(3, ("ALTER TABLE events ADD COLUMN count INTEGER NOT NULL DEFAULT 1",)),
)


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    *,
    migrations: Sequence[Migration] = MIGRATIONS,
    keep_copy: Callable[[int], None],
) -> None:
    """Bring the database at `path` to the last schema version, all steps or none.

    Args:
        connection: Reads and writes it.
        path: Its file, for what an error says.
        migrations: All steps there are, in order.
        keep_copy: Called before an older database is changed, with its version.

    Raises:
        StoreVersionError: It is newer than the last step.
        StoreDamagedError: It is a database, but not one of ours.
    """
    found = schema_version(connection, path)
    known = migrations[-1].version
    if found > known:
        raise StoreVersionError(path, found, known)
    if found == known:
        return
    if found > 0:
        keep_copy(found)
    with Transaction(connection):
        if found == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(
                "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at REAL)"
            )
        for step in migrations:
            if step.version > found:
                for statement in step.statements:
                    connection.execute(statement)
                applied = (step.version, time.time())
                connection.execute("INSERT INTO schema_version VALUES (?, ?)", applied)


def find_schema_damage(
    connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS
) -> str | None:
    """Hold the definitions of tables and indexes against those that the migrations make."""
    query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    found: dict[str, str] = dict(connection.execute(query).fetchall())
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        migrate(model, Path(":memory:"), migrations=migrations, keep_copy=lambda _: None)
        for name, sql in model.execute(query):
            if found.get(name) != sql:
                return f"the definition of {name} is not what it was"
    return None


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """Read the schema version; 0 for a database in which nothing was made yet.

    Raises:
        StoreDamagedError: There are tables, but not ours.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        return 0
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise StoreDamagedError(path, "it is not a Lineshaft database")
    try:
        (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    except sqlite3.OperationalError as error:
        raise StoreDamagedError(path, str(error)) from error
    if not isinstance(version, int):
        raise StoreDamagedError(path, "its schema version is missing")
    return version
