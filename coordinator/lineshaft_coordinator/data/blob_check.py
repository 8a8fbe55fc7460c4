"""Holds the blobs that jobs name against those that are there."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lineshaft_coordinator.core.records import JobFinished, JobSubmitted
from lineshaft_coordinator.data.blob_files import blob_path, list_blobs
from lineshaft_coordinator.data.object_check import object_problems
from lineshaft_coordinator.data.references import blobs_named, blobs_of
from lineshaft_coordinator.data.stored_objects import INDEX, read_index
from lineshaft_coordinator.journal import read_record
from lineshaft_coordinator.store import queries
from lineshaft_coordinator.store.errors import UnreadableRecordError
from lineshaft_coordinator.store.faults import FAULTS, as_store_error
from lineshaft_coordinator.store.readers import connect_read_only
from lineshaft_runtime.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class BlobReport:
    """What jobs and blobs say of each other."""

    problems: tuple[str, ...]
    """Blobs that jobs need and that are missing or damaged; records that cannot be read."""
    named: frozenset[str]
    """All blobs that some record names and that are files here alone."""
    named_bytes: int
    stored_count: int
    away: Mapping[str, int]
    """All that some record names and that lie in the object store, with sizes in bytes."""


def check_blobs(
    database: Path, folder: Path, *, reads_all: bool = False, store: ObjectStore | None = None
) -> BlobReport:
    """Look for each blob that a live job or a kept result needs; blocks, changes nothing.

    A payload of a job that has ended is not missed: nobody will ask for it.

    Args:
        database: No process writes it.
        folder: Of the blobs; it need not be there.
        reads_all: Whether to read the blobs and compare their hashes, which takes its time.
        store: Where to look for objects; None to believe the index of them.

    Raises:
        StoreError: The database cannot be read.
    """
    sizes = dict(list_blobs(folder)) if folder.is_dir() else {}
    # After the files: what moves meanwhile is found in either place.
    index = read_index(folder / INDEX)
    try:
        with closing(connect_read_only(database)) as connection:
            needed, named, problems = _needs(connection)
    except FAULTS as error:
        raise as_store_error(error, database) from error
    for blob_id, job_id in needed.items():
        if blob_id not in sizes and blob_id not in index:
            problems.append(f"job {job_id} needs blob {blob_id}, which is missing")
    away = {blob_id: index[blob_id] for blob_id in sorted(named & index.keys())}
    present = frozenset((named & sizes.keys()) - away.keys())
    if reads_all:
        problems.extend(_damage(folder, sorted(present)))
    if store is not None:
        asked = away if reads_all else {each: away[each] for each in away if each in needed}
        problems.extend(object_problems(store, asked, reads_all=reads_all))
    here_bytes = sum(sizes[blob_id] for blob_id in present)
    return BlobReport(tuple(problems), present, here_bytes, len(sizes), away)


def _needs(connection: sqlite3.Connection) -> tuple[dict[str, str], set[str], list[str]]:
    """What must be there, by a job that needs it; what is named at all; and what is unreadable."""
    submitted: dict[str, list[str]] = {}
    results: dict[str, str] = {}
    named: set[str] = set()
    problems: list[str] = []

    def visit(job_id: str, data: bytes) -> None:
        named.update(blobs_named(data))
        try:
            record = read_record(data)
        except UnreadableRecordError as error:
            problems.append(f"a record of job {job_id} cannot be read: {error.detail}")
            return
        if isinstance(record, JobSubmitted):
            submitted[job_id] = blobs_of(record)
        elif isinstance(record, JobFinished):
            submitted.pop(job_id, None)
            results.update(dict.fromkeys(blobs_of(record), job_id))

    last: int | None = 0
    while last is not None:
        last = queries.visit_records(connection, visit, last)
    needed = {blob_id: job_id for job_id, names in submitted.items() for blob_id in names}
    return needed | results, named, problems


def _damage(folder: Path, blob_ids: list[str]) -> Iterator[str]:
    for blob_id in blob_ids:
        path = blob_path(folder, blob_id)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield f"blob {path} cannot be read: {error.strerror}"
            continue
        if found != blob_id:
            yield f"blob {path} is damaged: its bytes hash to {found}"
