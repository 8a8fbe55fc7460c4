"""A source of news for tests of the hub, and viewers who write down what they hear."""

import asyncio
from collections.abc import Callable, Sequence

from lineshaft_coordinator.feeds.hub import Ear
from lineshaft_coordinator.feeds.told import BEGINNING, Ended, Latest, News, Place, Told, place_of
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.outcomes import Outcome


def event(seq: int, attempt: int = 1, **values: float) -> JobEvent:
    body = {"metrics": values or {"loss": float(seq)}, "step": seq}
    return JobEvent(job_id="j", attempt=attempt, seq=seq, at=0.0, kind="metrics", body=body)


def state(name: str = "running") -> StateChanged:
    return StateChanged.model_validate({"job_id": "j", "state": name, "attempt": 1})


def ended(status: str = "succeeded") -> Ended:
    return Ended(Outcome.model_validate({"job_id": "j", "status": status, "attempt": 1}), 7.0)


class Theatre:
    """A source that keeps the contract: kept first, told later, in order, to who watches."""

    def __init__(self, page_events: int = 3) -> None:
        self.kept: list[JobEvent] = []
        self.ears: list[Ear] = []
        self.watch_count = 0
        self._page_events = page_events
        self.state = state()
        self.ended: Ended | None = None
        self.is_known = True
        self.pause: Callable[[], float] = lambda: 0.0

    def watch(self, job_id: str, ear: Ear) -> Callable[[], None]:
        self.watch_count += 1
        asyncio.get_running_loop().call_soon(self._answer, ear)
        return lambda: self.ears.remove(ear) if ear in self.ears else None

    def _answer(self, ear: Ear) -> None:
        if not self.is_known:
            ear.on_unknown()
        elif self.ended is not None:
            ear.on_ended(self.ended)
        else:
            self.ears.append(ear)
            ear.on_state(self.state)

    async def tail(self, job_id: str) -> Sequence[JobEvent]:
        found = self.kept[-2:]
        await self._take_time()
        return found

    async def page(self, job_id: str, after: Place) -> Sequence[JobEvent]:
        found = [each for each in self.kept if place_of(each) > after][: self._page_events]
        await self._take_time()
        return found

    async def _take_time(self) -> None:
        for _ in range(int(self.pause())):
            await asyncio.sleep(0)

    def keep(self, *events: JobEvent) -> None:
        self.kept += events

    def tell(self, *events: JobEvent) -> None:
        for ear in tuple(self.ears):
            ear.on_events(events)

    def say(self, *events: JobEvent) -> None:
        self.keep(*events)
        self.tell(*events)

    def move(self, name: str) -> None:
        self.state = state(name)
        for ear in tuple(self.ears):
            ear.on_state(self.state)

    def end(self, status: str = "succeeded") -> None:
        self.ended = ended(status)
        for ear in tuple(self.ears):
            ear.on_ended(self.ended)


class Guest:
    """A viewer that writes down what it hears."""

    def __init__(self) -> None:
        self.begun: list[tuple[Place, Place]] = []
        """Of the snapshot, and of what follows."""
        self.states: list[str | None] = []
        self.news: list[News] = []
        self.is_unknown = False
        self.lost_reason: str | None = None

    def begin(self, latest: Latest, behind: Place) -> None:
        self.begun.append((latest.place, behind))
        self.states.append(latest.state.state if latest.state else None)

    def hear(self, told: Told) -> None:
        assert self.begun, "news before the snapshot"
        self.news.append(told.news)
        if isinstance(told.news, StateChanged):
            self.states.append(told.news.state)

    def unknown(self) -> None:
        self.is_unknown = True

    def lost(self, reason: str) -> None:
        self.lost_reason = reason

    async def has_room(self) -> None:
        await asyncio.sleep(0)

    @property
    def places(self) -> list[Place]:
        return [place_of(each) for each in self.news if isinstance(each, JobEvent)]

    @property
    def behind(self) -> Place:
        return self.begun[0][1] if self.begun else BEGINNING


async def turns(count: int = 20) -> None:
    """Let everything happen that needs no more than the loop."""
    for _ in range(count):
        await asyncio.sleep(0)
