"""Viewers with queues: each pays for itself. And bugs planted in the hub, which must be seen."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.feeds.stage import Theatre, event, turns
from tests.unit.feeds.test_hub import (
    test_whenever_viewers_come_nothing_is_missed_or_told_twice as nothing_is_missed_or_doubled,
)
from tests.unit.feeds.test_viewer_queue import (
    test_whatever_comes_and_goes_only_oldest_metrics_are_missing as only_oldest_are_missing,
)

from lineshaft_coordinator.feeds import hub as hubs
from lineshaft_coordinator.feeds.hub import Hub
from lineshaft_coordinator.feeds.live_dialect import LiveDialect
from lineshaft_coordinator.feeds.thinner import Thinner
from lineshaft_coordinator.feeds.told import BEGINNING, News, Place
from lineshaft_coordinator.feeds.viewer_queue import QueueLimits, ViewerQueue
from lineshaft_coordinator.feeds.viewers import QueuedViewer, WebSocketViewer


def queued(messages: int = 8, **options: Any) -> QueuedViewer:
    return QueuedViewer(
        LiveDialect(), lambda: None, limits=QueueLimits(messages=messages), **options
    )


def taken(viewer: QueuedViewer) -> list[Place | None]:
    found: list[Place | None] = []
    while (waiting := viewer.take()) is not None:
        found.append(waiting.message.place)
    return found


async def test_a_slow_viewer_costs_the_others_nothing() -> None:
    theatre, slow, quick = Theatre(), queued(), queued()
    hub = Hub(theatre)
    hub.subscribe("j", slow)
    hub.subscribe("j", quick)
    await turns()
    taken(quick)

    for seq in range(1, 101):
        theatre.say(event(seq))
        # In the same turn: nobody waits for anybody.
        assert taken(quick) == [(1, seq)]
    theatre.end()

    assert quick.queue.dropped_count == 0
    assert taken(slow)[-7:-1] == [(1, seq) for seq in range(95, 101)]
    assert slow.ending is not None


async def test_a_rate_holds_back_and_sums_up() -> None:
    theatre, viewer = Theatre(), queued(messages=100, thinner=Thinner(1000.0))
    hub = Hub(theatre)
    hub.subscribe("j", viewer)
    await turns()
    taken(viewer)

    theatre.say(event(1, loss=1.0), event(2, lr=2.0), event(3, loss=3.0))
    first = taken(viewer)
    theatre.end()

    assert first == [(1, 1)]
    assert taken(viewer) == [(1, 3), None]


@dataclass
class Line:
    """A connection whose peer takes nothing until it is told to."""

    is_writable: bool = True
    buffered_bytes: int = 0
    sent: list[bytes] = field(default_factory=list[bytes])
    closed: tuple[int, str] | None = None

    def send_text(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


async def test_a_burst_in_one_turn_is_not_lost_to_who_reads() -> None:
    theatre, line = Theatre(), Line()
    hub = Hub(theatre)
    viewer = WebSocketViewer(
        lambda viewer: hub.subscribe("j", viewer),
        lambda viewer: hub.unsubscribe("j", viewer),
        LiveDialect(),
        limits=QueueLimits(messages=10),
    )
    viewer.on_open(line)  # type: ignore[arg-type]
    await turns()

    theatre.say(*map(event, range(1, 501)))
    await turns()

    assert len(line.sent) == 501
    assert viewer.viewer.queue.dropped_count == 0


async def test_who_takes_nothing_that_must_arrive_is_let_go() -> None:
    theatre, line = Theatre(), Line()
    hub = Hub(theatre)
    viewer = WebSocketViewer(
        lambda viewer: hub.subscribe("j", viewer),
        lambda viewer: hub.unsubscribe("j", viewer),
        LiveDialect(),
        limits=QueueLimits(messages=2, hard_factor=2),
    )
    viewer.on_open(line)  # type: ignore[arg-type]
    await turns()
    line.is_writable = False

    for _ in range(6):
        theatre.move("pausing")
    await turns()

    assert line.closed == (1013, "too slow; come again")


# --- planted bugs ---

Check = Callable[[], Awaitable[None]]


async def _queue_check() -> None:
    for seed in range(300):
        only_oldest_are_missing(seed)


async def _hub_check() -> None:
    for seed in range(200):
        await nothing_is_missed_or_doubled(seed)


def _drops_whatever_is_first(queue: ViewerQueue) -> bool:
    queue.size_bytes -= len(queue._waiting.popleft().message.data)
    return bool(queue._waiting)


def _drops_the_newest(queue: ViewerQueue) -> bool:
    queue.size_bytes -= len(queue._waiting.pop().message.data)
    return bool(queue._waiting)


_real_publish = hubs._Channel.publish


def _drops_for_all(channel: hubs._Channel, news: Sequence[News]) -> None:
    """One of them is full: nobody gets it."""
    queues = [viewer.queue for viewer in channel.seats if isinstance(viewer, QueuedViewer)]
    if all(queue.is_half_free for queue in queues):
        _real_publish(channel, news)


def _waits_for_the_slow(channel: hubs._Channel, news: Sequence[News]) -> None:
    """Tells nobody before all have room."""

    async def later() -> None:
        for viewer in tuple(channel.seats):
            await viewer.has_room()
        _real_publish(channel, news)

    task = asyncio.get_running_loop().create_task(later())
    task.add_done_callback(lambda _: None)


_forgets_what_was_read = property(lambda self: BEGINNING, lambda self, value: None)


def _live_at_once(channel: hubs._Channel, viewer: hubs.Viewer) -> None:
    """Leaves out what was before."""
    seat = channel.seats.get(viewer)
    if seat is not None and not seat.is_live:
        viewer.begin(channel._latest, channel._beginning(seat))
        channel._go_live(viewer, seat)


BUGS: dict[str, tuple[type, str, Any, Check]] = {
    "the end is dropped when the queue is full": (
        ViewerQueue,
        "_drop_oldest",
        _drops_whatever_is_first,
        _queue_check,
    ),
    "the newest is dropped": (ViewerQueue, "_drop_oldest", _drops_the_newest, _queue_check),
    "metrics are dropped for all viewers": (
        hubs._Channel,
        "publish",
        _drops_for_all,
        test_a_slow_viewer_costs_the_others_nothing,
    ),
    "the publisher waits for a slow viewer": (
        hubs._Channel,
        "publish",
        _waits_for_the_slow,
        test_a_slow_viewer_costs_the_others_nothing,
    ),
    "what was read is told again": (
        hubs._Seat,
        "told",
        _forgets_what_was_read,
        _hub_check,
    ),
    "who wants the history is live at once": (hubs._Channel, "_seat", _live_at_once, _hub_check),
}


@pytest.mark.parametrize("name", BUGS)
async def test_a_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, bug, check = BUGS[name]
    monkeypatch.setattr(owner, attribute, bug)

    with pytest.raises(AssertionError):
        await check()

    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
