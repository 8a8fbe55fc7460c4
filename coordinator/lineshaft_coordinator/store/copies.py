"""Whole copies of a database, verified before they get their name."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from lineshaft_coordinator.store.changes import read_setting, write_setting
from lineshaft_coordinator.store.check import check_database
from lineshaft_coordinator.store.errors import (
    BackupExistsError,
    StoreDamagedError,
    StoreFullError,
    StoreNotWritableError,
)
from lineshaft_coordinator.store.faults import FAULTS, as_store_error, is_full
from lineshaft_coordinator.store.files import StoreFiles
from lineshaft_coordinator.store.readers import connect_read_only
from lineshaft_runtime.durable import sync_path

_EPOCHS_AHEAD: Final = 1_000_000
"""A copy that is restored must not give an epoch again that was given after it was made."""


def copy_held_store(folder: Path, target: Path) -> None:
    """Copy the database of a data folder whose lock the caller holds; blocks, changes nothing.

    Raises:
        StoreError: As `copy_database`, or the store is damaged.
    """
    files = StoreFiles(folder)
    files.refuse_lost_data()
    if not files.database.exists():
        raise StoreDamagedError(files.database, "it is missing")
    try:
        with closing(connect_read_only(files.database)) as source:
            copy_database(source, target)
    except FAULTS as error:
        raise as_store_error(error, files.database) from error


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """Copy the database of a connection as it is at one moment; blocks, writers go on.

    Raises:
        BackupExistsError: There is a file at `target` already.
        StoreFullError: No room for the copy.
        StoreNotWritableError: The folder of `target` refuses it.
        StoreDamagedError: The copy does not verify; the source most likely is damaged.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        if target.exists():
            raise BackupExistsError(target)
        partial.unlink(missing_ok=True)
        try:
            _copy(source, partial)
            if problems := check_database(partial).problems:
                raise StoreDamagedError(partial, "; ".join(problems[:3]))
            # A link, not a rename: it never replaces a file that appeared meanwhile.
            os.link(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        sync_path(target.parent)
    except FileExistsError as error:
        raise BackupExistsError(target) from error
    except OSError as error:
        if is_full(error):
            raise StoreFullError(target.parent) from error
        raise StoreNotWritableError(target.parent, str(error)) from error


def _copy(source: sqlite3.Connection, partial: Path) -> None:
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            # In one step: a copy in several starts again with every commit in between.
            source.backup(copy, pages=-1)
            # One file that needs no other; SQLite syncs it.
            copy.execute("PRAGMA journal_mode = DELETE")
            copy.execute("PRAGMA synchronous = FULL")
            write_setting(copy, "epoch", read_setting(copy, "epoch", otherwise=0) + _EPOCHS_AHEAD)
    except FAULTS as error:
        raise as_store_error(error, partial) from error
