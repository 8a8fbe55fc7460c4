"""Whose a job is: the token by which it was submitted, from then on and after any restart."""

from tests.unit.core.coordinator_bench import CoordinatorBench, records
from tests.unit.core.samples import capacity, job

from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.records import JobSubmitted, decode, encode
from lineshaft_coordinator.core.views import job_view
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import Parent
from lineshaft_protocol.worker_messages import SpawnChild


def test_a_job_belongs_to_the_token_of_the_session_that_submitted_it(
    coordinator: CoordinatorBench,
) -> None:
    ann, bob = coordinator.client("same", owner="ann"), coordinator.client("same", owner="bob")

    coordinator.submit(ann, "a")
    coordinator.submit(bob, "b")
    coordinator.submit(bob, "a")  # Known already: it changes nothing.

    assert _owners(coordinator) == {"a": "ann", "b": "bob"}


def test_the_child_of_a_plan_belongs_to_whom_the_plan_belongs(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client(owner="ann")
    worker = coordinator.worker(offers=capacity(slots=2))
    coordinator.submit(client, "p", kind="plan")

    child = job("p.1", parent=Parent(job_id="p", attempt=1))
    effects = coordinator.receive(worker, SpawnChild(job=child))

    (submitted,) = [each for each in records(effects) if isinstance(each, JobSubmitted)]
    assert submitted.owner == "ann"


def test_all_ranks_of_a_gang_belong_to_one_token(coordinator: CoordinatorBench) -> None:
    coordinator.worker("w1")
    coordinator.worker("w2")

    coordinator.submit(coordinator.client(owner="ann"), "g", kind="pipeline", nodes=2)

    assert _owners(coordinator) == {"g": "ann", "g.rank1": "ann"}


def test_owners_are_replayed_and_are_one_string_each(coordinator: CoordinatorBench) -> None:
    client = coordinator.client(owner="a1b2c3d4")
    for number in range(3):
        coordinator.submit(client, f"j{number}")

    replayed = Ledger.replay(decode(encode(record)) for record in coordinator.journal)

    assert replayed == coordinator.shop.ledger
    assert len({id(each.owner) for each in replayed.jobs.values()}) == 1


def test_a_record_from_before_owners_were_kept_is_a_job_of_nobody_known(
    coordinator: CoordinatorBench,
) -> None:
    line = encode(JobSubmitted(job_id="old", client_id="c", job=job("old")))

    coordinator.given(decode(line))

    assert b"owner" not in line
    view = job_view(coordinator.shop, JobId("old"))
    assert view is not None
    assert view["owner"] is None


def _owners(coordinator: CoordinatorBench) -> dict[str, str | None]:
    return {job_id: each.owner for job_id, each in coordinator.shop.ledger.jobs.items()}
