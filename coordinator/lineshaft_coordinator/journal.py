"""Reads what the store has kept: the one place where its records and events are decoded.

A newer version may have written what this one cannot read, and a bug of ours, too. That is an
expected outcome for whoever asks about a job, and no reason to end.
"""

import math
import re
from typing import Final

from pydantic import ValidationError

from lineshaft_coordinator.core.records import Record, decode
from lineshaft_coordinator.store.errors import StoreDamagedError, UnreadableRecordError
from lineshaft_coordinator.store.interface import EventRow
from lineshaft_protocol.events import JobEvent

UNREADABLE: Final = (UnreadableRecordError, StoreDamagedError)
"""What a question about one job may meet, and all others need not care about."""
_JOB_ID: Final = re.compile(rb'"job_id"\s*:\s*"([^"\\]{1,200})"')


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


def read_event(row: EventRow) -> JobEvent:
    """Read one event; in place of one that cannot be read stands a notice that says so."""
    try:
        return JobEvent.model_validate_json(row.body)
    except ValidationError as error:
        text = f"this event cannot be read ({_first_fault(error)})"
        return JobEvent(
            job_id=row.job_id,
            attempt=row.attempt,
            seq=row.seq,
            at=row.at if math.isfinite(row.at) else 0.0,
            kind="notice",
            body={"code": "unreadable", "text": text},
        )


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
