"""Which blobs a journal record names."""

import re
from typing import Final

from lineshaft_coordinator.core.records import JobFinished, JobSubmitted, Record

_NAMED: Final = re.compile(rb'"([0-9a-f]{64})"')


def blobs_named(record: bytes) -> list[str]:
    """List whatever in a record may be the name of a blob.

    Not decoded: a sweep looks at every record that is kept. What only looks like a name keeps a
    blob that nobody needs; none that somebody needs is missed, wherever later versions put it.
    """
    return [name.decode() for name in _NAMED.findall(record)]


def blobs_of(record: Record) -> list[str]:
    """List the blobs that a job cannot do without: its code and payload, and its result."""
    names: tuple[str | None, ...] = ()
    match record:
        case JobSubmitted(job=job):
            names = job.blobs
        case JobFinished(outcome=outcome):
            names = (None if outcome.result is None else outcome.result.blob,)
        case _:
            pass
    return [name for name in names if name is not None]
