"""The whole history of a training's metrics, page by page from the store."""

from collections.abc import AsyncIterator

from lineshaft_coordinator.finetune.points import Point, merge, point_of
from lineshaft_coordinator.finetune.words import values_of, whole
from lineshaft_coordinator.journal import read_event
from lineshaft_coordinator.store.interface import EventRow, Store

PAGE_EVENTS = 1000
PAGE_BYTES = 512 * 1024


async def history(
    store: Store, job_id: str, attempts: int, total_epochs: int | None
) -> AsyncIterator[list[Point]]:
    """Read all points, the oldest first, with the records of a step that follow one another merged.

    An attempt that went on from a checkpoint may do steps again that the one before it did after
    the checkpoint: then the later attempt's points are given, and not the earlier one's.

    Args:
        store: Where the events lie.
        job_id: The training.
        attempts: How many attempts it has had.
        total_epochs: The most that an epoch is said to be.
    """
    ends = await _ends(store, job_id, attempts)
    after, last = (0, 0), None
    while rows := await store.events_of(
        job_id, after=after, limit=PAGE_EVENTS, bytes_max=PAGE_BYTES
    ):
        after = rows[-1].attempt, rows[-1].seq
        page: list[Point] = []
        for row in rows:
            point = _point(row, total_epochs)
            if point is None:
                continue
            step, end = whole(point["step"]), ends.get(row.attempt)
            if step is not None and end is not None and step >= end:
                continue
            if last is not None and step is not None and last["step"] == step:
                merge(last, point)
                continue
            if last is not None:
                page.append(last)
            last = point
        yield page
    if last is not None:
        yield [last]


async def _ends(store: Store, job_id: str, attempts: int) -> dict[int, int]:
    """From which step on each attempt's points were done again."""
    ends: dict[int, int] = {}
    end: int | None = None
    for attempt in range(attempts, 1, -1):
        first = await _first_step(store, job_id, attempt)
        if first is not None:
            end = first if end is None else min(first, end)
        if end is not None:
            ends[attempt - 1] = end
    return ends


async def _first_step(store: Store, job_id: str, attempt: int) -> int | None:
    after = (attempt, 0)
    while rows := await store.events_of(
        job_id, after=after, limit=PAGE_EVENTS, bytes_max=PAGE_BYTES
    ):
        for row in rows:
            if row.attempt != attempt:
                return None
            point = _point(row, None)
            if point is not None and (step := whole(point["step"])) is not None:
                return step
        after = rows[-1].attempt, rows[-1].seq
    return None


def _point(row: EventRow, total_epochs: int | None) -> Point | None:
    if b'"metrics"' not in row.body:
        return None
    event = read_event(row)
    metrics = event.body.get("metrics")
    if event.kind != "metrics" or not isinstance(metrics, dict) or not values_of(metrics):
        return None
    return point_of(metrics, whole(event.body.get("step")), event.at, total_epochs)
