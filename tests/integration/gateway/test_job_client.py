"""The gateway's own client session: what it says to the core, and what it makes of the answers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integration.gateway.seed_bench import until

from lineshaft_coordinator.core.io import Connected, Disconnected, Event, Received
from lineshaft_coordinator.data.stream_relay import StreamRelay
from lineshaft_coordinator.gateway.job_client import JobClient
from lineshaft_coordinator.server.sessions import Outlet, Sessions
from lineshaft_protocol.client_messages import (
    Cancel,
    ClientHello,
    Events,
    Finished,
    Ping,
    Query,
    Refused,
    StateChanged,
    Submit,
    Watch,
    Welcome,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import Session
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire

JOB = JobSpec(job_id="j1", kind="plan", payload=Payload.of_bytes(b"{}"))


@dataclass
class Desk:
    """Keeps what is posted, and asks nothing."""

    posted: list[Event] = field(default_factory=list)

    def post(self, event: Event, *, is_urgent: bool = False) -> None:
        self.posted.append(event)

    def waiting(self) -> int:
        return 0

    def ask(self, session: Session, query: Query, asker: str | None) -> None:
        raise AssertionError("a local session asks nothing")

    def missing_blob(self, submit: Submit) -> str | None:
        raise AssertionError("a local session stores its blobs itself")

    def said(self) -> list[Wire]:
        return [each.message for each in self.posted if isinstance(each, Received)]


@dataclass
class Bench:
    desk: Desk
    sessions: Sessions
    client: JobClient

    def tell(self, *messages: Wire) -> None:
        self.sessions.send(Session(1), list(messages))


def no_transfers(outlet: Outlet) -> object:
    raise AssertionError("a local session moves no blobs")


@pytest.fixture
async def bench() -> Bench:
    desk = Desk()
    sessions = Sessions(desk, no_transfers, StreamRelay(desk))  # type: ignore[arg-type]
    return Bench(desk, sessions, JobClient(sessions, "seed-me@here"))


def ended(status: str = "succeeded") -> Finished:
    return Finished(
        outcome=Outcome.model_validate({"job_id": "j1", "status": status, "attempt": 1})
    )


async def test_a_session_opens_like_that_of_any_client(bench: Bench) -> None:
    assert bench.desk.posted[0] == Connected(Session(1), "client")
    (hello,) = bench.desk.said()
    assert isinstance(hello, ClientHello)
    assert hello.client_id == "seed-me@here"


async def test_a_job_is_submitted_and_its_end_returned(bench: Bench) -> None:
    running = asyncio.create_task(bench.client.run(JOB))
    await until(lambda: len(bench.desk.said()) == 2)

    bench.tell(ended())

    assert await running == ended().outcome
    assert bench.desk.said()[1:] == [Submit(job=JOB, is_fresh=True)]


async def test_what_a_job_tells_is_passed_on_to_who_wants_to_hear_it(bench: Bench) -> None:
    heard: list[object] = []
    running = asyncio.create_task(bench.client.run(JOB, on_told=heard.append))
    await until(lambda: len(bench.desk.said()) == 3)
    moved = StateChanged(job_id="j1", state="running", attempt=1)
    events = [
        JobEvent(job_id=job_id, attempt=1, seq=1, at=0.0, kind="log", body={})
        for job_id in ("j1", "j2")
    ]

    bench.tell(moved, Events(events=tuple(events)), ended())
    await running

    assert bench.desk.said()[2] == Watch(job_id="j1", events=True)
    assert heard == [moved, events[0]]


async def test_a_refused_job_is_returned_as_such(bench: Bench) -> None:
    running = asyncio.create_task(bench.client.run(JOB))
    await until(lambda: len(bench.desk.said()) == 2)
    refused = Refused(job_id="j1", code="unplaceable", message="no worker has that")

    bench.tell(refused, Refused(job_id="j1", code="unknown_job", message="a watch of it"))

    assert await running == refused


@pytest.mark.parametrize("is_kept", [True, False])
async def test_who_stops_waiting_cancels_the_job_unless_it_is_kept(
    bench: Bench, is_kept: bool
) -> None:
    running = asyncio.create_task(bench.client.run(JOB, is_kept=is_kept))
    await until(lambda: len(bench.desk.said()) == 2)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    cancels = [each for each in bench.desk.said() if isinstance(each, Cancel)]
    assert [each.job_id for each in cancels] == ([] if is_kept else ["j1"])


async def test_the_core_hears_from_a_quiet_session_before_it_takes_it_for_dead(
    bench: Bench,
) -> None:
    bench.tell(Welcome(protocol=1, epoch=1, silence_s=0.03))

    await until(lambda: bench.desk.said().count(Ping()) >= 3)

    bench.client.close()
    assert bench.desk.posted[-1] == Disconnected(Session(1))


async def test_nothing_is_said_after_the_end(bench: Bench) -> None:
    bench.tell(Welcome(protocol=1, epoch=1, silence_s=0.03))
    bench.client.close()
    count = len(bench.desk.posted)
    others = JobClient(bench.sessions, "seed-other@here")  # Its pings tell the time.
    bench.sessions.send(Session(2), [Welcome(protocol=1, epoch=1, silence_s=0.03)])

    await until(lambda: bench.desk.said().count(Ping()) >= 3)
    bench.client.cancel("j1", "too late")

    late = [e for e in bench.desk.posted[count:] if getattr(e, "session", None) == Session(1)]
    assert late == []
    others.close()


async def test_a_session_that_ended_wakes_nobody_any_more(bench: Bench) -> None:
    loop, armed = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    call_later = loop.call_later

    def noted(delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        armed.append(call_later(delay, callback, *args))
        return armed[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "call_later", noted)
        bench.tell(Welcome(protocol=1, epoch=1, silence_s=60.0))
    bench.client.close()

    assert [each.cancelled() for each in armed] == [True]


async def test_who_waits_is_told_when_the_core_ends_the_session(bench: Bench) -> None:
    running = asyncio.create_task(bench.client.run(JOB))
    await until(lambda: len(bench.desk.said()) == 2)

    bench.sessions.close(Session(1), 1008, "silent for 60 s")

    ending = await running
    assert isinstance(ending, Refused)
    assert ending.message == "silent for 60 s"


async def test_who_comes_after_the_core_ended_the_session_is_told_at_once(bench: Bench) -> None:
    bench.sessions.close(Session(1), 1008, "silent for 60 s")

    async with asyncio.timeout(10):
        ending = await bench.client.run(JOB)

    assert ending == Refused(job_id="j1", code="draining", message="silent for 60 s")


async def test_a_listener_that_fails_ends_its_session_and_nobody_elses(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(told: StateChanged | JobEvent) -> None:
        raise OverflowError(str(told.job_id))

    running = asyncio.create_task(bench.client.run(JOB, on_told=fail))
    await asyncio.sleep(0)

    bench.tell(StateChanged(job_id="j1", state="running"))  # As the pump does: it must not raise.

    ending = await running
    assert isinstance(ending, Refused)
    assert ending.message == "an error inside the coordinator"
    assert Disconnected(Session(1)) in bench.desk.posted
    assert "a client inside the coordinator failed" in caplog.text
