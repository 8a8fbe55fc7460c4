"""What jobs say: kept once, told in order, resumed where a watcher was cut."""

from tests.unit.core.coordinator_bench import CoordinatorBench, told
from tests.unit.core.samples import ended, event, job, succeeded

from lineshaft_coordinator.core.io import AppendEvents, Replay, Send
from lineshaft_protocol.client_messages import (
    Accepted,
    Events,
    Finished,
    StateChanged,
    Submit,
    Unwatch,
    Watch,
)
from lineshaft_protocol.ids import Session
from lineshaft_protocol.worker_messages import EventsAck, Held, JobEvents

FIRST, SECOND = event("j1", 1, 1), event("j1", 1, 2)


def _running(coordinator: CoordinatorBench) -> tuple[Session, Session]:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j1")
    return client, worker


def test_events_are_kept_before_they_are_acknowledged(coordinator: CoordinatorBench) -> None:
    _, worker = _running(coordinator)

    effects = coordinator.receive(worker, JobEvents(events=(FIRST, SECOND)))

    assert effects == [
        AppendEvents((FIRST, SECOND), "c"),
        Send(worker, EventsAck(job_id="j1", attempt=1, seq=2)),
    ]


def test_events_told_again_are_kept_once(coordinator: CoordinatorBench) -> None:
    _, worker = _running(coordinator)
    coordinator.receive(worker, JobEvents(events=(FIRST,)))

    effects = coordinator.receive(worker, JobEvents(events=(FIRST, SECOND)))

    assert effects[0] == AppendEvents((SECOND,), "c")


def test_events_of_an_attempt_that_was_given_away_are_dropped(
    coordinator: CoordinatorBench,
) -> None:
    _, worker = _running(coordinator)
    late = event("j1", 7, 1)

    effects = coordinator.receive(worker, JobEvents(events=(late,)))

    assert effects == [Send(worker, EventsAck(job_id="j1", attempt=7, seq=1))]


def test_who_watches_hears_what_was_kept_then_what_comes(coordinator: CoordinatorBench) -> None:
    client, worker = _running(coordinator)

    watching = coordinator.receive(
        client, Watch(job_id="j1", events=True, after_attempt=1, after_seq=4)
    )
    effects = coordinator.receive(worker, JobEvents(events=(FIRST,)))

    state = StateChanged(job_id="j1", state="assigned", attempt=1, worker_id="w1")
    assert watching == [Replay(client, "j1", 1, 4), Send(client, state)]
    assert told(effects, client) == [Events(events=(FIRST,))]


def test_who_watches_a_job_that_ended_hears_its_events_first(coordinator: CoordinatorBench) -> None:
    client, worker = _running(coordinator)
    coordinator.receive(worker, ended("j1", 1))

    effects = coordinator.receive(client, Watch(job_id="j1", events=True))

    outcome = succeeded("j1", 1, on="w1")
    assert effects == [
        Replay(client, "j1", 0, 0),
        Send(client, Finished(outcome=outcome, events=True)),
    ]


def test_who_submits_again_for_the_events_hears_them_before_the_end(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = _running(coordinator)
    coordinator.receive(worker, ended("j1", 1))

    effects = coordinator.receive(client, Submit(job=job("j1"), is_repeat=True, events=True))

    outcome = succeeded("j1", 1, on="w1")
    assert effects == [
        Send(client, Accepted(job_id="j1")),
        Replay(client, "j1", 0, 0),
        Send(client, Finished(outcome=outcome, events=True)),
    ]


def test_who_no_longer_watches_hears_nothing(coordinator: CoordinatorBench) -> None:
    client, worker = _running(coordinator)
    coordinator.receive(client, Watch(job_id="j1", events=True))
    coordinator.receive(client, Unwatch(job_id="j1"))

    effects = coordinator.receive(worker, JobEvents(events=(FIRST,)))
    effects += coordinator.receive(worker, ended("j1", 1))

    assert told(effects, client) == []


def test_a_client_that_is_gone_is_watched_for_nothing(coordinator: CoordinatorBench) -> None:
    client, worker = _running(coordinator)
    coordinator.disconnect(client)

    effects = coordinator.receive(worker, ended("j1", 1))

    assert told(effects, client) == []
    assert coordinator.shop.watchers == {}


def test_events_repeated_after_our_restart_are_kept_again_harmlessly(
    coordinator: CoordinatorBench,
) -> None:
    _running(coordinator)
    coordinator.restart()
    worker = coordinator.worker(held=(Held(job_id="j1", attempt=1, is_running=True),))

    effects = coordinator.receive(worker, JobEvents(events=(FIRST,)))

    assert effects[0] == AppendEvents((FIRST,), "c")
