"""What may be said about a job."""

import pytest

from lineshaft.errors import InvalidJobError, LineshaftError
from lineshaft.options import Options, read_resources
from lineshaft_protocol.jobs import Timeouts
from lineshaft_protocol.resources import GIB, Resources


@pytest.mark.parametrize("given", ["", "many", "-1GiB", -1, None, 1.5])
def test_what_is_no_size_is_refused(given: object) -> None:
    with pytest.raises(LineshaftError, match=r"is no(t a)? size"):
        read_resources({"memory": given})


def test_resources_are_read_from_names() -> None:
    given = {"cpus": 2.5, "memory": "8GiB", "gpus": 1, "gpu_memory": "20GiB"}

    assert read_resources(given) == Resources(
        cpus=2.5, memory_bytes=8 * GIB, gpus=1, gpu_memory_bytes=20 * GIB
    )


def test_a_misspelled_resource_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="no resource 'gpu'; there are: cpus, memory, gpus"):
        read_resources({"gpu": 1})


def test_options_are_checked_and_kept_together() -> None:
    class Earlier:
        id = "j1"

    options = Options().updated({"retries": 2, "timeout": 60, "tags": ["big"]})
    options = options.updated({"queue_timeout": 5, "after": ["j0", Earlier()], "worker": "w1"})

    assert options == Options(
        retries=2,
        timeouts=Timeouts(run_s=60, queue_s=5),
        tags=("big",),
        after=("j0", "j1"),
        worker_id="w1",
    )


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"retry": 1}, "no option 'retry'"),
        ({"timeout": -1}, "run_s"),
        ({"resources": {"cpus": -1}}, "cpus"),
        ({"tags": "gpu"}, "as a list"),
        ({"tags": [1]}, "texts only"),
    ],
)
def test_an_impossible_option_is_refused(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidJobError, match=complaint):
        Options().updated(given)
