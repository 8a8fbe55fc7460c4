"""What a job tells while it runs, and what happens to it."""

from typing import Literal

from pydantic import Field, JsonValue

from lineshaft_protocol.ids import Name
from lineshaft_protocol.wire import NUMBER_MAX, Wire

EventKind = Literal["state", "progress", "metrics", "log", "checkpoint", "artifact", "notice"]


class JobEvent(Wire):
    """One line of a job's history, ordered by (attempt, seq)."""

    job_id: Name
    attempt: int = Field(ge=0, le=NUMBER_MAX)
    seq: int = Field(ge=1, le=NUMBER_MAX)
    """Counts from 1 within an attempt, without gaps unless a ``notice`` says so."""
    at: float = Field(allow_inf_nan=False)
    """When it happened, seconds since 1970 on the clock of the machine that saw it."""
    kind: EventKind
    body: dict[str, JsonValue]
