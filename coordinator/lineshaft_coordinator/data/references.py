"""Which blobs a journal record names."""

import re
from typing import Final

from lineshaft_coordinator.core.records import (
    FILE_KEPT,
    FileKept,
    JobFinished,
    JobSubmitted,
    Record,
)
from lineshaft_coordinator.journal import read_record
from lineshaft_coordinator.store.errors import UnreadableRecordError

_NAMED: Final = re.compile(rb'"([0-9a-f]{64})"')


def blobs_named(record: bytes) -> list[str]:
    """List whatever in a record may be the name of a blob.

    Not decoded: a sweep looks at every record that is kept. What only looks like a name keeps a
    blob that nobody needs; none that somebody needs is missed, wherever later versions put it.
    """
    return [name.decode() for name in _NAMED.findall(record)]


class KeptBlobs:
    """Blobs of the files that jobs keep; a checkpoint that a later one replaced needs none."""

    def __init__(self) -> None:
        self._blobs: dict[str, dict[str, str]] = {}
        self.problem: UnreadableRecordError | None = None
        """The first record about a kept file that this version cannot read."""

    def takes(self, job_id: str, record: bytes) -> bool:
        """Take a record in, in the journal's order; False if it is not about a kept file.

        Nor is one that this version cannot read: whatever it may name is kept.
        """
        if not record.startswith(FILE_KEPT):
            return False
        try:
            kept = read_record(record)
        except UnreadableRecordError as error:
            self.problem = self.problem or error
            return False
        assert isinstance(kept, FileKept), "the type comes first in a record"
        blobs = self._blobs.setdefault(job_id, {})
        if kept.file.blob is not None:
            blobs[kept.file.file_id] = kept.file.blob
        for file_id in kept.dropped:
            blobs.pop(file_id, None)
        return True

    def names(self) -> set[str]:
        """The blobs that are needed."""
        return {blob for blobs in self._blobs.values() for blob in blobs.values()}


def blobs_of(record: Record) -> list[str]:
    """List the blobs that a job cannot do without: what it needs to run, and its result."""
    names: tuple[str | None, ...] = ()
    match record:
        case JobSubmitted(job=job):
            names = job.blobs
        case JobFinished(outcome=outcome):
            names = (None if outcome.result is None else outcome.result.blob,)
        case _:
            pass
    return [name for name in names if name is not None]
