"""Where reported runs are kept: a SQLite file of its own, written by one thread."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lineshaft_coordinator.store.errors import StoreError, StoreFullError
from lineshaft_coordinator.store.transaction import Transaction
from lineshaft_coordinator.training_runs.tables import FILE, FOLDER, SCHEMA_VERSION, STATEMENTS

T = TypeVar("T")
BUSY_S = 5.0


class BookError(StoreError):
    """The file of reported runs cannot be used."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"{path}, where reported training runs are kept, cannot be used: {detail}")
        self.path = path


class RunBook:
    """Reported runs, their metrics, models and notebook checkpoints.

    Nothing is made before it is needed. What was written is on the disk when `do` returns.

    Args:
        data: The coordinator's folder.
    """

    def __init__(self, data: Path) -> None:
        self.path = data / FILE
        self.folder = data / FOLDER
        """Logs and model files lie here."""
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work in one transaction, behind what was asked for before.

        Raises:
            StoreFullError: The disk is full; nothing of it was kept.
            BookError: The file cannot be used.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="training-runs")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def owner_of(self, run_id: str) -> str | None:
        """Who made a run, at once; None if there is no such reported run.

        A read of one row by its key, which waits for no writer: a socket's upgrade is decided in
        one turn of the loop.

        Raises:
            BookError: The file cannot be used.
        """
        if self._reader is None:
            if not self.path.exists():
                return None
            self._reader = _opened(self.path)
        sql = "SELECT user_id FROM runs WHERE id = ?"
        try:
            found = self._reader.execute(sql, (run_id,)).fetchone()
        except sqlite3.Error as error:
            raise BookError(self.path, str(error)) from error
        return None if found is None else str(found[0])

    async def close(self) -> None:
        """Finish what was asked before, and let go of the file."""
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown()
            self._thread = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._made()
            with Transaction(self._connection) as connection:
                return work(connection)
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise StoreFullError(self.path.parent) from error
            raise BookError(self.path, str(error)) from error
        except sqlite3.DatabaseError as error:
            raise BookError(self.path, str(error)) from error

    def _made(self) -> sqlite3.Connection:
        connection = _opened(self.path)
        self.path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            connection.close()
            raise BookError(self.path, "a newer Lineshaft made it")
        if version == 0:
            with Transaction(connection):
                for statement in STATEMENTS:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
