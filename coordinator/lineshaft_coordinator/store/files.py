"""The files of a store, and what they say when put side by side before any is opened."""

from contextlib import suppress
from pathlib import Path

from lineshaft_coordinator.store.errors import (
    StoreDamagedError,
    StoreFullError,
    StoreNotWritableError,
)
from lineshaft_coordinator.store.faults import is_full
from lineshaft_coordinator.store.wal import find_damage
from lineshaft_runtime.durable import sync_path


class StoreFiles:
    """Where a store keeps what.

    `store.made` appears once the database has been written for the first time: without it an
    empty database is new, with it an empty database has lost everything. `store.open` is there
    while a coordinator runs: if it is found at a start, that one crashed, and it left a
    write-ahead log; if there is none, synced data went with it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "lineshaft.sqlite"
        self.log = folder / "lineshaft.sqlite-wal"
        self.backups = folder / "backups"
        self._made = folder / "store.made"
        self._open = folder / "store.open"

    def is_made(self) -> bool:
        """Tell whether a store was ever made here, whatever is left of it."""
        return self.database.exists() or self._made.exists()

    def was_written(self) -> bool:
        """Tell whether the database had tables once."""
        return self._made.exists()

    def refuse_lost_data(self) -> None:
        """Look at the files before SQLite does, which would start afresh without a word.

        Raises:
            StoreDamagedError: A file is missing, empty or has lost synced data.
            StoreNotWritableError: A file cannot be read.
        """
        try:
            bytes_there = _size(self.database)
            if not bytes_there and (self._made.exists() or _size(self.log)):
                what = "it is missing" if bytes_there is None else "it is empty"
                raise StoreDamagedError(self.database, f"{what}, but jobs were kept in it")
            log_bytes = _size(self.log)
            if log_bytes is None and self._open.exists():
                raise StoreDamagedError(
                    self.log,
                    f"it is missing, but the last run crashed (remove {self._open} "
                    "only if you put a backup in place)",
                )
            if (log_bytes or self._open.exists()) and (damage := find_damage(self.log)):
                raise StoreDamagedError(self.log, damage)
        except OSError as error:
            raise StoreNotWritableError(self.folder, str(error)) from error

    def mark_open(self) -> None:
        """Remember that the database exists and is in use.

        Raises:
            StoreFullError: No room for it.
            StoreNotWritableError: The folder refuses it.
        """
        try:
            for mark in (self._made, self._open):
                mark.touch(mode=0o600)
            sync_path(self.folder)
        except OSError as error:
            if is_full(error):
                raise StoreFullError(self.folder) from error
            raise StoreNotWritableError(self.folder, str(error)) from error

    def mark_closing(self) -> None:
        """Remember that the log may go; before it does, so that no crash between accuses it."""
        # Where the mark cannot be removed, SQLite cannot remove the log either.
        with suppress(OSError):
            self._open.unlink(missing_ok=True)
            sync_path(self.folder)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
