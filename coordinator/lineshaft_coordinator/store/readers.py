"""Connections that only read, each used by one thread at a time."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TypeVar
from urllib.parse import quote

from lineshaft_coordinator.store.faults import FAULTS, as_store_error

_T = TypeVar("_T")
_COUNT: Final = 2
"""So that one long list of history does not hold up the others."""


class Readers:
    """Answers queries beside the writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._threads = ThreadPoolExecutor(_COUNT, thread_name_prefix="store-reader")

    async def run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a query in a thread.

        Raises:
            StoreError: What the database is found to be in the way.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_now, query)

    async def stop(self) -> None:
        """Finish what was asked and close all connections."""
        await asyncio.to_thread(self._threads.shutdown)
        while not self._idle.empty():
            self._idle.get().close()

    def run_now(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a query in this thread.

        Raises:
            StoreError: What the database is found to be in the way.
        """
        connection: sqlite3.Connection | None = None
        try:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                connection = connect_read_only(self._path)
            return query(connection)
        except FAULTS as error:
            raise as_store_error(error, self._path) from error
        finally:
            if connection is not None:
                self._idle.put(connection)


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a database that the connection can neither write nor checkpoint."""
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection
