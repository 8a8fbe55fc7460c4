"""Lineshaft's own live messages: JSON objects with a type, numbered by the job's history."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast, get_args

from pydantic import JsonValue

from lineshaft_coordinator.feeds.places import place_text
from lineshaft_coordinator.feeds.told import Ended, Latest, Message, News, Place, place_of
from lineshaft_coordinator.server.viewing import ending_text
from lineshaft_coordinator.strict_json import spelled
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import EventKind, JobEvent
from lineshaft_protocol.outcomes import Outcome

KINDS = frozenset(get_args(EventKind))
KINDS_USUAL = KINDS - {"log"}
_DROPPABLE = frozenset({"metrics", "progress", "log"})
"""What can be asked for again, and is many."""


@dataclass(frozen=True, slots=True)
class LiveDialect:
    """Lineshaft's own messages."""

    kinds: frozenset[str] = KINDS_USUAL
    """Which sorts of events are told; the snapshot, the state and the end always are."""
    metrics: tuple[str, ...] = ()
    """Patterns of the metrics that are told, as in file names; empty: all."""
    shows_output: bool = True
    """Whether texts are told that the job's code wrote; else only how it ended."""

    def snapshot(self, latest: Latest, behind: Place) -> Message:
        """Tell where the job is and its latest numbers."""
        state = latest.state
        ended = latest.ended
        data: dict[str, JsonValue] = {
            "state": self._state_data(state) if state is not None else None,
            "status": ended.outcome.status if ended is not None else None,
            "metrics": {
                name: {
                    # A metric's value came as JSON.
                    "value": cast("JsonValue", point.value),
                    "step": point.step,
                    "at": point.at,
                    "seq": place_text(point.place),
                }
                for name, point in latest.metrics.items()
                if self._is_wanted(name)
            },
            "progress": latest.progress.body if latest.progress is not None else None,
            "checkpoint": latest.checkpoint.body if latest.checkpoint is not None else None,
        }
        said = {"type": "snapshot", "job_id": latest.job_id, "seq": place_text(behind)}
        return Message(encode(said | {"data": data}), behind)

    def message(self, news: News) -> Message | None:
        """Tell news."""
        match news:
            case StateChanged():
                return Message(encode({"type": "state", "data": self._state_data(news)}))
            case Ended():
                return Message(encode({"type": "end", "data": self._end_data(news)}), is_last=True)
            case JobEvent():
                return self._event(news)

    def _event(self, event: JobEvent) -> Message | None:
        if event.kind not in self.kinds:
            return None
        body: dict[str, JsonValue] = dict(event.body)
        if event.kind == "metrics" and self.metrics:
            values = body.get("metrics")
            chosen: dict[str, JsonValue] = {
                name: value
                for name, value in (values.items() if isinstance(values, dict) else ())
                if self._is_wanted(name)
            }
            if not chosen:
                return None
            body["metrics"] = chosen
        place = place_of(event)
        said: dict[str, JsonValue] = {
            "type": event.kind,
            "seq": place_text(place),
            "at": event.at,
            "data": body,
        }
        return Message(encode(said), place, is_droppable=event.kind in _DROPPABLE)

    def _is_wanted(self, name: str) -> bool:
        return not self.metrics or any(fnmatchcase(name, pattern) for pattern in self.metrics)

    def _state_data(self, state: StateChanged) -> dict[str, JsonValue]:
        return {
            "state": state.state,
            "attempt": state.attempt,
            "worker_id": state.worker_id,
            "reason": state.reason if self.shows_output else None,
        }

    def _end_data(self, ended: Ended) -> dict[str, JsonValue]:
        outcome = ended.outcome
        return {
            "status": outcome.status,
            "at": ended.at,
            "attempt": outcome.attempt,
            "worker_id": outcome.worker_id,
            "run_s": outcome.run_s,
            "reason": outcome.reason if self.shows_output or not outcome.failure else None,
            "error": self._error_of(outcome),
        }

    def _error_of(self, outcome: Outcome) -> str | None:
        if outcome.failure is None:
            return None
        return outcome.failure.message if self.shows_output else ending_text(outcome.failure)


def lagged(skipped: int, next_place: Place | None) -> bytes:
    """Tell that messages were skipped, and where it goes on."""
    next_seq = place_text(next_place) if next_place is not None else None
    return encode({"type": "lagged", "data": {"skipped": skipped, "next_seq": next_seq}})


def encode(said: Mapping[str, JsonValue]) -> bytes:
    """Write an object as strict JSON: NaN and infinities become text."""
    try:
        text = json.dumps(said, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(spelled(dict(said)), allow_nan=False, separators=(",", ":"))
    return text.encode()
