"""The history of a training's metrics, thinned so that keeping it costs the same at any length."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue

from lineshaft_coordinator.finetune.words import POINT_FIELDS, epoch_there, moment, values_of, whole

POINTS_MAX = 400
"""Points that are kept; of a longer history every second, fourth, eighth … point."""

Point = dict[str, JsonValue]


def stamp(at: float | None) -> str | None:
    """Return a time as the dialect writes it: UTC, to the millisecond, with a Z."""
    if at is None or moment(at) is None:
        return None
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def point_of(
    metrics: Mapping[str, JsonValue], step: int | None, at: float, total_epochs: int | None
) -> Point:
    """Return what one call of ``run.log`` says, as a point of the history."""
    values = values_of(metrics)
    point: Point = {"step": step, "epoch": epoch_of(metrics, total_epochs)}
    point |= {name: values.get(name) for name in POINT_FIELDS}
    point["timestamp"] = stamp(at)
    return point


def epoch_of(metrics: Mapping[str, JsonValue], total_epochs: int | None) -> int | None:
    """Return the epoch that is logged with metrics, counted from 1; None if there is none."""
    epoch = metrics.get("epoch")
    if isinstance(epoch, bool) or not isinstance(epoch, int | float) or whole(epoch) is None:
        return None
    return epoch_there(epoch, total_epochs)


def merge(point: Point, later: Point) -> None:
    """Take a second record of the same step in: what it knows wins."""
    for name, value in later.items():
        if value is not None:
            point[name] = value


@dataclass(slots=True)
class Points:
    """A bounded choice of all points: the first, evenly many of the others, and the last."""

    kept: list[Point] = field(default_factory=list[Point])
    stride: int = 1
    """One of so many points is kept."""
    count: int = 0
    """Points so far, steps with several records counted once."""
    last: Point | None = None
    _written: list[bytes] = field(default_factory=list[bytes], repr=False, compare=False)
    """The kept ones as JSON, but for those that may still change."""

    def add(self, point: Point) -> None:
        """Take the next record in."""
        last = self.last
        if last is not None and last["step"] is not None and last["step"] == point["step"]:
            merge(last, point)
            return
        if self.count % self.stride == 0:
            self.kept.append(point)
        self.count += 1
        self.last = point
        if len(self.kept) > POINTS_MAX:
            self.kept = self.kept[::2]
            self._written = self._written[::2]
            self.stride *= 2

    def chosen(self) -> list[Point]:
        """The points to show, the oldest first."""
        is_last_kept = not self.kept or self.kept[-1] is self.last
        return list(self.kept) if is_last_kept or self.last is None else [*self.kept, self.last]

    def written(self) -> bytes:
        """The points to show, as a JSON array; each is encoded once."""
        is_last_kept = bool(self.kept) and self.kept[-1] is self.last
        settled = len(self.kept) - is_last_kept
        del self._written[settled:]
        for point in self.kept[len(self._written) : settled]:
            self._written.append(_json(point))
        last = [_json(self.last)] if self.last is not None else []
        return b"[" + b",".join([*self._written, *last]) + b"]"

    def settle(self) -> None:
        """After a copy was made: the last point is one of the kept ones again, if it is."""
        if self.kept and self.last == self.kept[-1]:
            self.last = self.kept[-1]


def _json(point: Point) -> bytes:
    return json.dumps(point, allow_nan=False, separators=(",", ":")).encode()
