"""Every bad input of a job gets an error of its type, which names the thing and a way out."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.e2e.bad_inputs import BAD_INPUTS, ELSEWHERE, Bench
from tests.e2e.farm import Farm, farm, until
from tests.integration.environments.wheels import make_wheel

from lineshaft import Client
from lineshaft.errors import JobError, LineshaftError, NoWorkerFitsError

ROOT = Path(__file__).parents[2]
TOLD_S_MAX = 20.0
"""Promised are 2 s; `python -m benchmarks.preflight` measures it."""


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A coordinator and one worker without GPUs, which has two packages to install."""
    folder = tmp_path_factory.mktemp("bad")
    make_wheel(folder / "packages", "lstiny", "1.5")
    make_wheel(folder / "packages", "lsother", "2.0")
    with farm(folder / "farm") as made:
        made.start_worker("w1", "--slots", "4", "--find-links", str(folder / "packages"))
        yield made


@pytest.fixture(scope="module")
def client(single: Farm) -> Iterator[Client]:
    with single.client() as made:
        single.until_ready(made)
        # For a moment after its start the coordinator waits for workers that may yet come.
        until(lambda: is_settled(made), what="it says at once that nobody fits")
        yield made


def is_settled(client: Client) -> bool:
    job = client.submit(pow, 2, 2, tags=["settled"])  # type: ignore[call-arg]
    try:
        job.result(1)
    except NoWorkerFitsError:
        return True
    except TimeoutError:
        job.cancel()
    return False


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_gets_its_error_with_a_way_out(
    single: Farm, client: Client, tmp_path: Path, name: str
) -> None:
    bad = BAD_INPUTS[name]
    before, began = job_ids(client), time.monotonic()

    with pytest.raises(LineshaftError) as raised:
        bad.deed(Bench(single, client, tmp_path))
    told_s = time.monotonic() - began

    assert type(raised.value) is bad.error, raised.value
    said = str(raised.value)
    assert [part for part in bad.says if part not in said] == [], said
    if not bad.begins:
        # It was told before it took a slot; what was wrong here was not even submitted.
        assert not any(map(has_begun(client), job_ids(client) - before))
        assert isinstance(raised.value, JobError) or job_ids(client) == before
        assert told_s < TOLD_S_MAX
    assert single.workers["w1"].popen.poll() is None


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_bad_input_that_needs_more_than_one_worker_has_a_test_of_its_own(name: str) -> None:
    file, _, test = ELSEWHERE[name].partition("::")

    assert f"def {test}(" in (ROOT / file).read_text(), name


def job_ids(client: Client) -> set[str]:
    return {each["job_id"] for each in cast("list[dict[str, Any]]", client.jobs(limit=1000))}


def has_begun(client: Client) -> Any:
    def look(job_id: str) -> bool:
        story = cast("list[dict[str, Any]]", client.story(job_id))
        return any(each["type"] == "AttemptBegan" for each in story)

    return look
