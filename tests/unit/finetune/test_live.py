"""A viewer of a training whose socket is full gets what is newest once there is room."""

import asyncio
import json
from collections.abc import Callable

import pytest

from lineshaft_coordinator.finetune import live
from lineshaft_coordinator.finetune.follower import UnknownTrainingError
from lineshaft_coordinator.finetune.following import Following, Story
from lineshaft_coordinator.finetune.live import LiveFeeds, Viewer
from lineshaft_coordinator.finetune.views import Request
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import Outcome
from lineshaft_runtime.connection import UpgradeRequest


class Line:
    """A connection that keeps the contract: closed is closed, and its end is heard."""

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []
        self.closed: tuple[int, str] | None = None
        self.is_writable = True
        self.buffered_bytes = 0
        self.peer = "127.0.0.1:1"
        self.request = UpgradeRequest(path="/ws/training/j", peer=self.peer)
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def is_open(self) -> bool:
        return self.closed is None

    def send_text(self, data: bytes | str) -> None:
        if self.closed is None:
            self.sent.append(json.loads(data))
            self._changed.set()

    def send_binary(self, data: object) -> None:
        raise AssertionError("the dialect has no binary messages")

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)
        self._changed.set()

    def abort(self) -> None:
        self.close(1006)


class OneJob:
    """Knows one training."""

    def __init__(self) -> None:
        spec = JobSpec(job_id="j", kind="pipeline", payload=Payload.of_bytes(b""))
        story = Story(spec=spec, submitted_at=1.0)
        self.job = Following(
            job_id="j", story=story, request=Request(), clock=lambda: 2.0, state="running"
        )

    async def of(self, job_id: str) -> Following:
        if job_id != "j":
            raise UnknownTrainingError(job_id)
        return self.job

    def says(self, step: int) -> None:
        body = {"metrics": {"loss": 1.0 / step}, "step": step}
        self.job.take(
            JobEvent(job_id="j", attempt=1, seq=step, at=step, kind="metrics", body={**body})
        )


@pytest.fixture
def one() -> OneJob:
    return OneJob()


@pytest.fixture
def feeds(one: OneJob, monkeypatch: pytest.MonkeyPatch) -> LiveFeeds:
    monkeypatch.setattr(live, "INTERVAL_S", 0.02)
    return LiveFeeds(one)


async def joined(feeds: LiveFeeds, job_id: str = "j") -> tuple[Viewer, Line]:
    viewer, line = feeds.viewer(job_id), Line()
    viewer.on_open(line)
    for _ in range(5):
        await asyncio.sleep(0)
    return viewer, line


async def until_told(line: Line, step: int) -> None:
    await line.until(lambda: bool(line.sent) and line.sent[-1].get("current_step") == step)


async def test_s001_06_who_does_not_read_gets_the_newest_and_others_all_the_time(
    one: OneJob, feeds: LiveFeeds
) -> None:
    slow, full = await joined(feeds)
    _, open_line = await joined(feeds)
    before = len(full.sent)
    full.is_writable = False

    for step in (1, 2, 3):
        one.says(step)
        await until_told(open_line, step)
    assert len(full.sent) == before
    full.is_writable = True
    slow.on_writable(full)

    assert [m["current_step"] for m in full.sent[before:]] == [3]
    assert full.closed is None


async def test_s001_10_news_do_not_wait_for_the_next_second(
    one: OneJob, feeds: LiveFeeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No tick comes to the rescue: the line waits for 10 s.
    monkeypatch.setattr(live, "INTERVAL_S", 20.0)
    _, line = await joined(feeds)

    one.says(1)

    await until_told(line, 1)


async def test_the_end_is_told_to_who_has_room_at_last(one: OneJob, feeds: LiveFeeds) -> None:
    slow, full = await joined(feeds)
    _, open_line = await joined(feeds)
    full.is_writable = False

    one.job.end(Outcome(job_id="j", status="succeeded", attempt=1))
    assert (open_line.closed, full.closed) == ((1000, "the training has ended"), None)
    full.is_writable = True
    slow.on_writable(full)

    assert full.sent[-1] == open_line.sent[-1]
    assert full.sent[-1]["complete"] is True
    assert full.closed == (1000, "the training has ended")


async def test_who_takes_nothing_for_long_is_let_go(
    one: OneJob, feeds: LiveFeeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, full = await joined(feeds)
    _, open_line = await joined(feeds)
    full.is_writable = False
    monkeypatch.setattr(live, "STUCK_S", 0.0)

    await full.until(lambda: full.closed is not None)

    assert full.closed is not None
    assert full.closed[0] == 1013
    assert open_line.closed is None
    assert one.job.listeners


async def test_a_job_that_nobody_looks_at_any_more_has_no_listener(
    one: OneJob, feeds: LiveFeeds
) -> None:
    viewers = [await joined(feeds) for _ in range(3)]
    assert len(one.job.listeners) == 1

    for viewer, line in viewers:
        viewer.on_close(line, 1001, "")

    assert one.job.listeners == {}


async def test_a_job_that_was_pruned_meanwhile_ends_the_connection(feeds: LiveFeeds) -> None:
    _, line = await joined(feeds, "other")

    assert line.sent == []
    assert line.closed is not None
    assert "not found" in line.closed[1]
