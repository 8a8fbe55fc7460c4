"""Seed 000's live messages. The same text comes from these functions and over the stream."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from lineshaft_coordinator.feeds.told import Ended, Latest, Message, News, Place, place_of
from lineshaft_coordinator.training_runs.words import status_of, timestamp, values_of
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent

_ORDER = ("epoch", "step", "loss", "accuracy", "lr", "gpu_util", "memory_mb")


def format_metrics(values: Mapping[str, JsonValue], at: float) -> str:
    """Write one ``metrics`` message.

    Args:
        values: In seed 000's words; what is missing or None is left out, and so is what it
            never sends.
        at: When it was recorded, in seconds since 1970.
    """
    data = {name: values[name] for name in _ORDER if values.get(name) is not None}
    return _written("metrics", {**data, "timestamp": timestamp(at)})


def format_status(status: str, at: float | None) -> str:
    """Write one ``status`` message.

    Args:
        status: In seed 000's words.
        at: When the run ended, in seconds since 1970; None: not known.
    """
    data: dict[str, JsonValue] = {"status": status}
    if at is not None:
        data["completed_at"] = timestamp(at)
    return _written("status", data)


@dataclass(frozen=True, slots=True)
class RunDialect:
    """Seed 000's stream: metrics one by one, then one status."""

    def snapshot(self, latest: Latest, behind: Place) -> Message | None:
        """Tell the latest metrics of a run that goes on; of one that is over its status says it."""
        event = latest.metrics_event
        if latest.ended is not None or event is None or place_of(event) > behind:
            return None  # In the last case it is told behind this, in its order.
        return self.message(event)

    def message(self, news: News) -> Message | None:
        """Tell metrics, and the end."""
        match news:
            case Ended(outcome=outcome, at=at):
                return Message(format_status(status_of(outcome.status), at).encode(), is_last=True)
            case JobEvent(kind="metrics"):
                values = _values(news)
                if values is None:
                    return None
                text = format_metrics(values, news.at)
                return Message(text.encode(), place_of(news), is_droppable=True)
            case JobEvent() | StateChanged():
                return None


def _values(event: JobEvent) -> dict[str, JsonValue] | None:
    metrics, step = event.body.get("metrics"), event.body.get("step")
    if not isinstance(metrics, dict):
        return None
    return values_of(metrics, step if isinstance(step, int) else None)


def _written(kind: str, data: Mapping[str, JsonValue]) -> str:
    said = {"type": kind, "data": data}
    return json.dumps(said, allow_nan=False, separators=(",", ":"))
