"""Jobs whose environment their worker has yet to make: prepared first, placed then."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, records, sends, told
from tests.unit.core.samples import (
    cancelled,
    capacity,
    ended,
    finished,
    result,
    started,
    submitted,
)

from lineshaft_coordinator.core.io import (
    Append,
    Connected,
    Disconnected,
    Effect,
    Event,
    Received,
    Send,
)
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptPlaced,
    AttemptStarted,
    JobFinished,
)
from lineshaft_coordinator.core.views import why
from lineshaft_protocol.client_messages import Cancel, Pause
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.jobs import Environment, Payload, Timeouts
from lineshaft_protocol.outcomes import Failure
from lineshaft_protocol.resources import Resources
from lineshaft_protocol.versions import FEATURES, Versions
from lineshaft_protocol.worker_messages import (
    Assign,
    Began,
    Ended,
    Held,
    Place,
    Prepared,
    Preparing,
    Returned,
    Settled,
    Stop,
)

NEW, OTHER = (Environment(requirements=Payload.of_bytes(text)) for text in (b"torch", b"numpy"))
OLD = Versions(features=tuple(each for each in FEATURES if each != "unplaced"))
UNPLACED = started("a", 1, on="w1").model_copy(update={"is_unplaced": True})
GPU = Resources(gpus=1)


def _given(effects: list[Effect]) -> list[tuple[str, bool]]:
    """Which jobs were given away, and whether they have a place."""
    messages = [message for _, message in sends(effects)]
    return [(m.job.job_id, not m.is_unplaced) for m in messages if isinstance(m, Assign)]


def _prepared(coordinator: CoordinatorBench, worker: Session, job_id: str = "a") -> list[Effect]:
    attempt = coordinator.shop.ledger.jobs[JobId(job_id)].attempt_count
    return coordinator.receive(worker, Prepared(job_id=job_id, attempt=attempt))


def _reasons(coordinator: CoordinatorBench, job_id: str) -> str:
    told_why = why(coordinator.shop, JobId(job_id))
    assert told_why is not None
    return str(told_why)


# --- while it is prepared ---


def test_a_job_is_prepared_without_a_place_and_others_have_the_slot(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW), submitted("b"))

    worker, effects = coordinator.register("w1")

    assert _given(effects) == [("a", False), ("b", True)]
    assert [record for record in records(effects) if isinstance(record, AttemptStarted)] == [
        UNPLACED,
        started("b", 1, on="w1"),
    ]
    assert coordinator.shop.fleet.by_session[worker].used_slots == 1


def test_a_prepared_job_gets_its_place_and_its_gpu_on_record_first(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW, resources=GPU))
    worker = coordinator.worker(offers=capacity(gpus=1))

    effects = _prepared(coordinator, worker)

    assert effects == [
        Append(AttemptPlaced(job_id="a", attempt=1, devices=("g0",))),
        Send(worker, Place(job_id="a", attempt=1, devices=("g0",))),
    ]


def test_a_prepared_job_for_which_there_is_no_room_goes_to_the_front_of_its_line(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW), submitted("b"))
    worker = coordinator.worker()
    coordinator.submit(coordinator.client(), "later")

    effects = _prepared(coordinator, worker)

    reason = "it is prepared, and others have the room"
    assert effects == [
        Append(AttemptLeft(job_id="a", attempt=1, cause="returned", reason=reason)),
        Send(worker, Settled(job_id="a", attempt=1)),
    ]
    assert _given(coordinator.receive(worker, ended("b", 1))) == [("a", True)]


def test_a_prepared_job_that_goes_back_has_what_was_left_of_its_queue_timeout(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    coordinator.submit(client, "a", environment=NEW, timeouts=Timeouts(queue_s=5.0))
    coordinator.after(3.0)
    worker = coordinator.worker()
    coordinator.submit(client, "b")
    coordinator.live(60.0, worker)
    _prepared(coordinator, worker)

    early, late = coordinator.after(1.9), coordinator.after(0.2)

    assert coordinator.state("a") == "gone"
    assert [record for record in records(early) if isinstance(record, JobFinished)] == []
    (end,) = (record for record in records(late) if isinstance(record, JobFinished))
    assert end.outcome.failure is not None
    assert (end.job_id, end.outcome.failure.cause) == ("a", "queue_timeout")


def test_a_client_whose_job_was_only_prepared_was_not_served(
    coordinator: CoordinatorBench,
) -> None:
    worker = coordinator.worker()
    first, second = coordinator.client("first"), coordinator.client("second")
    coordinator.submit(first, "a", environment=NEW)
    coordinator.submit(second, "b")
    for number in range(2):
        coordinator.submit(first, f"a{number}")
        coordinator.submit(second, f"b{number}")
    _prepared(coordinator, worker)  # There is no room for it.

    given = [("b", 1)]
    while len(given) < 6:
        given += assigned(coordinator.receive(worker, ended(*given[-1])))

    assert [job_id for job_id, _ in given] == ["b", "a", "a0", "b0", "a1", "b1"]


def test_a_job_whose_environment_is_known_to_be_there_is_placed_at_once(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker(offers=capacity(slots=2))
    _prepared(coordinator, worker)

    effects = coordinator.submit(coordinator.client(), "again", environment=NEW)

    assert _given(effects) == [("again", True)]


def test_one_job_prepares_for_all_that_want_the_same(coordinator: CoordinatorBench) -> None:
    coordinator.given(*(submitted(f"a{n}", environment=NEW) for n in range(5)))

    worker, effects = coordinator.register("w1", offers=capacity(slots=3))
    then = coordinator.receive(worker, Prepared(job_id="a0", attempt=1))

    assert _given(effects) == [("a0", False)]
    assert _given(then) == [("a1", True), ("a2", True)]


def test_a_worker_prepares_a_few_environments_at_a_time(coordinator: CoordinatorBench) -> None:
    wanted = [Environment(requirements=Payload.of_bytes(b"p%d" % n)) for n in range(6)]
    coordinator.given(*(submitted(f"a{n}", environment=wanted[n]) for n in range(6)))

    worker, effects = coordinator.register("w1")
    failed = result("a0", 1, "failed").model_copy(
        update={"failure": Failure(cause="environment", message="no such package")}
    )
    then = coordinator.receive(worker, Ended(result=failed))

    assert _given(effects) == [(f"a{n}", False) for n in range(4)]
    assert coordinator.state("a0") == "gone"
    assert _given(then) == [("a4", False)]
    assert "makes 4 other environments" in _reasons(coordinator, "a5")


def test_a_worker_that_has_the_environment_is_preferred_to_an_idle_one(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW))
    first = coordinator.worker(offers=capacity(slots=2))
    _prepared(coordinator, first)
    coordinator.worker("w2", offers=capacity(slots=2))
    client = coordinator.client()

    one = coordinator.submit(client, "one", environment=NEW)
    two = coordinator.submit(client, "two", environment=NEW)

    assert [(to, m.is_unplaced) for to, m in sends(one) if isinstance(m, Assign)] == [(first, None)]
    assert _given(two) == [("two", False)]


def test_a_worker_too_old_for_it_gets_the_job_with_its_place(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("a", environment=NEW), submitted("b"))

    _, effects = coordinator.register("w1", versions=OLD)

    assert _given(effects) == [("a", True)]


def test_why_tells_that_it_is_prepared_and_what_it_waits_for_then(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW), submitted("twin", environment=NEW))
    worker = coordinator.worker()
    coordinator.receive(worker, Preparing(job_id="a", attempt=1, doing="downloading: torch"))

    told_of_a, told_of_twin = (_reasons(coordinator, job_id) for job_id in ("a", "twin"))
    coordinator.submit(coordinator.client(), "b")
    _prepared(coordinator, worker)

    assert "'status': 'preparing'" in told_of_a
    assert "worker w1 prepares its environment (downloading: torch), and no slot" in told_of_a
    assert "w1: it makes the same environment for job a" in told_of_twin
    assert "w1: all its 1 slots are taken" in _reasons(coordinator, "a")


# --- what can come between ---


def test_a_cancelled_job_is_not_placed(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker()
    effects = coordinator.receive(coordinator.client(), Cancel(job_id="a", reason="enough"))
    assert told(effects, worker) == [Stop(job_id="a", attempt=1, reason="enough")]

    then = _prepared(coordinator, worker)
    at_last = coordinator.receive(worker, ended("a", 1, "stopped"))

    assert then == []
    assert finished(cancelled("a", 1, on="w1")) in records(at_last)


def test_a_job_that_is_asked_to_pause_is_not_placed(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker()
    coordinator.receive(coordinator.client(), Pause(job_id="a", request_id=1, reason="lunch"))

    then = _prepared(coordinator, worker)
    coordinator.receive(worker, Returned(job_id="a", attempt=1, reason="it is asked to pause"))

    assert then == []
    assert coordinator.state("a") == "paused"


def test_a_restart_gives_no_room_to_what_was_only_prepared(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("a", environment=NEW), UNPLACED, submitted("b"))

    held = (Held(job_id="a", attempt=1, is_unplaced=True),)
    worker, effects = coordinator.register("w1", held=held)
    then = coordinator.receive(worker, ended("b", 1))

    assert _given(effects) == [("b", True)]
    assert _given(then) == []
    assert told(_prepared(coordinator, worker), worker) == [Place(job_id="a", attempt=1)]


def test_a_place_that_did_not_arrive_is_sent_again(coordinator: CoordinatorBench) -> None:
    placed = AttemptPlaced(job_id="a", attempt=1, devices=("g0",))
    coordinator.given(submitted("a", environment=NEW, resources=GPU), UNPLACED, placed)

    held = (Held(job_id="a", attempt=1, is_unplaced=True),)
    worker, effects = coordinator.register("w1", held=held, offers=capacity(gpus=1))

    assert Place(job_id="a", attempt=1, devices=("g0",)) in told(effects, worker)
    assert _prepared(coordinator, worker) == []


def test_what_a_journal_without_its_end_knows_less_of_is_ended(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW), UNPLACED)

    held = (Held(job_id="a", attempt=1, is_running=True),)
    worker, effects = coordinator.register("w1", held=held)

    assert Settled(job_id="a", attempt=1) in told(effects, worker)
    assert assigned(effects) == [("a", 2)]


@pytest.mark.parametrize("incarnation", ["i1", "i2"])
def test_a_worker_that_forgot_what_it_prepared_is_not_counted_as_lost(
    coordinator: CoordinatorBench, incarnation: str
) -> None:
    coordinator.given(submitted("a", environment=NEW))
    coordinator.disconnect(coordinator.worker())

    _, effects = coordinator.register("w1", incarnation=incarnation)

    assert [r.cause for r in records(effects) if isinstance(r, AttemptLeft)] == ["not_delivered"]
    assert _given(effects) == [("a", False)]


def test_a_lost_worker_gives_back_what_it_prepared(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("a", environment=NEW))
    coordinator.disconnect(coordinator.worker())

    coordinator.after(1.0)
    _, effects = coordinator.register("w2")

    assert _given(effects) == [("a", False)]


def test_what_has_no_place_and_says_that_it_began_is_not_believed(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker()

    assert coordinator.receive(worker, Began(job_id="a", attempt=1)) == []


@pytest.mark.parametrize("next_to_it", ["cut", "ended", "returned", "new session"])
def test_what_comes_in_the_same_moment_as_it_is_prepared_counts(
    coordinator: CoordinatorBench, next_to_it: str
) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker()
    events: dict[str, list[Event]] = {
        "cut": [Disconnected(worker)],
        "ended": [Received(worker, ended("a", 1, "failed"))],
        "returned": [Received(worker, Returned(job_id="a", attempt=1))],
        "new session": [Disconnected(worker), Connected(Session(99), "worker")],
    }

    effects = coordinator.handle(
        Received(worker, Prepared(job_id="a", attempt=1)), *events[next_to_it]
    )

    assert [m for _, m in sends(effects) if isinstance(m, Place)] == []


def test_a_more_urgent_job_gets_the_slot_that_is_free_in_the_same_moment(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW), submitted("b"), submitted("c", priority=5))
    worker = coordinator.worker()
    coordinator.submit(coordinator.client(), "urgent", priority=9)

    effects = coordinator.handle(
        Received(worker, ended("c", 1)), Received(worker, Prepared(job_id="a", attempt=1))
    )

    assert _given(effects) == [("urgent", True)]
    assert coordinator.state("a") == "queued"


# --- room that has to be made ---


def test_nobody_makes_room_before_the_environment_is_there(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("low", preemptible=True))
    worker = coordinator.worker()
    coordinator.receive(worker, Began(job_id="low", attempt=1))
    coordinator.submit(coordinator.client(), "high", priority=5, environment=NEW)

    coordinator.live(11, worker)
    is_asked = coordinator.shop.ledger.jobs[JobId("low")].pause is not None
    status = _reasons(coordinator, "high")
    _prepared(coordinator, worker, "high")
    coordinator.live(11, worker)

    assert not is_asked
    assert "'status': 'preparing'" in status
    assert coordinator.shop.ledger.jobs[JobId("low")].pause is not None


def test_no_worker_is_set_aside_before_the_environment_is_there(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("small", resources=Resources(cpus=1.0)))
    worker = coordinator.worker(offers=capacity(slots=2))
    wide = Resources(cpus=8.0)
    coordinator.submit(coordinator.client(), "wide", resources=wide, environment=NEW)

    coordinator.live(40, worker)
    was_set_aside = coordinator.shop.fleet.by_session[worker].reserved_for is not None
    _prepared(coordinator, worker, "wide")
    coordinator.live(40, worker)

    assert not was_set_aside
    shape = coordinator.shop.fleet.by_session[worker].reserved_for
    assert shape is not None
    assert shape.resources == wide


def test_a_worker_that_makes_an_environment_again_has_not_got_it(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker(offers=capacity(slots=3))
    _prepared(coordinator, worker)
    client = coordinator.client()
    coordinator.submit(client, "again", environment=NEW)
    coordinator.receive(worker, Preparing(job_id="again", attempt=1, doing="resolving"))

    effects = coordinator.submit(client, "third", environment=NEW)

    assert _given(effects) == [("third", False)]


def test_another_environment_is_another_wish(coordinator: CoordinatorBench) -> None:
    coordinator.given(submitted("a", environment=NEW))
    worker = coordinator.worker(offers=capacity(slots=2))
    _prepared(coordinator, worker)

    effects = coordinator.submit(coordinator.client(), "b", environment=OTHER)

    assert _given(effects) == [("b", False)]
