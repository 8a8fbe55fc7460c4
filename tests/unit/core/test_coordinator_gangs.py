"""Jobs on several workers: all parts at once or none, and one end for all."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, records, sends, told
from tests.unit.core.samples import capacity, ended, started, submitted

from lineshaft_coordinator.core.gang_parts import parts_of
from lineshaft_coordinator.core.io import CancelAsked, Effect
from lineshaft_coordinator.core.records import JobFinished, JobSubmitted, Record
from lineshaft_protocol.client_messages import Answer, Finished, Pause, Refused
from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.worker_messages import (
    Assign,
    Heartbeat,
    Held,
    MeetingPlace,
    Returned,
    Settled,
    Stop,
)

RANKS = [("g", 1), ("g.rank1", 1)]


def gang(job_id: str, *, nodes: int = 2, **wanted: object) -> list[Record]:
    """What is on record of a gang that was accepted."""
    lead = submitted(job_id, kind="pipeline", nodes=nodes, **wanted)
    parts = [JobSubmitted(job_id=p.job_id, client_id="c", job=p) for p in parts_of(lead.job)]
    return [lead, *parts]


def worker(
    coordinator: CoordinatorBench,
    name: str,
    *,
    port: int = 7000,
    held: tuple[Held, ...] = (),
    offers: Capacity | None = None,
) -> Session:
    session = coordinator.worker(name, held=held, offers=offers)
    place = MeetingPlace(address=name, port=port)
    beat = Heartbeat(worker_id=WorkerId(name), load={}, sent_at=1.0, meeting=place)
    coordinator.receive(session, beat)
    return session


def running(coordinator: CoordinatorBench, **wanted: object) -> tuple[Session, Session]:
    """A gang of two that runs on w1 and w2; each has run for a while."""
    coordinator.given(*gang("g", **wanted))
    w1, w2 = worker(coordinator, "w1"), worker(coordinator, "w2")
    assert coordinator.state("g") == coordinator.state("g.rank1") == "leased"
    return w1, w2


def outcomes(effects: list[Effect]) -> dict[str, Outcome]:
    return {r.job_id: r.outcome for r in records(effects) if isinstance(r, JobFinished)}


# --- all or none ---


def test_nothing_of_a_gang_starts_before_all_of_it_can(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    w1 = worker(coordinator, "w1")

    alone = coordinator.submit(client, "g", kind="pipeline", nodes=2, timeouts={"queue_s": 9.0})
    w2, together = coordinator.register("w2")

    assert assigned(alone) == []
    assert assigned(together) == RANKS
    # Rank 0 is where a port is kept; w2 has not told of one.
    assert [to for to, message in sends(together) if isinstance(message, Assign)] == [w1, w2]


def test_every_rank_is_told_where_rank_0_waits(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    w1, w2 = worker(coordinator, "w1", port=7001), worker(coordinator, "w2", port=7002)

    effects = coordinator.submit(client, "g", kind="pipeline", nodes=2)

    seats = {to: m.gang for to, m in sends(effects) if isinstance(m, Assign)}
    assert [(s.rank, s.nodes) for s in (seats[w1], seats[w2]) if s] == [(0, 2), (1, 2)]
    assert {(s.meeting.address, s.meeting.port) for s in seats.values() if s} == {("w1", 7001)}


def test_two_gangs_never_hold_half_of_what_each_needs(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    sessions = [worker(coordinator, f"w{n}", port=7000 + n) for n in range(3)]

    first = coordinator.submit(client, "g", kind="pipeline", nodes=2)
    second = coordinator.submit(client, "h", kind="pipeline", nodes=2)
    coordinator.receive(sessions[0], ended("g", 1))
    third = coordinator.receive(sessions[1], ended("g.rank1", 1))

    assert assigned(first) == RANKS
    assert assigned(second) == []
    assert assigned(third) == [("h", 1), ("h.rank1", 1)]


def test_a_port_is_not_given_to_two_gangs(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    w1, w2 = (worker(coordinator, n, offers=capacity(slots=2)) for n in ("w1", "w2"))
    coordinator.submit(client, "g", kind="pipeline", nodes=2)
    coordinator.submit(client, "h", kind="pipeline", nodes=2)

    places = [
        lease.port
        for session in (w1, w2)
        for lease in coordinator.shop.fleet.by_session[session].running.values()
        if lease.port is not None
    ]
    third = coordinator.submit(client, "i", kind="pipeline", nodes=2)

    assert places == [7000, 7000], "on two workers"
    assert assigned(third) == []


# --- one end ---


def test_a_gang_has_succeeded_when_every_rank_has(coordinator: CoordinatorBench) -> None:
    w1, w2 = running(coordinator)

    first = coordinator.receive(w1, ended("g", 1))
    last = coordinator.receive(w2, ended("g.rank1", 1))

    assert first == [], "its worker keeps the result until it is settled"
    assert {name: o.status for name, o in outcomes(last).items()} == {
        "g": "succeeded",
        "g.rank1": "succeeded",
    }
    assert outcomes(last)["g"].result == ended("g", 1).result.result
    assert told(last, w1) == [Settled(job_id="g", attempt=1)]
    assert told(last, w2)[0] == Settled(job_id="g.rank1", attempt=1)


def test_one_rank_that_fails_ends_all_and_is_named(coordinator: CoordinatorBench) -> None:
    w1, w2 = running(coordinator)

    broken = coordinator.receive(w2, ended("g.rank1", 1, "failed"))
    over = coordinator.receive(w1, ended("g", 1, "stopped"))

    assert told(broken, w1) == [
        Stop(job_id="g", attempt=1, reason="rank 1 on worker w2: exception: it raised")
    ]
    assert outcomes(broken) == {}, "rank 0 still runs"
    failure = outcomes(over)["g"].failure
    assert failure is not None
    assert (failure.cause, failure.message) == (
        "exception",
        "rank 1 on worker w2 failed: it raised",
    )
    assert outcomes(over)["g.rank1"].status == "cancelled"


def test_a_gang_that_may_try_again_starts_all_of_it_again(coordinator: CoordinatorBench) -> None:
    w1, w2 = running(coordinator, retries=1)

    coordinator.receive(w1, ended("g", 1))
    broken = coordinator.receive(w2, ended("g.rank1", 1, "failed"))
    again = coordinator.after(5.0)

    assert told(broken, w1) == [Settled(job_id="g", attempt=1)], "its success is of no use alone"
    assert assigned(again) == [("g", 2), ("g.rank1", 2)]


def test_a_lost_rank_ends_the_round_of_all(coordinator: CoordinatorBench) -> None:
    w1, w2 = running(coordinator)

    coordinator.disconnect(w2)
    coordinator.live(700, w1)
    over = coordinator.receive(w1, ended("g", 1, "stopped"))
    waits = coordinator.state("g")
    worker(coordinator, "w2")

    assert (outcomes(over), waits) == ({}, "queued")
    assert coordinator.state("g") == coordinator.state("g.rank1") == "leased"


def test_a_cancel_ends_all_ranks_before_it_is_told(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    w1, w2 = worker(coordinator, "w1"), worker(coordinator, "w2")
    coordinator.submit(client, "g", kind="pipeline", nodes=2)

    asked = coordinator.handle(CancelAsked(JobId("g"), "enough"))
    first = coordinator.receive(w1, ended("g", 1, "stopped"))
    last = coordinator.receive(w2, ended("g.rank1", 1))

    assert [m for _, m in sends(asked) if isinstance(m, Stop)] == [
        Stop(job_id="g", attempt=1, reason="enough"),
        Stop(job_id="g.rank1", attempt=1, reason="enough"),
    ]
    assert not [m for m in told(first, client) if isinstance(m, Finished)]
    (told_at_last,) = [m for m in told(last, client) if isinstance(m, Finished)]
    assert (told_at_last.outcome.status, told_at_last.outcome.reason) == ("cancelled", "enough")


def test_a_part_that_is_given_back_takes_the_round_along(coordinator: CoordinatorBench) -> None:
    w1, w2 = running(coordinator)

    effects = coordinator.receive(w2, Returned(job_id="g.rank1", attempt=1, reason="draining"))
    again = coordinator.receive(w1, ended("g", 1, "stopped"))

    assert told(effects, w1) == [
        Stop(job_id="g", attempt=1, reason="rank 1 on worker w2: draining")
    ]
    assert assigned(again) == [("g", 2), ("g.rank1", 2)], "and no retry is counted"


# --- restarts ---


def test_a_gang_whose_half_was_over_at_a_restart_is_ended(coordinator: CoordinatorBench) -> None:
    coordinator.given(
        *gang("g", retries=3), started("g", 1, on="w1"), started("g.rank1", 1, on="w2")
    )
    coordinator.receive(
        coordinator.worker("w2", held=(Held(job_id="g.rank1", attempt=1, is_running=True),)),
        ended("g.rank1", 1, "failed"),
    )
    coordinator.restart()

    held = (Held(job_id="g", attempt=1, is_running=True),)
    session, effects = coordinator.register("w1", held=held)

    assert [m.job_id for m in told(effects, session) if isinstance(m, Stop)] == ["g"]


def test_a_gang_that_runs_goes_on_after_a_restart(coordinator: CoordinatorBench) -> None:
    coordinator.given(*gang("g"), started("g", 1, on="w1"), started("g.rank1", 1, on="w2"))
    w1 = worker(coordinator, "w1", held=(Held(job_id="g", attempt=1, is_running=True),))
    w2 = worker(coordinator, "w2", held=(Held(job_id="g.rank1", attempt=1, is_running=True),))

    coordinator.receive(w1, ended("g", 1))
    last = coordinator.receive(w2, ended("g.rank1", 1))

    assert outcomes(last)["g"].status == "succeeded"


# --- room ---


def test_workers_are_set_aside_for_one_gang_and_not_for_ever(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    two = capacity(slots=2)
    w1, w2 = worker(coordinator, "w1", offers=two), worker(coordinator, "w2", offers=two)
    for name in ("a", "b", "c", "d"):
        coordinator.submit(client, name, kind="pipeline")
    coordinator.submit(client, "g", kind="pipeline", nodes=2)
    coordinator.submit(client, "h", kind="pipeline", nodes=2, tags=())
    coordinator.live(40, w1, w2)

    held = [w.reserved_for is not None for w in coordinator.shop.fleet.workers.values()]
    coordinator.live(330, w1, w2)
    later = [w.reserved_for for w in coordinator.shop.fleet.workers.values()]

    assert held == [True, True]
    assert later == [None, None]


# --- what cannot be ---


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"kind": "function", "code": "a" * 64}, "only pipeline jobs"),
        ({"kind": "pipeline", "preemptible": True}, "cannot be preemptible"),
        ({"kind": "pipeline", "worker_id": "w1"}, "tied to one worker"),
        ({"kind": "pipeline", "part": {"job_id": "x", "rank": 1}}, "only the coordinator"),
        ({"kind": "pipeline", "nodes": 3}, "needs 3 workers at once, and 2 could"),
    ],
)
def test_a_gang_that_cannot_be_is_refused(
    coordinator: CoordinatorBench, wanted: dict[str, object], why: str
) -> None:
    client = coordinator.client()
    worker(coordinator, "w1")
    worker(coordinator, "w2")
    coordinator.after(10.0)

    effects = coordinator.submit(client, "g", **({"nodes": 2} | wanted))

    (refused,) = [m for m in told(effects, client) if isinstance(m, Refused)]
    assert why in refused.message
    assert coordinator.state("g") == "gone"


def test_a_gang_cannot_be_paused(coordinator: CoordinatorBench) -> None:
    running(coordinator)
    client = coordinator.client()

    effects = coordinator.receive(client, Pause(job_id="g.rank1", request_id=1, reason="later"))

    (answer,) = [m for m in told(effects, client) if isinstance(m, Answer)]
    assert "runs on several workers" in str(answer.error)


def test_parts_of_an_id_that_is_too_long_are_refused(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()

    effects = coordinator.submit(client, "g" * 125, kind="pipeline", nodes=2)

    (refused,) = told(effects, client)
    assert isinstance(refused, Refused)
    assert "choose another id" in refused.message
