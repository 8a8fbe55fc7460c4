"""Reported runs in backups: their database as it is at one moment, then the files it names."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from lineshaft_coordinator.store.errors import StoreDamagedError
from lineshaft_coordinator.training_runs.tables import FILE, FOLDER


def copy_reported_runs(source: Path, target: Path) -> None:
    """Copy reported runs from one data folder to another, if there are any; blocks.

    The source may be in use. Its files are copied behind the database, so all that this names and
    that was not deleted meanwhile is there.

    Raises:
        StoreDamagedError: The database cannot be read.
        OSError: There is no room, or a folder cannot be used.
    """
    if not (source / FILE).exists():
        return
    (target / FILE).touch(mode=0o600)
    try:
        with (
            closing(
                sqlite3.connect(f"{(source / FILE).resolve().as_uri()}?mode=ro", uri=True)
            ) as reading,
            closing(sqlite3.connect(target / FILE)) as writing,
        ):
            reading.backup(writing)
            # A copy lies in one file, and can be read where nothing can be written.
            writing.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        raise StoreDamagedError(source / FILE, str(error)) from error
    if (source / FOLDER).is_dir():
        drafts = shutil.ignore_patterns(".*.tmp")
        shutil.copytree(source / FOLDER, target / FOLDER, ignore=drafts)
