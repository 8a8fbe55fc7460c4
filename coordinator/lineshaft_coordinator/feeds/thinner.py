"""Sums up numbers that come more often than a viewer wants them."""

from typing import TypeAlias

from pydantic import JsonValue

from lineshaft_protocol.events import JobEvent

RATE_MIN, RATE_MAX = 0.01, 1000.0

_Sums: TypeAlias = dict[str, JobEvent]


class Thinner:
    """Holds metrics and progress back until the next may be told.

    What is told then says the newest value of each metric, and of how many messages it is made.

    Args:
        rate: Most messages of a kind in a second, from `RATE_MIN` to `RATE_MAX`.
    """

    def __init__(self, rate: float) -> None:
        self._interval_s = 1 / rate
        self._held: _Sums = {}
        self._next_at = 0.0

    def takes(self, event: JobEvent) -> bool:
        """Whether it is of a kind that is summed up."""
        return event.kind in ("metrics", "progress")

    def hold(self, event: JobEvent, now: float) -> float:
        """Take in an event; returns when it may be told, in seconds from now."""
        held = self._held.get(event.kind)
        self._held[event.kind] = event if held is None else _merged(held, event)
        return self._next_at - now

    def release(self, now: float) -> list[JobEvent]:
        """Give what is held, in order."""
        if not self._held:
            return []
        released = sorted(self._held.values(), key=lambda event: (event.attempt, event.seq))
        self._held = {}
        self._next_at = now + self._interval_s
        return released


def _merged(first: JobEvent, second: JobEvent) -> JobEvent:
    count = first.body.get("merged", 1)
    told = (count if isinstance(count, int) else 1) + 1
    body: dict[str, JsonValue] = {**second.body, "merged": told}
    match first.body.get("metrics"), second.body.get("metrics"):
        case dict(old), dict(new):
            body["metrics"] = {**old, **new}
        case _:
            pass  # Progress: the newest says it all.
    return second.model_copy(update={"body": body})
