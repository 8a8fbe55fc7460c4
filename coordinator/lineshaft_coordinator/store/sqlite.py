"""The store in one SQLite file, for one coordinator on one machine."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from lineshaft_coordinator.store import queries
from lineshaft_coordinator.store.changes import Changes, read_setting, write_setting
from lineshaft_coordinator.store.check import find_live_damage
from lineshaft_coordinator.store.copies import copy_database
from lineshaft_coordinator.store.errors import (
    StoreClosedError,
    StoreFailedError,
)
from lineshaft_coordinator.store.faults import FAULTS, DamageError, as_store_error
from lineshaft_coordinator.store.files import StoreFiles
from lineshaft_coordinator.store.interface import Batch, EventRow, JobRow, Sought
from lineshaft_coordinator.store.lock import FolderLock, prepare_folder
from lineshaft_coordinator.store.readers import Readers, connect_read_only
from lineshaft_coordinator.store.schema import (
    MIGRATIONS,
    Migration,
    find_schema_damage,
    migrate,
    schema_version,
)
from lineshaft_coordinator.store.transaction import Transaction
from lineshaft_coordinator.store.writer import Writer

_PRUNE_JOBS: Final = 64
"""Jobs forgotten in one transaction: appends get their turn in between."""
_BUSY_S: Final = 5.0
"""How long a lock is waited for that somebody holds who opened the file with another tool."""
_CHECKPOINT_PAGES: Final = 4000
"""A log of 16 MB: it is soon overwritten in place, which syncs faster than a file that grows.
A job writes about 14 pages, so fewer than one commit in a hundred waits for a checkpoint."""
_LOG_BYTES_MAX: Final = 64 << 20
_CHECKED_BYTES_MAX: Final = 256 << 20
"""A larger database is checked whole by `check_store` only; this much takes about two seconds."""


class SqliteStore:
    """A `Store` in a folder on a local disk; used by one event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        is_network_allowed: bool = False,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        """Name the folder; nothing is touched before `open`.

        Args:
            folder: Made if it is not there.
            is_network_allowed: Whether a network file system is taken, at the user's risk.
            migrations: All steps of the schema.
        """
        self._folder = folder
        self._is_network_allowed = is_network_allowed
        self._migrations = migrations
        self._files = StoreFiles(folder)
        self._lock = FolderLock(folder)
        self._epoch = 0
        self._writer: Writer | None = None
        self._readers: Readers | None = None

    async def open(self) -> int:
        """See `Store.open`.

        Raises:
            StoreLockedError: Another coordinator has the folder.
            StoreNotWritableError: The folder cannot be made or written.
            StoreOnNetworkError: It is on a network file system.
            StoreDamagedError: A file has lost data; nothing was changed.
            StoreVersionError: A newer version of Lineshaft wrote it.
            StoreFullError: The disk is full.
            StoreFailedError: The disk or SQLite failed otherwise.
        """
        assert self._writer is None, "a store is opened once"
        writer = Writer(self._files.database)
        try:
            await writer.start(self._connect, self._disconnect)
        except BaseException:
            await writer.stop()
            self._lock.release()
            raise
        self._writer = writer
        self._readers = Readers(self._files.database)
        return self._epoch

    def live_records(self) -> Iterator[bytes]:
        """See `Store.live_records`.

        Raises:
            StoreDamagedError: A record is not what was written.
        """
        if self._writer is None:
            raise StoreClosedError(self._folder)
        path = self._files.database
        try:
            with closing(connect_read_only(path)) as connection:
                yield from queries.live_records(connection)
        except FAULTS as error:
            raise as_store_error(error, path) from error

    async def append(self, batch: Batch) -> None:
        """See `Store.append`."""
        await self._the_writer().append(batch)

    async def records_of(self, job_id: str) -> list[tuple[int, float, bytes]]:
        """See `Store.records_of`."""
        return await self._the_readers().run(partial(queries.records_of, job_id=job_id))

    async def scan(self, visit: Callable[[str, bytes], None]) -> None:
        """See `Store.scan`."""
        last: int | None = 0
        while last is not None:
            # Piece by piece: others want the reader, and one long read would keep the log growing.
            query = partial(queries.visit_records, visit=visit, after_seq=last)
            last = await self._the_readers().run(query)

    async def scan_beginning(
        self, prefix: bytes, after: int | None, visit: Callable[[bytes], None]
    ) -> int:
        """See `Store.scan_beginning`."""
        end = await self._the_readers().run(queries.last_seq)
        last = after
        while last is not None:
            query = partial(
                queries.visit_beginning, prefix=prefix, visit=visit, after_seq=last, until_seq=end
            )
            last = await self._the_readers().run(query)
        return end

    async def row_of(self, job_id: str) -> JobRow | None:
        """See `Store.row_of`."""
        return await self._the_readers().run(partial(queries.row_of, job_id=job_id))

    def owner_of(self, job_id: str) -> str | None:
        """See `Store.owner_of`."""
        row = self._the_readers().run_now(partial(queries.row_of, job_id=job_id))
        return row.owner if row is not None else None

    async def rows(
        self,
        *,
        limit: int,
        status: str | None = None,
        client_id: str | None = None,
        kind: str | None = None,
        worker_id: str | None = None,
        is_live: bool | None = None,
        before: tuple[float, str] | None = None,
        sought: Sought | None = None,
    ) -> list[JobRow]:
        """See `Store.rows`."""
        wanted = {
            "status": status,
            "client_id": client_id,
            "kind": kind,
            "worker_id": worker_id,
        }
        query = partial(
            queries.rows,
            wanted=wanted,
            sought=sought or Sought(),
            is_live=is_live,
            before=before,
            limit=limit,
        )
        return await self._the_readers().run(query)

    async def rows_beginning(self, prefix: str, *, after: str = "", limit: int) -> list[JobRow]:
        """See `Store.rows_beginning`."""
        query = partial(queries.rows_beginning, prefix=prefix, after=after, limit=limit)
        return await self._the_readers().run(query)

    async def counts(self) -> dict[str, int]:
        """See `Store.counts`."""
        return await self._the_readers().run(queries.counts)

    async def events_of(
        self,
        job_id: str,
        *,
        after: tuple[int, int] = (-1, -1),
        limit: int = 1000,
        bytes_max: int | None = None,
    ) -> list[EventRow]:
        """See `Store.events_of`."""
        query = partial(
            queries.events_of, job_id=job_id, after=after, limit=limit, bytes_max=bytes_max
        )
        return await self._the_readers().run(query)

    async def last_events_of(
        self, job_id: str, *, before: tuple[int, int], limit: int, bytes_max: int
    ) -> list[EventRow]:
        """See `Store.last_events_of`."""
        query = partial(
            queries.last_events_of, job_id=job_id, before=before, limit=limit, bytes_max=bytes_max
        )
        return await self._the_readers().run(query)

    async def prune(self, *, finished_before: float, limit: int) -> int:
        """See `Store.prune`."""
        total = 0
        while total < limit:
            count_max = min(_PRUNE_JOBS, limit - total)
            work = partial(Changes.prune, finished_before=finished_before, count_max=count_max)
            count = await self._the_writer().run(work)
            total += count
            if count < count_max:
                break
        return total

    async def backup(self, target: Path) -> None:
        """See `Store.backup`."""
        await self._the_readers().run(partial(copy_database, target=target))

    async def close(self) -> None:
        """See `Store.close`."""
        writer, readers = self._writer, self._readers
        self._writer = self._readers = None
        if writer is None or readers is None:
            return
        # Readers first: SQLite copies its log into the database when the last connection closes,
        # and only the writer's can.
        await readers.stop()
        await writer.stop()
        self._lock.release()

    def _the_writer(self) -> Writer:
        if self._writer is None:
            raise StoreClosedError(self._folder)
        return self._writer

    def _the_readers(self) -> Readers:
        if self._readers is None:
            raise StoreClosedError(self._folder)
        return self._readers

    def _connect(self) -> Changes:
        """Open everything, in the writer's thread."""
        prepare_folder(self._folder, is_network_allowed=self._is_network_allowed)
        self._lock.take()
        self._files.refuse_lost_data()
        path = self._files.database
        connection: sqlite3.Connection | None = None
        try:
            # The writer sees to it that two threads never use it at once.
            connection = sqlite3.connect(
                path, isolation_level=None, timeout=_BUSY_S, check_same_thread=False
            )
            return self._set_up(connection)
        except BaseException as error:
            if connection is not None:
                _close_untouched(connection, path)
            if isinstance(error, FAULTS):
                raise as_store_error(error, path) from error
            raise

    def _disconnect(self, changes: Changes) -> None:
        # SQLite removes its log when the last connection closes.
        self._files.mark_closing()
        changes.close()

    def _set_up(self, connection: sqlite3.Connection) -> Changes:
        path = self._files.database
        # Before the mode is set: that writes the first page of what SQLite takes for a new file.
        if self._files.was_written() and schema_version(connection, path) == 0:
            raise DamageError("it has no tables, but jobs were kept in it")
        _configure(connection, path)
        migrate(
            connection,
            path,
            migrations=self._migrations,
            keep_copy=partial(self._keep_copy, connection),
        )
        if damage := find_schema_damage(connection, self._migrations):
            raise DamageError(damage)
        if path.stat().st_size <= _CHECKED_BYTES_MAX:
            # Not quick_check: that does not miss an entry of an index.
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise DamageError(str(verdict))
        if damage := find_live_damage(connection):
            raise DamageError(damage)
        with Transaction(connection):
            epoch = read_setting(connection, "epoch", otherwise=0) + 1
            write_setting(connection, "epoch", epoch)
        self._files.mark_open()
        self._epoch = epoch
        return Changes(connection)

    def _keep_copy(self, connection: sqlite3.Connection, version: int) -> None:
        backups = self._files.backups
        backups.mkdir(mode=0o700, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        copy_database(connection, backups / f"schema-{version}-{stamp}.sqlite")


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreFailedError(path.parent, f"SQLite uses journal mode {mode} there, not WAL")
    for pragma in (
        "synchronous = FULL",
        "fullfsync = ON",  # only macOS knows the difference
        "mmap_size = 0",
        "cache_size = -16384",
        "temp_store = MEMORY",
        "cell_size_check = ON",
        "trusted_schema = OFF",
        f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        f"journal_size_limit = {_LOG_BYTES_MAX}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _close_untouched(connection: sqlite3.Connection, path: Path) -> None:
    """Close without the copying of the log that comes with the last close.

    What was refused stays as it was found: the last to close is a connection that cannot write.
    """
    with suppress(*FAULTS), closing(connect_read_only(path)) as guard:
        guard.execute("SELECT 1 FROM sqlite_schema").fetchone()
        connection.close()
    connection.close()
