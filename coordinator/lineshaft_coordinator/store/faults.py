"""Translates what the engine and the system raise into the store's own errors."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from lineshaft_coordinator.store.errors import (
    StoreDamagedError,
    StoreError,
    StoreFailedError,
    StoreFullError,
    StoreNotWritableError,
)

# Below this much room a failed write is taken for a full disk: SQLite reports one that hits its
# shared-memory file, or a quota, as a plain input/output error.
_ROOM_BYTES_MIN: Final = 1 << 20
_SYNC_FAULTS: Final = frozenset(
    (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)  # never a full disk: data is lost
)


class DamageError(Exception):
    """What was read is not what was written; `as_store_error` adds the file."""


Fault = sqlite3.Error | DamageError | UnicodeDecodeError
"""What reading or writing a database may raise; SQLite quotes damaged names, not always UTF-8."""
FAULTS: Final = (sqlite3.Error, DamageError, UnicodeDecodeError)


def is_full(error: OSError) -> bool:
    """Tell whether the system refused a write for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def as_store_error(error: Fault, path: Path) -> StoreError:
    """Say in the store's terms what went wrong with the database at `path`."""
    if not isinstance(error, sqlite3.Error):
        return StoreDamagedError(path, str(error))
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not from SQLite but from reading its answer: a text that is not UTF-8
        return StoreDamagedError(path, str(error))
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreFullError(path.parent)
        case sqlite3.SQLITE_IOERR if code not in _SYNC_FAULTS and not _has_room(path.parent):
            return StoreFullError(path.parent)
        # A plain SQL error too: our statements are constants, so it is the schema that changed.
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:
            return StoreDamagedError(path, str(error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreNotWritableError(path.parent, str(error))
        case _:
            return StoreFailedError(path.parent, f"{error} (SQLite code {code})")


def is_lasting(error: Fault) -> bool:
    """Tell whether nothing may be written any more after this.

    A full disk or a foreign reader's lock passes. After any other fault, a failed sync before all,
    the kernel may have dropped pages that SQLite believes written.
    """
    passing = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF not in passing


def _has_room(folder: Path) -> bool:
    try:
        room = os.statvfs(folder)
    except OSError:
        return True
    return room.f_bavail * room.f_frsize >= _ROOM_BYTES_MIN
