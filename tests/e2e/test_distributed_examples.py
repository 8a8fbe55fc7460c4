"""examples/torch_distributed and examples/dask_cluster, with the real torch and the real Dask."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.farm import Farm, farm
from tests.e2e.test_torch_training import cpu_wheel

from lineshaft import Client
from lineshaft.errors import EnvironmentFailedError

EXAMPLES = Path(__file__).parents[2] / "examples"
BUILD_S = 400
NO_INDEX = re.compile(r"(?i)failed to fetch|error sending request|not found in the .*registry")


@pytest.fixture(scope="module")
def example_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    wheel = cpu_wheel()
    links = () if wheel is None else ("--find-links", str(wheel.parent))
    with farm(tmp_path_factory.mktemp("farm"), "first_workers_s=0") as made:
        for name in ("left", "right"):
            made.start_worker(name, "--slots", "1", *links)
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture
def client(example_farm: Farm) -> Iterator[Client]:
    with example_farm.client() as made:
        yield made


def train(client: Client, requirement: str, **wanted: Any) -> Any:
    files = {"train.py": EXAMPLES / "torch_distributed" / "train.py"}
    job = client.run("train.py:main", files=files, requirements=[requirement], **wanted)
    return job.result(BUILD_S)


def test_ranks_of_torch_that_share_gradients_learn_what_one_learns(client: Client) -> None:
    if (wheel := cpu_wheel()) is None:
        pytest.skip("no folder of PIP_FIND_LINKS or UV_FIND_LINKS has a CPU wheel of torch")
    requirement = f"torch=={wheel.name.split('-')[1]}"

    alone = train(client, requirement, processes=1)
    two = train(client, requirement, processes=2)
    apart = train(client, requirement, nodes=2)

    assert alone["losses"][-1] < 0.05 < alone["losses"][0]
    # Each step used the gradients of all points: the curves differ by rounding only.
    assert two["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    assert apart["losses"] == two["losses"]
    assert alone["learnt"] == pytest.approx([1.0, -2.0, 0.5, 3.0], abs=0.05)


def test_dask_runs_inside_a_gang(client: Client) -> None:
    folder = EXAMPLES / "dask_cluster"
    job = client.run(
        "mean.py:main",
        files={"mean.py": folder / "mean.py"},
        requirements=folder / "requirements.txt",
        nodes=2,
        processes=2,
    )

    try:
        result: Any = job.result(BUILD_S)
    except EnvironmentFailedError as error:
        if NO_INDEX.search(str(error)):
            pytest.skip(f"no index of packages is reachable: {error}")
        raise

    assert result["mean"] == 499_999.5
    assert set(result["ranks"]) <= {"1", "2", "3"}, "rank 0 has the scheduler"
