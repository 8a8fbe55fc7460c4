"""A job's events for one reader: each once, in order, however slow the reader is."""

import pytest

from lineshaft.errors import JobNotFoundError
from lineshaft.job_events import (
    BUFFERED_MAX,
    EventFeed,
    Finished,
    Kept,
    Log,
    Metrics,
    Notice,
    Progress,
    State,
    Told,
    typed,
)
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import EventKind, JobEvent
from lineshaft_protocol.outcomes import Outcome

OUTCOME = Outcome(job_id="j1", status="succeeded", attempt=1)
AT = 1.5


class History:
    """What the coordinator keeps, two events a page."""

    def __init__(self, *events: JobEvent) -> None:
        self.events = list(events)
        self.asked: list[tuple[int, int]] = []

    async def page(self, after: tuple[int, int]) -> list[JobEvent]:
        self.asked.append(after)
        return [each for each in self.events if (each.attempt, each.seq) > after][:2]


def log(seq: int, *, attempt: int = 1) -> JobEvent:
    body = {"stream": "stdout", "text": f"{attempt}.{seq}"}
    return JobEvent(job_id="j1", attempt=attempt, seq=seq, at=AT, kind="log", body=dict(body))


async def texts(feed: EventFeed) -> list[str]:
    return [event.text for event in [each async for each in feed.read()] if isinstance(event, Log)]


async def test_events_come_in_order_and_the_outcome_comes_last() -> None:
    feed = EventFeed(History().page, is_behind=False)
    feed.moved(StateChanged(job_id="j1", state="running", attempt=1, worker_id="w1"))
    feed.spoke((log(1), log(2)))
    feed.spoke((log(3),))
    feed.end(OUTCOME)

    events = [each async for each in feed.read()]

    assert events == [
        State("running", 1, "w1", None),
        *(Log(Told(1, seq, AT), "stdout", f"1.{seq}") for seq in (1, 2, 3)),
        Finished(OUTCOME),
    ]


async def test_a_repeated_event_is_seen_once() -> None:
    feed = EventFeed(History().page, is_behind=False)
    feed.spoke((log(1), log(2)))
    feed.spoke((log(2), log(3), log(1, attempt=2)))
    feed.end(OUTCOME)

    assert await texts(feed) == ["1.1", "1.2", "1.3", "2.1"]


async def test_who_comes_late_reads_the_beginning_first() -> None:
    history = History(log(1), log(2), log(3))
    feed = EventFeed(history.page, is_behind=True)
    feed.spoke((log(3),))  # Told while nobody could tell whether it is in a page.
    feed.end(OUTCOME)

    assert await texts(feed) == ["1.1", "1.2", "1.3"]


async def test_an_event_told_during_the_last_question_is_not_lost() -> None:
    history = History(log(1))
    feed = EventFeed(history.page, is_behind=True)
    plain_page = history.page

    async def page(after: tuple[int, int]) -> list[JobEvent]:
        found = await plain_page(after)
        if not found and len(history.events) == 1:
            history.events.append(log(2))
            feed.spoke((log(2),))
            feed.end(OUTCOME)
        return found

    feed._pages = page

    assert await texts(feed) == ["1.1", "1.2"]


async def test_a_slow_reader_costs_no_memory_and_misses_nothing() -> None:
    events = tuple(log(seq) for seq in range(1, BUFFERED_MAX + 5))
    history = History(*events)
    feed = EventFeed(history.page, is_behind=False)

    for event in events:
        feed.spoke((event,))
    assert len(feed._buffer) == BUFFERED_MAX
    feed.end(OUTCOME)

    assert await texts(feed) == [f"1.{seq}" for seq in range(1, BUFFERED_MAX + 5)]
    assert history.asked[0] == (1, BUFFERED_MAX)


async def test_long_texts_fill_the_buffer_as_well() -> None:
    events = tuple(
        log(seq).model_copy(update={"body": {"stream": "stdout", "text": f"{seq}" + "x" * 300_000}})
        for seq in range(1, 20)
    )
    feed = EventFeed(History(*events).page, is_behind=False)

    for event in events:
        feed.spoke((event,))
    assert len(feed._buffer) == 3
    feed.end(OUTCOME)

    assert [text.rstrip("x") for text in await texts(feed)] == [str(seq) for seq in range(1, 20)]


async def test_what_the_coordinator_left_out_is_asked_for() -> None:
    history = History(log(1), log(2), log(3))
    feed = EventFeed(history.page, is_behind=False)
    feed.spoke((log(1),))
    feed.spoke((), is_behind=True)
    feed.end(OUTCOME)

    assert await texts(feed) == ["1.1", "1.2", "1.3"]


async def test_what_is_left_out_during_the_last_question_is_asked_for_as_well() -> None:
    history = History(log(1))
    feed = EventFeed(history.page, is_behind=True)
    plain_page = history.page

    async def page(after: tuple[int, int]) -> list[JobEvent]:
        found = await plain_page(after)
        if not found and len(history.events) == 1:
            history.events.append(log(2))
            feed.spoke((), is_behind=True)
            feed.end(OUTCOME)
        return found

    feed._pages = page

    assert await texts(feed) == ["1.1", "1.2"]


async def test_who_begins_in_the_middle_reads_nothing_before_it() -> None:
    history = History(log(1), log(2), log(3))
    feed = EventFeed(history.page, is_behind=True, after=(1, 2))
    feed.spoke((log(1), log(2)))  # What the coordinator tells of the beginning.
    feed.end(OUTCOME)

    assert await texts(feed) == ["1.3"]


async def test_events_of_a_job_nobody_knows_raise() -> None:
    feed = EventFeed(History().page, is_behind=False)
    feed.end(JobNotFoundError("j1", "no such job"))

    with pytest.raises(JobNotFoundError):
        await texts(feed)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("progress", {"step": 1, "total": 10, "phase": "train"}, (Progress, 1, 10, "train")),
        ("progress", {"step": 1.5}, (Progress, 1.5, None, "")),
        (
            "metrics",
            {"metrics": {"loss": 0.5, "why": None}, "step": 3},
            (Metrics, {"loss": 0.5}, 3),
        ),
        ("log", {"stream": "stderr", "text": "x"}, (Log, "stderr", "x")),
        ("checkpoint", {"path": "m.pt"}, (Kept, "checkpoint", {"path": "m.pt"})),
        ("notice", {"code": "x"}, (Notice, "notice", {"code": "x"})),
        ("progress", {"step": "odd"}, (Notice, "progress", {"step": "odd"})),
    ],
)
def test_each_kind_of_event_has_a_type(
    kind: EventKind, body: dict[str, object], expected: tuple[object, ...]
) -> None:
    event = JobEvent.model_validate(
        {"job_id": "j1", "attempt": 1, "seq": 2, "at": AT, "kind": kind, "body": body}
    )

    made, *fields = expected
    assert callable(made)
    assert typed(event) == made(Told(1, 2, AT), *fields)
