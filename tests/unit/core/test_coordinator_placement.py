"""Who runs what, when, and what is said when nobody can."""

from collections import Counter

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, sends, told
from tests.unit.core.samples import CODE, capacity, ended, started, submitted

from lineshaft_coordinator.core.io import Send
from lineshaft_protocol.client_messages import Accepted, Refused
from lineshaft_protocol.ids import Session
from lineshaft_protocol.jobs import Timeouts
from lineshaft_protocol.resources import GIB, Resources
from lineshaft_protocol.worker_messages import Assign, Heartbeat, Recall, Returned

GPU = Resources(gpus=1)
HALF_GPU = Resources(gpus=1, gpu_memory_bytes=12 * GIB)


def _order(coordinator: CoordinatorBench, worker: Session, count: int) -> list[str]:
    """Which jobs the worker gets, one after the other."""
    order: list[str] = []
    running = [(m.job.job_id, m.attempt) for m in _assigns(coordinator, worker)]
    while running and len(order) < count:
        job_id, attempt = running.pop(0)
        order.append(job_id)
        running += assigned(coordinator.receive(worker, ended(job_id, attempt)))
    return order


def _assigns(coordinator: CoordinatorBench, worker: Session) -> list[Assign]:
    found = coordinator.shop.fleet.by_session[worker]
    jobs = coordinator.shop.ledger.jobs
    return [
        Assign(job=jobs[job_id].spec, attempt=lease.attempt, epoch=1)
        for job_id, lease in found.running.items()
    ]


# --- order ---


def test_the_older_job_goes_first(coordinator: CoordinatorBench) -> None:
    coordinator.given(*(submitted(f"j{number}") for number in range(4)))

    assert _order(coordinator, coordinator.worker(), 4) == ["j0", "j1", "j2", "j3"]


def test_the_more_urgent_job_goes_first(coordinator: CoordinatorBench) -> None:
    coordinator.given(
        submitted("low", priority=-5), submitted("plain"), submitted("high", priority=5)
    )

    assert _order(coordinator, coordinator.worker(), 3) == ["high", "plain", "low"]


def test_urgency_counts_across_shapes(coordinator: CoordinatorBench) -> None:
    coordinator.given(
        submitted("plain"), submitted("high", priority=5, resources=Resources(cpus=1.0))
    )

    assert _order(coordinator, coordinator.worker(), 2) == ["high", "plain"]


def test_a_client_with_many_jobs_does_not_keep_others_waiting(
    coordinator: CoordinatorBench,
) -> None:
    many = [submitted(f"a{number}", by="a") for number in range(20)]
    coordinator.given(*many, submitted("b0", by="b"), submitted("b1", by="b"))

    order = _order(coordinator, coordinator.worker(), 5)

    assert Counter(name[0] for name in order[:4]) == {"a": 2, "b": 2}


def test_a_client_that_was_idle_has_saved_up_nothing(coordinator: CoordinatorBench) -> None:
    coordinator.given(*(submitted(f"a{number}", by="a") for number in range(30)))
    worker = coordinator.worker()
    _order(coordinator, worker, 10)
    late = coordinator.client("b")
    for number in range(10):
        coordinator.submit(late, f"b{number}")

    order = _order(coordinator, worker, 9)

    assert Counter(name[0] for name in order[1:]) == {"a": 4, "b": 4}


def test_what_comes_back_goes_to_the_front_of_its_line(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    for number in range(3):
        coordinator.submit(client, f"j{number}")

    effects = coordinator.receive(worker, Returned(job_id="j0", attempt=1))

    assert assigned(effects) == [("j0", 2)]


# --- where ---


def test_the_least_busy_worker_is_taken(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    w1 = coordinator.worker("w1", offers=capacity(slots=4))
    coordinator.submit(client, "j1")
    w2 = coordinator.worker("w2", offers=capacity(slots=4))

    effects = coordinator.submit(client, "j2")

    assert len(told(effects, w2)) == 1
    assert told(effects, w1) == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"tags": ("big",)},
        {"worker_id": "right"},
        {"resources": Resources(cpus=16.0)},
        {"resources": GPU},
    ],
)
def test_a_job_goes_where_it_fits(coordinator: CoordinatorBench, wanted: dict[str, object]) -> None:
    client = coordinator.client()
    coordinator.worker("wrong")
    right = coordinator.worker("right", offers=capacity(cpus=16.0, gpus=1), tags=("big",))

    effects = coordinator.submit(client, "j1", **wanted)

    assert [type(message) for message in told(effects, right)] == [Assign]


def test_a_gpu_for_one_job_alone_is_not_shared(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.worker(offers=capacity(slots=4, gpus=1))

    assert assigned(coordinator.submit(client, "j1", resources=GPU)) == [("j1", 1)]
    assert assigned(coordinator.submit(client, "j2", resources=GPU)) == []
    assert assigned(coordinator.submit(client, "j3", resources=HALF_GPU)) == []


def test_gpus_are_shared_by_memory_and_filled_before_the_next_is_begun(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    coordinator.worker(offers=capacity(slots=8, gpus=2))

    effects = [coordinator.submit(client, f"j{n}", resources=HALF_GPU) for n in range(5)]

    devices = [m.devices for e in effects for _, m in sends(e) if isinstance(m, Assign)]
    assert devices == [("g0",), ("g0",), ("g1",), ("g1",)]


def test_nothing_is_placed_on_a_faulty_gpu_until_it_is_well(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    worker = coordinator.worker(offers=capacity(gpus=1, faulty=(0,)))
    waits = coordinator.submit(client, "j1", resources=GPU)

    healed = coordinator.receive(
        worker, Heartbeat(worker_id="w1", load={}, sent_at=1.0, capacity=capacity(gpus=1))
    )

    assert assigned(waits) == []
    assert assigned(healed) == [("j1", 1)]


# --- waiting for room ---


def test_a_large_job_is_not_starved_by_small_ones(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker(offers=capacity(slots=4, cpus=4.0))
    for number in range(4):
        coordinator.submit(client, f"s{number}", resources=Resources(cpus=1.0))
    coordinator.submit(client, "large", resources=Resources(cpus=4.0))
    for number in range(4, 12):
        coordinator.submit(client, f"s{number}", resources=Resources(cpus=1.0))
    coordinator.live(31.0, worker)

    effects = [coordinator.receive(worker, ended(f"s{number}", 1)) for number in range(4)]

    assert [assigned(effect) for effect in effects] == [[], [], [], [("large", 1)]]


def test_an_urgent_job_passes_one_that_a_worker_is_set_aside_for(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker(offers=capacity(slots=4, cpus=4.0))
    for number in range(2):
        coordinator.submit(client, f"s{number}", resources=Resources(cpus=2.0))
    coordinator.submit(client, "large", resources=Resources(cpus=4.0))
    coordinator.live(31.0, worker)
    coordinator.receive(worker, ended("s0", 1))

    plain = coordinator.submit(client, "plain")
    urgent = coordinator.submit(client, "urgent", priority=5)

    assert assigned(plain) == []
    assert assigned(urgent) == [("urgent", 1)]


# --- ahead of time ---


def test_brief_work_waits_at_a_busy_worker(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker()
    coordinator.submit(client, "j0", code=CODE)
    coordinator.receive(worker, ended("j0", 1, run_s=0.01))

    effects = [coordinator.submit(client, f"j{number}", code=CODE) for number in range(1, 9)]

    # One runs; in the horizon of 50 ms five more would end.
    assert [len(assigned(effect)) for effect in effects] == [1, 1, 1, 1, 1, 1, 0, 0]


def test_what_waits_too_long_is_offered_to_an_idle_worker(coordinator: CoordinatorBench) -> None:
    client, busy = coordinator.client(), coordinator.worker("busy")
    coordinator.submit(client, "j0", code=CODE)
    coordinator.receive(busy, ended("j0", 1, run_s=0.01))
    for number in (1, 2, 3):
        coordinator.submit(client, f"j{number}", code=CODE)
    idle = coordinator.worker("idle")

    recalled = coordinator.after(0.11)
    moved = coordinator.receive(busy, Returned(job_id="j3", attempt=1))

    assert told(recalled, busy) == [Recall(job_id="j3", attempt=1)]
    assert [type(message) for message in told(moved, idle)] == [Assign]


# --- what nobody can run ---


def test_a_job_that_nobody_could_run_is_refused_with_the_nearest_worker(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    small = coordinator.worker("small", offers=capacity(cpus=4.0))
    coordinator.live(5.0, small)

    effects = coordinator.submit(client, "j1", name="train", resources=Resources(cpus=64.0))

    text = (
        "no worker could ever run train (64 CPUs): the nearest is small, but it has 4 CPUs, the "
        "job asks for 64. Ask for less, or give queue_timeout to wait for one."
    )
    assert effects == [Send(client, Refused(job_id="j1", code="unplaceable", message=text))]


def test_right_after_its_start_a_coordinator_refuses_nobody(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.worker("small", offers=capacity(cpus=4.0))

    effects = coordinator.submit(client, "j1", resources=Resources(cpus=64.0))

    assert told(effects, client) == [Accepted(job_id="j1")]


def test_a_job_that_says_how_long_it_waits_is_not_refused(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    coordinator.worker("small")

    effects = coordinator.submit(
        client, "j1", resources=Resources(cpus=64.0), timeouts=Timeouts(queue_s=60.0)
    )

    assert not any(isinstance(message, Refused) for message in told(effects, client))


def test_nothing_is_refused_while_a_worker_is_known_by_its_leases_alone(
    coordinator: CoordinatorBench,
) -> None:
    coordinator.given(submitted("j0", kind="pipeline"), started("j0", 1, on="away"))
    coordinator.restart()
    client, worker = coordinator.client(), coordinator.worker("small")
    coordinator.live(31.0, worker)

    effects = coordinator.submit(client, "j1", resources=Resources(cpus=64.0))

    assert not any(isinstance(message, Refused) for message in told(effects, client))
