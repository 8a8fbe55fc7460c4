"""Jobs in several processes: who may have them, and which are refused."""

import pytest
from tests.unit.core.coordinator_bench import CoordinatorBench, capacity, told

from lineshaft_protocol.client_messages import Refused
from lineshaft_protocol.versions import FEATURES, Versions
from lineshaft_protocol.worker_messages import Assign

OLD = Versions(features=tuple(each for each in FEATURES if each != "processes"))


def test_a_worker_that_would_start_one_process_is_given_no_job_of_several(
    coordinator: CoordinatorBench,
) -> None:
    client = coordinator.client()
    old, _ = coordinator.register("old", versions=OLD, offers=capacity(slots=8))

    waiting = coordinator.submit(client, "j", kind="pipeline", processes=2)
    new, effects = coordinator.register("new")

    assert [m for m in told(waiting, old) if isinstance(m, Assign)] == []
    assert [m.job.processes for m in told(effects, new) if isinstance(m, Assign)] == [2]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"kind": "function", "code": "a" * 64}, "only pipeline jobs take processes"),
        ({"kind": "pipeline", "resources": {"gpus": 3}}, "2 processes cannot share 3 GPUs evenly"),
    ],
)
def test_a_job_that_cannot_run_in_several_processes_is_refused(
    coordinator: CoordinatorBench, wanted: dict[str, object], why: str
) -> None:
    client = coordinator.client()

    effects = coordinator.submit(client, "j", processes=2, **wanted)

    (refused,) = [m for m in told(effects, client) if isinstance(m, Refused)]
    assert why in refused.message
    assert coordinator.state("j") == "gone"
