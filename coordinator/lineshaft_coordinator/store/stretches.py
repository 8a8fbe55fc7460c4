"""Stretches: neighbouring events of one attempt in one row of the table of events.

A row for each event costs more than what is in it: its key, its place in the tree, its checksum,
once to write it and once for each who reads it. So events whose numbers follow each other and that
come at once lie together. The row's `seq` and `at` are those of its last event, and its `count`
says how many end there. One event alone lies there as it is. Several lie behind their times and
lengths.

No event is in two stretches; who writes them looks for that, see `changes`.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, cast
from zlib import crc32

from lineshaft_coordinator.store.faults import DamageError
from lineshaft_coordinator.store.interface import EventRow
from lineshaft_protocol.values import value

EVENT_COLUMNS: Final = "job_id, attempt, seq, at, body, crc, count"
SINGLE_EVENT_COLUMNS: Final = EVENT_COLUMNS.replace("count", "1")
"""The same of a database before schema version 3, which has a row for each event."""
COUNT_MAX: Final = 256
"""Most events of one stretch."""
BYTES_MAX: Final = 64 * 1024
"""A stretch that has so much takes no other event."""

EventCells = tuple[str, int, int, float, bytes, int, int]
_NUMBERS: Final = struct.Struct("<qqd")
# What a cell of a wrong type raises: a damaged database may hold a text where a number was.
_MISFITS: Final = (TypeError, ValueError, AttributeError, struct.error)


@value()
class Stretch:
    """Events of one attempt whose numbers follow each other."""

    job_id: str
    attempt: int
    first: int
    """Number of the first event; of the last it is `first + len(ats) - 1`."""
    ats: Sequence[float]
    """When they happened, wall time in seconds."""
    bodies: Sequence[bytes]

    def events(self) -> list[EventRow]:
        """Return the events one by one."""
        return [
            EventRow(self.job_id, self.attempt, seq, at, body)
            for seq, (at, body) in enumerate(zip(self.ats, self.bodies, strict=True), self.first)
        ]

    def behind(self, place: tuple[int, int]) -> "Stretch":
        """Return the part of it that is behind a place; all that is in front of it is left out."""
        attempt, seq = place
        known = seq + 1 - self.first
        if attempt != self.attempt or known <= 0:
            return self
        first = self.first + known
        return Stretch(self.job_id, attempt, first, self.ats[known:], self.bodies[known:])


def neighbours(events: Iterable[EventRow]) -> Iterator[list[EventRow]]:
    """Put events together that may share a stretch, in their order."""
    together: list[EventRow] = []
    job_id, attempt, following, size = "", -1, -1, 0
    for event in events:
        if (
            event.seq == following
            and event.attempt == attempt
            and event.job_id == job_id
            and size < BYTES_MAX
            and len(together) < COUNT_MAX
        ):
            together.append(event)
            size += len(event.body)
        else:
            if together:
                yield together
            together, size = [event], len(event.body)
            job_id, attempt = event.job_id, event.attempt
        following = event.seq + 1
    if together:
        yield together


def cells_of_stretch(events: Sequence[EventRow]) -> EventCells:
    """Lay out neighbours, at least one."""
    last, count = events[-1], len(events)
    if count == 1:
        body = last.body
    else:
        bodies = [event.body for event in events]
        head = struct.pack(f"<{count}d{count}I", *[each.at for each in events], *map(len, bodies))
        body = head + b"".join(bodies)
    crc = _crc(last.job_id, last.attempt, last.seq, last.at, body, count)
    return last.job_id, last.attempt, last.seq, last.at, body, crc, count


def read_stretch(cells: EventCells) -> Stretch:
    """Read a stretch back.

    Raises:
        DamageError: It is not what was written.
    """
    job_id, attempt, seq, at, body, crc, count = cells
    try:
        if _crc(job_id, attempt, seq, at, body, count) == crc:
            ats, bodies = ((at,), (body,)) if count == 1 else _taken_apart(body, count)
            return Stretch(job_id, attempt, seq + 1 - count, ats, bodies)
    except _MISFITS:
        pass  # Told below.
    raise DamageError(
        f"event {seq} of attempt {attempt} of job {job_id} does not match its checksum"
    )


def _taken_apart(body: bytes, count: int) -> tuple[tuple[float, ...], list[bytes]]:
    numbers = struct.unpack_from(f"<{count}d{count}I", body)
    lengths = cast("tuple[int, ...]", numbers[count:])
    starts = accumulate(lengths, initial=12 * count)
    return numbers[:count], [
        body[start : start + length] for start, length in zip(starts, lengths, strict=False)
    ]


def _crc(job_id: str, attempt: int, seq: int, at: float, body: bytes, count: int) -> int:
    # Rows from before there were stretches have no count, and their checksums know of none.
    tail = b"" if count == 1 else b"\0%d" % count
    return crc32(body, crc32(_NUMBERS.pack(attempt, seq, at) + job_id.encode() + tail))
