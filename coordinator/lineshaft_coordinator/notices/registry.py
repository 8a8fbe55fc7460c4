"""Remembers the last version and the last notice of each model, and how far the journal was read.

Theory. A checkpoint is entered once: either when its record is committed, or when the journal is
read after a start. What was entered live stands in `seen` until a reading of the journal has
passed its record; then the cursor says the same. A version and its notice are on the disk before
anybody is told, so that no version is ever given twice.
"""

import sqlite3
import threading
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote

from lineshaft_runtime.checkpoint_notices import CheckpointNotice

FILE_NAME: Final = "notices.sqlite"

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS models (name TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL,"
    " notice TEXT, is_told INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS seen (job_id TEXT NOT NULL, file_id TEXT NOT NULL,"
    " PRIMARY KEY (job_id, file_id)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS journal_cursor (only INTEGER PRIMARY KEY CHECK (only = 0),"
    " seq INTEGER NOT NULL)",
)

_VERSION_MAX: Final = 2**62
_VERSIONS_AHEAD: Final = 1_000_000
"""A copy that is restored must not give a version again that was given after it was made."""

Key = tuple[str, str]
"""Names a checkpoint: its job's id and its file's."""


class Registry:
    """The durable part of notices, in one small file; blocks on the disk, threads take turns.

    Raises:
        sqlite3.Error: Here and in each method: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "trusted_schema = OFF"):
            self._connection.execute(f"PRAGMA {pragma}")
        with self._transaction():
            for statement in _TABLES:
                self._connection.execute(statement)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # --- versions ---

    def version(self, model_name: str) -> int:
        """The last version that was given; 0 if none was."""
        found = self._rows("SELECT version FROM models WHERE name = ?", model_name)
        return cast("int", found[0][0]) if found else 0

    def raise_to(self, model_name: str, version: int) -> None:
        """Give only versions above this one from now on, unless it leaves no room for any."""
        if version > _VERSION_MAX:
            return
        with self._transaction():
            self._connection.execute(
                "INSERT INTO models VALUES (?, ?, NULL, 1, 0)"
                " ON CONFLICT (name) DO UPDATE SET version = max(version, excluded.version)",
                (model_name, version),
            )

    def has(self, key: Key) -> bool:
        """Whether a checkpoint was entered already; the cursor aside."""
        return bool(self._rows("SELECT 1 FROM seen WHERE job_id = ? AND file_id = ?", *key))

    def enter(self, key: Key, notice: CheckpointNotice, at: float) -> None:
        """Make a notice its model's last, not told yet, at a wall time in seconds.

        Its version is above those before.
        """
        with self._transaction():
            self._connection.execute("INSERT INTO seen VALUES (?, ?)", key)
            self._connection.execute(
                "INSERT INTO models VALUES (?, ?, ?, 0, ?) ON CONFLICT (name) DO UPDATE SET"
                " version = excluded.version, notice = excluded.notice, is_told = 0,"
                " at = excluded.at",
                (notice.model_name, notice.version, notice.to_json(), at),
            )

    def skip(self, key: Key) -> None:
        """Have nothing to say of a checkpoint, ever."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", key)

    def mark_told(self, notice: CheckpointNotice) -> None:
        """Redis has it."""
        with self._transaction():
            self._connection.execute(
                "UPDATE models SET is_told = 1 WHERE name = ? AND version = ?",
                (notice.model_name, notice.version),
            )

    # --- notices ---

    def last(self, model_name: str) -> CheckpointNotice | None:
        """The last notice of a model."""
        found = self._rows("SELECT notice FROM models WHERE name = ?", model_name)
        text = cast("str | None", found[0][0]) if found else None
        return None if text is None else CheckpointNotice.from_json(text)

    def all_last(self, *, is_told: bool) -> list[CheckpointNotice]:
        """The last notices of all models that were told, or of those that were not."""
        found = self._rows(
            "SELECT notice FROM models WHERE notice IS NOT NULL AND is_told = ? ORDER BY at",
            int(is_told),
        )
        return [CheckpointNotice.from_json(cast("str", text)) for (text,) in found]

    def forget_before(self, at: float) -> list[str]:
        """Forget notices from before a wall time in seconds, not versions; returns the models."""
        with self._transaction():
            found = self._connection.execute(
                "SELECT name FROM models WHERE notice IS NOT NULL AND at < ?", (at,)
            ).fetchall()
            self._connection.execute(
                "UPDATE models SET notice = NULL, is_told = 1 WHERE notice IS NOT NULL AND at < ?",
                (at,),
            )
        return [cast("str", name) for (name,) in found]

    # --- the journal ---

    @property
    def cursor(self) -> int | None:
        """Up to where the journal was read; ``None`` if never."""
        found = self._rows("SELECT seq FROM journal_cursor")
        return cast("int", found[0][0]) if found else None

    def advance(self, seq: int, passed: Iterable[Key]) -> None:
        """The journal was read up to here; these checkpoints stand before."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO journal_cursor VALUES (0, ?)"
                " ON CONFLICT (only) DO UPDATE SET seq = excluded.seq",
                (seq,),
            )
            self._connection.executemany(
                "DELETE FROM seen WHERE job_id = ? AND file_id = ?", list(passed)
            )

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def copy_registry(source: Path, target: Path) -> None:
    """Copy the registry of a data folder as it is at one moment; blocks, writers go on.

    The copy goes on with versions that were surely not given since, and has no notices: their
    files are no part of a backup.

    Raises:
        sqlite3.Error: It cannot be read, or not be written there.
    """
    with (
        closing(sqlite3.connect(f"file:{quote(str(source.absolute()))}?mode=ro", uri=True)) as old,
        closing(sqlite3.connect(target, isolation_level=None)) as new,
    ):
        target.chmod(0o600)
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
        new.execute(
            "UPDATE models SET version = version + ?, notice = NULL, is_told = 1",
            (_VERSIONS_AHEAD,),
        )
