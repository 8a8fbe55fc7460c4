"""Backups of a data folder: whole, verified, and restored by no more than a copy.

A backup is a folder laid out like a data folder that was closed: the database in one file, the
blobs that its records name, tokens and certificate. It gets its name when all of it is on disk.
What is in it can open the coordinator, so only its owner can read it.
"""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from lineshaft_coordinator.data import store_note
from lineshaft_coordinator.data.blob_check import BlobReport, check_blobs
from lineshaft_coordinator.data.blob_files import FOLDER_MODE, blob_path
from lineshaft_coordinator.data.stored_objects import INDEX, read_index, write_index
from lineshaft_coordinator.notices.registry import FILE_NAME as NOTICES
from lineshaft_coordinator.notices.registry import copy_registry
from lineshaft_coordinator.store.check import Report, check_database, check_held_store
from lineshaft_coordinator.store.copies import copy_held_store
from lineshaft_coordinator.store.errors import (
    BackupExistsError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreNotWritableError,
)
from lineshaft_coordinator.store.faults import is_full
from lineshaft_coordinator.store.files import StoreFiles
from lineshaft_coordinator.store.lock import FolderLock
from lineshaft_coordinator.training_runs.copies import copy_reported_runs
from lineshaft_protocol.version import __version__
from lineshaft_runtime.durable import sync_path
from lineshaft_runtime.object_store import ObjectStore

BLOBS = "blobs"
MANIFEST = "backup.json"
_KEPT_FILES = (
    "tokens.json",
    "tls/certificate.pem",
    "tls/key.pem",
    "training.key",
    store_note.FILE_NAME,
)


class NoDataError(StoreError):
    """A folder is no data folder of a coordinator."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds no data of a coordinator; name its data folder with --data"
        )
        self.folder = folder


class NoBackupError(StoreError):
    """A folder is no backup."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is no backup: it has no {MANIFEST}; name a folder that "
            "'lineshaft-coordinator backup' made"
        )
        self.folder = folder


class OtherDataError(StoreError):
    """The coordinator that was asked keeps other data."""

    def __init__(self, *, asked: Path, own: Path) -> None:
        super().__init__(
            f"the coordinator that was asked keeps its data in {own}, not in {asked}; set "
            "LINESHAFT_HOME as it was set for the coordinator of that folder"
        )
        self.asked, self.own = asked, own


class DataExistsError(StoreError):
    """A restore never replaces data."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} is not empty, and a restore replaces nothing; move it away, or name "
            "another folder with --data"
        )
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Summary:
    """What a data folder or a backup holds."""

    folder: Path
    store: Report
    blobs: BlobReport | None
    """``None`` when the database could not be read."""
    blob_store: str | None
    """URL of the object store that blobs lie in; none of their bytes are in a backup."""

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong."""
        return self.store.problems + (() if self.blobs is None else self.blobs.problems)


def summary_view(summary: Summary) -> dict[str, JsonValue]:
    """A summary for programs."""
    store, blobs = summary.store, summary.blobs
    return {
        "folder": str(summary.folder),
        "problems": [*summary.problems],
        "epoch": store.epoch,
        "jobs": store.job_count,
        "live_jobs": store.live_count,
        "records": store.record_count,
        "events": store.event_count,
        "blobs": 0 if blobs is None else len(blobs.named),
        "blob_bytes": 0 if blobs is None else blobs.named_bytes,
        "blob_store": summary.blob_store,
        "objects": 0 if blobs is None else len(blobs.away),
        "object_bytes": 0 if blobs is None else sum(blobs.away.values()),
    }


def check_data(data: Path, *, reads_blobs: bool) -> Summary:
    """Check a data folder that no coordinator has open; blocks, changes nothing.

    Raises:
        NoDataError: It is none.
        StoreLockedError: A coordinator has it.
        ObjectStoreUrlError: Its object store cannot be used on this machine.
    """
    if not StoreFiles(data).is_made():
        raise NoDataError(data)
    with FolderLock(data).held():
        note = store_note.read_note(data)
        store = None if note is None else ObjectStore(note.url)
        return _summary(data, check_held_store(data), reads_blobs=reads_blobs, store=store)


def back_up(data: Path, target: Path) -> Summary:
    """Back up a data folder that no coordinator has open; blocks.

    Raises:
        StoreLockedError: A coordinator has it: ask that one.
        StoreError: As `backup_under_way`, or the store is damaged.
    """
    if not StoreFiles(data).is_made():
        raise NoDataError(data)
    with FolderLock(data).held(), backup_under_way(target) as (database, complete):
        copy_held_store(data, database)
        return complete(data)


@contextmanager
def backup_under_way(target: Path) -> Generator[tuple[Path, Callable[[Path], Summary]]]:
    """Make a backup: put the copy of the database in the first, then call the second.

    The second takes the data folder; while it works, no blob may be collected. Both block.

    Raises:
        BackupExistsError: There is something at `target` already.
        StoreFullError: No room for it.
        StoreNotWritableError: It cannot be written there.
        StoreDamagedError: The copy does not verify.
    """
    with _written_whole(target, BackupExistsError(target)) as partial:
        yield StoreFiles(partial).database, lambda data: _complete(data, partial, target)


def restore(source: Path, data: Path) -> Summary:
    """Verify a backup and make a data folder of it; blocks.

    Raises:
        NoBackupError: The source is none.
        DataExistsError: There is something in the folder already.
        StoreDamagedError: The backup is not whole; nothing was made.
        StoreFullError: No room for it.
        StoreNotWritableError: It cannot be written there.
    """
    if not (source / MANIFEST).is_file():
        raise NoBackupError(source)
    with _written_whole(data, DataExistsError(data)) as partial:
        database = StoreFiles(source).database
        summary = _summary(source, check_database(database), reads_blobs=True)
        if summary.problems:
            raise StoreDamagedError(source, "; ".join(summary.problems[:3]))
        _place(database, StoreFiles(partial).database, may_link=False)
        _copy_the_rest(source, partial, summary, may_link=False)
    return summary


def _complete(data: Path, partial: Path, target: Path) -> Summary:
    summary = _summary(target, check_database(StoreFiles(partial).database), data=data)
    _copy_the_rest(data, partial, summary, may_link=True)
    manifest = {
        "lineshaft": __version__,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "epoch": summary.store.epoch,
        "jobs": summary.store.job_count,
        "blobs": len(_named(summary)),
        "blob_store": summary.blob_store,
        "objects": 0 if summary.blobs is None else len(summary.blobs.away),
    }
    (partial / MANIFEST).write_text(json.dumps(manifest) + "\n")
    sync_path(partial / MANIFEST)
    return summary


def _summary(
    folder: Path,
    report: Report,
    *,
    data: Path | None = None,
    reads_blobs: bool = False,
    store: ObjectStore | None = None,
) -> Summary:
    source = data or folder
    note = store_note.read_note(source)
    url = None if note is None else note.url
    if report.schema_version == 0:  # it could not be read
        return Summary(folder, report, None, url)
    found = check_blobs(report.path, source / BLOBS, reads_all=reads_blobs, store=store)
    return Summary(folder, report, found, url)


def _named(summary: Summary) -> frozenset[str]:
    return frozenset() if summary.blobs is None else summary.blobs.named


@contextmanager
def _written_whole(target: Path, taken: StoreError) -> Generator[Path]:
    """Give a folder to write in, which gets its name when the block ends well."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        if not _is_free(target):
            raise taken
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=FOLDER_MODE)
        try:
            yield partial
            sync_path(partial)
            if not _is_free(target):
                raise taken
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_path(target.parent)
    except OSError as error:
        if is_full(error):
            raise StoreFullError(target.parent) from error
        raise StoreNotWritableError(target.parent, str(error)) from error


def _is_free(target: Path) -> bool:
    return not target.exists() or (target.is_dir() and not any(target.iterdir()))


def _copy_the_rest(source: Path, target: Path, summary: Summary, *, may_link: bool) -> None:
    for name in _KEPT_FILES:
        if (source / name).exists():
            (target / name).parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            _place(source / name, target / name, may_link=False)
    if (source / NOTICES).exists():
        _copy_versions(source / NOTICES, target / NOTICES)
    copy_reported_runs(source, target)
    (target / BLOBS).mkdir(mode=FOLDER_MODE)
    shards: set[Path] = {target, target / BLOBS, target / "tls"}
    away = {} if summary.blobs is None else dict(summary.blobs.away)
    for blob_id in _named(summary):
        path = blob_path(target / BLOBS, blob_id)
        if path.parent not in shards:
            path.parent.mkdir(mode=FOLDER_MODE)
            shards.add(path.parent)
        try:
            _place(blob_path(source / BLOBS, blob_id), path, may_link=may_link)
        except FileNotFoundError:  # Moved to the object store since we looked.
            path.unlink(missing_ok=True)
            away[blob_id] = read_index(source / BLOBS / INDEX)[blob_id]
    shards |= write_index(target / BLOBS / INDEX, away)
    for folder in shards:
        if folder.is_dir():
            sync_path(folder)


def _copy_versions(source: Path, target: Path) -> None:
    try:
        copy_registry(source, target)
    except sqlite3.Error as error:
        raise StoreDamagedError(source, str(error)) from error
    sync_path(target)


def _place(source: Path, target: Path, *, may_link: bool) -> None:
    """Link a file that nobody ever changes, or copy it."""
    if may_link:
        try:
            os.link(source, target)
        except OSError:  # Another disk, or too many links.
            pass
        else:
            return
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing:
        with source.open("rb") as reading:
            shutil.copyfileobj(reading, writing, 1 << 20)
        writing.flush()
        os.fsync(writing.fileno())
