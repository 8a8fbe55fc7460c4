"""What is skipped for jobs that ask for nothing special changes nothing."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, sends
from tests.unit.core.samples import CODE, capacity, ended, job

from lineshaft_coordinator.core.io import Effect, Event, Received
from lineshaft_coordinator.core.plain import PLAIN_FIELDS, is_plain
from lineshaft_protocol.client_messages import Submit
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.worker_messages import Assign

OTHER_CODE = "b" * 64
SPECIAL = {
    "after": ("j0",),
    "array": {"array_id": "a", "item": 0, "count": 2, "at_most": 1},
    "line": {"name": "l", "at_most": 1},
    "nodes": 2,
    "parent": {"job_id": "p", "attempt": 1},
    "part": {"job_id": "lead", "rank": 1},
    "resources": {"cpus": 1},
    "tags": ("gpu",),
    "timeouts": {"queue_s": 1.0},
    "worker_id": "w1",
    "environment": {"requires_python": ">=3.11"},
    "processes": 2,
    "retry_of": "j0",
    "files": ("f" * 64,),
}


def test_a_plain_job_goes_the_way_of_one_that_names_every_field() -> None:
    named = dict.fromkeys(("after", "nodes", "timeouts", "resources", "tags"))
    assert is_plain(job("j1", code=CODE))
    assert not is_plain(job("j1", code=CODE, **named))

    assert _life_of_jobs() == _life_of_jobs(**named)


@pytest.mark.parametrize("field", SPECIAL)
def test_a_job_that_says_more_is_not_plain(field: str) -> None:
    assert not is_plain(job("j1", **{field: SPECIAL[field]}))


def test_a_plain_job_has_the_defaults_of_all_that_it_does_not_say() -> None:
    spec = job("j1")

    for name, field in JobSpec.model_fields.items():
        if name not in PLAIN_FIELDS:
            assert getattr(spec, name) == field.get_default()


def test_jobs_of_other_code_are_not_put_behind_brief_ones_ahead_of_time() -> None:
    coordinator = CoordinatorBench()
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=1))
    coordinator.submit(client, "known", code=CODE)
    coordinator.receive(worker, ended("known", 1, run_s=0.01))
    codes = [CODE, CODE, CODE, OTHER_CODE, CODE]
    submits = [
        Received(client, Submit(job=job(f"j{number}", code=code), is_fresh=True))
        for number, code in enumerate(codes)
    ]

    effects = coordinator.handle(*submits)

    # One runs, two wait behind it; how long the fourth takes nobody knows, and it is its turn.
    assigned = [m.job.job_id for _, m in sends(effects) if isinstance(m, Assign)]
    assert assigned == ["j0", "j1", "j2"]


def _life_of_jobs(**wanted: object) -> list[Effect]:
    """Everything that is done about three jobs, one of which is submitted twice."""
    coordinator = CoordinatorBench()
    client, worker = coordinator.client(), coordinator.worker("w1", offers=capacity(slots=1))
    submits: list[Event] = [
        Received(client, Submit(job=job(name, code=CODE, **wanted), is_fresh=True))
        for name in ("j1", "j2", "j3")
    ]
    effects = coordinator.handle(*submits)
    effects += coordinator.handle(submits[0], Received(worker, ended("j1", 1, run_s=0.001)))
    effects += coordinator.handle(Received(worker, ended("j2", 1)), submits[1])
    return effects + coordinator.handle(Received(worker, ended("j3", 1, status="stopped")))
