"""How many items of a job array run at a time."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, assigned, told
from tests.unit.core.samples import capacity, ended, job, started, submitted

from lineshaft_coordinator.core import views
from lineshaft_protocol.client_messages import Cancel, Pause, Refused, Resume, Submit
from lineshaft_protocol.families import first_of, retry_id, retry_number
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.jobs import ArrayItem, JobSpec, Line


def item(number: int, *, at_most: int | None = 2, count: int = 4, **wanted: object) -> JobSpec:
    place = ArrayItem(array_id="a", item=number, count=count, at_most=at_most)
    return job(f"a.{number}", array=place, **wanted)


def submit_all(coordinator: CoordinatorBench, client: Session, **wanted: object) -> None:
    for number in range(4):
        coordinator.receive(client, Submit(job=item(number, **wanted), is_fresh=True))


def test_no_more_items_run_than_the_array_says(coordinator: CoordinatorBench) -> None:
    client = coordinator.client()
    submit_all(coordinator, client)
    worker = coordinator.worker("w1", offers=capacity(slots=8))
    running = set(coordinator.shop.fleet.by_session[worker].lease_ids())

    effects = coordinator.receive(worker, ended("a.0", 1))

    assert running == {"a.0", "a.1"}
    assert assigned(effects) == [("a.2", 1)]


def test_an_item_that_waits_before_its_retry_lets_the_next_one_go(
    coordinator: CoordinatorBench,
) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=8))
    submit_all(coordinator, client, retries=1)

    effects = coordinator.receive(worker, ended("a.0", 1, "failed"))

    assert assigned(effects) == [("a.2", 1)]


def test_a_paused_item_lets_the_next_one_go_and_waits_for_a_place_again(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    submit_all(coordinator, client, at_most=1)

    coordinator.receive(client, Pause(request_id=1, job_id="a.0"))
    under_way = coordinator.shop.arrays.under_way("a")
    coordinator.receive(client, Resume(request_id=2, job_id="a.0"))

    assert under_way == ("a.1",)
    assert coordinator.shop.arrays.waiting("a") == ("a.0", "a.2", "a.3")


def test_a_waiting_item_that_is_cancelled_takes_no_place(coordinator: CoordinatorBench) -> None:
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=8))
    submit_all(coordinator, client)

    coordinator.receive(client, Cancel(job_id="a.2"))
    effects = coordinator.receive(worker, ended("a.1", 1))

    assert assigned(effects) == [("a.3", 1)]


def test_after_a_restart_those_that_run_keep_their_places(coordinator: CoordinatorBench) -> None:
    places = [ArrayItem(array_id="a", item=n, count=4, at_most=1) for n in range(4)]
    coordinator.given(
        *(submitted(f"a.{n}", array=place) for n, place in enumerate(places)),
        started("a.2", 1, on="w1"),
    )

    assert coordinator.shop.arrays.under_way("a") == ("a.2",)
    assert coordinator.shop.arrays.waiting("a") == ("a.0", "a.1", "a.3")


def test_why_names_the_limit_of_the_array(coordinator: CoordinatorBench) -> None:
    submit_all(coordinator, coordinator.client())

    why = views.why(coordinator.shop, JobId("a.3"))

    assert why is not None
    assert why["status"] == "waiting"
    assert why["reasons"] == [
        "at most 2 items of array a may be under way, and 2 are; "
        "it is number 2 of 2 that wait for one of them; 'lineshaft jobs --array a' shows them"
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (item(4), "item 4 is not one of 4"),
        (item(1).model_copy(update={"job_id": "b.1"}), "must have the id a.1"),
        (job("j1", retry_of="j0"), "must have an id as j0.r1"),
        (job("j1.r1", retry_of="j0"), "must have an id as j0.r1"),
    ],
)
def test_an_id_that_would_not_be_found_again_is_refused(
    coordinator: CoordinatorBench, spec: JobSpec, words: str
) -> None:
    client = coordinator.client()

    effects = coordinator.receive(client, Submit(job=spec, is_fresh=True))

    refusals = [message for message in told(effects, client) if isinstance(message, Refused)]
    assert [refused.code for refused in refusals] == ["invalid"]
    assert words in refusals[0].message


def test_ids_of_repeats_are_counted_from_the_first_job() -> None:
    assert retry_id("a.7", 1) == "a.7.r1"
    assert retry_id("a.7.r1", 2) == "a.7.r2"
    assert first_of("a.7.r12") == "a.7"
    assert [retry_number(each) for each in ("j", "j.r1", "j.r10", "j.r0", "j.rx")] == [
        0,
        1,
        10,
        0,
        0,
    ]


def test_jobs_of_a_line_go_one_after_the_other_whoever_submits_them(
    coordinator: CoordinatorBench,
) -> None:
    worker = coordinator.worker("w1", offers=capacity(slots=8))
    line = Line(name="training", at_most=1)
    for number in range(3):
        submit = Submit(job=job(f"j{number}", line=line), is_fresh=True)
        coordinator.receive(coordinator.client(f"c{number}"), submit)
    running = coordinator.shop.fleet.by_session[worker].lease_ids()

    effects = coordinator.receive(worker, ended("j0", 1))

    assert [*running] == ["j0"]
    assert assigned(effects) == [("j1", 1)]
    why = views.why(coordinator.shop, JobId("j2"))
    assert why is not None
    assert "jobs of line training may be under way" in str(why["reasons"])
