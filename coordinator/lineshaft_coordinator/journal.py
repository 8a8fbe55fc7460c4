"""Reads what the store has kept: the one place where its records and events are decoded.

A newer version may have written what this one cannot read, and a bug of ours, too. That is an
expected outcome for whoever asks about a job, and no reason to end.
"""

import json
import math
import re
from typing import Final

from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from lineshaft_coordinator.core.records import Record, decode
from lineshaft_coordinator.store.errors import StoreDamagedError, UnreadableRecordError
from lineshaft_coordinator.store.interface import EventRow
from lineshaft_protocol.events import EventKind, JobEvent
from lineshaft_protocol.wire import Wire, unchecked

UNREADABLE: Final = (UnreadableRecordError, StoreDamagedError)
"""What a question about one job may meet, and all others need not care about."""
_JOB_ID: Final = re.compile(rb'"job_id"\s*:\s*"([^"\\]{1,200})"')


class _Said(Wire):
    """What the body of an event's row says, beside what is in its columns."""

    kind: EventKind
    body: dict[str, JsonValue]


_event = unchecked(JobEvent)


def read_record(data: bytes) -> Record:
    """Read one record of the journal.

    Raises:
        UnreadableRecordError: It says what this version does not know, or is damaged.
    """
    try:
        return decode(data)
    except ValidationError as error:
        found = _JOB_ID.search(data)
        job_id = found[1].decode(errors="replace") if found is not None else None
        raise UnreadableRecordError(job_id, _first_fault(error)) from error


def event_row(event: JobEvent) -> EventRow:
    """Lay out one event; what the columns of its row say is not said again in its body.

    That is a third of an event of metrics, for the disk and for all who read it. Bodies of earlier
    versions say all of it.
    """
    body = b'{"kind":"%b","body":%b}' % (event.kind.encode(), to_json(event.body))
    return EventRow(event.job_id, event.attempt, event.seq, event.at, body)


def read_event(row: EventRow) -> JobEvent:
    """Read one event; in place of one that cannot be read stands a notice that says so."""
    kind: EventKind
    body: dict[str, JsonValue]
    try:
        said = _Said.model_validate_json(row.body)
        kind, body = said.kind, said.body
    except ValidationError as error:
        text = f"this event cannot be read ({_first_fault(error)})"
        kind, body = "notice", {"code": "unreadable", "text": text}
    return _event(
        job_id=row.job_id,
        attempt=row.attempt,
        seq=row.seq,
        at=row.at if math.isfinite(row.at) else 0.0,
        kind=kind,
        body=body,
    )


def read_event_plainly(row: EventRow) -> dict[str, JsonValue]:
    """Read one event as words of JSON, whatever they are."""
    said: dict[str, JsonValue] = json.loads(row.body)
    return {"job_id": row.job_id, "attempt": row.attempt, "seq": row.seq, "at": row.at, **said}


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
