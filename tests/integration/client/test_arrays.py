"""Job arrays, and ended jobs that are done again, with real daemons."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.integration.client.conftest import Shop, until

from lineshaft import Client
from lineshaft.errors import (
    InvalidJobError,
    JobNotFoundError,
    JobRefusedError,
    ProcessExitedError,
    QueryError,
)

WAIT_S = 60.0
SQUARE = b"""
import os

def main(x, gate=None):
    assert gate is None or os.path.exists(gate)
    return x * x
"""
WAITING = b"""
import os, pathlib, time

def main(folder, item):
    here = pathlib.Path(folder)
    (here / f"began-{item}").touch()
    deadline_s = time.monotonic() + 60
    while not (here / "gate").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return item
"""


def call(shop: Shop, path: str, *, method: str = "GET") -> tuple[int, Any]:
    url = f"{shop.url.replace('ws', 'http', 1)}/api/v1/{path}"
    request = urllib.request.Request(url, method=method)
    request.add_header("Authorization", f"Bearer {shop.token}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_an_array_returns_the_results_of_its_items_in_order(client: Client) -> None:
    array = client.array(
        "square.py:main", [{"x": n} for n in range(5)], files={"square.py": SQUARE}
    )

    assert array.results(WAIT_S) == [0, 1, 4, 9, 16]
    assert [job.id for job in array] == [f"{array.id}.{n}" for n in range(5)]
    assert array.status == {"succeeded": 5}


def test_an_array_without_items_is_refused_here(client: Client) -> None:
    with pytest.raises(InvalidJobError, match="1 to 1000000 items, not 0"):
        client.array("square.py:main", [], files={"square.py": SQUARE})


def test_files_of_an_array_are_sent_once(client: Client, shop: Shop) -> None:
    source = SQUARE + b"#" + b"x" * 5000

    array = client.array(
        "square.py:main", [{"x": n} for n in range(4)], files={"square.py": source}
    )
    array.wait(WAIT_S)

    specs = [story_of(client, job.id)[0]["job"] for job in array]
    assert len({tuple(spec["files"]) for spec in specs}) == 1
    assert {spec["array"]["count"] for spec in specs} == {4}


def story_of(client: Client, job_id: str) -> list[dict[str, Any]]:
    story: Any = client.story(job_id)
    return list(story)


def test_an_array_keeps_to_its_limit_and_is_found_and_cancelled_as_a_whole(
    client: Client, tmp_path: Path
) -> None:
    params = [{"folder": str(tmp_path), "item": n} for n in range(6)]
    array = client.array("wait.py:main", params, files={"wait.py": WAITING}, at_most=1)
    until(lambda: array.status == {"running": 1, "waiting": 5})

    found = client.find_array(array.id)
    why: Any = found[5].why()
    found.cancel()

    assert f"at most 1 items of array {array.id} may be under way" in why["reasons"][0]
    assert array.wait(WAIT_S) == {"cancelled": 6}
    assert [path.name for path in tmp_path.glob("began-*")] == ["began-0"]


def test_only_the_items_that_failed_are_done_again(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    params = [{"x": 1}, {"x": 2, "gate": str(gate)}, {"x": 3}]
    array = client.array("square.py:main", params, files={"square.py": SQUARE})
    before = array.wait(WAIT_S)
    gate.touch()

    count = array.retry()

    assert before == {"succeeded": 2, "failed": 1}
    assert count == 1
    assert array.results(WAIT_S) == [1, 4, 9]
    assert [job.id for job in array] == [f"{array.id}.0", f"{array.id}.1.r1", f"{array.id}.2"]
    assert client.find_array(array.id).status == {"succeeded": 3}
    assert client.job(f"{array.id}.1").status == "failed"


def exit_unless(gate: str) -> str:
    import os  # noqa: PLC0415 - on the worker

    if not os.path.exists(gate):  # noqa: PTH110 - one import is enough
        os._exit(3)
    return "through"


def test_a_retry_is_a_new_job_and_both_stories_name_the_other(
    client: Client, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    first = client.job(client.submit(exit_unless, gate).id)
    assert isinstance(first.exception(WAIT_S), ProcessExitedError)
    Path(gate).touch()
    before: Any = first.why()

    second = first.retry()

    assert second.result(WAIT_S) == "through"
    after: Any = first.why()
    assert before["reasons"][1] == f"'lineshaft retry {first.id}' does it again"
    assert after["reasons"][1] == f"it was done again as {second.id}"
    assert second.id == f"{first.id}.r1"
    assert first.status == "failed"
    assert story_of(client, second.id)[0]["job"]["retry_of"] == first.id
    assert story_of(client, first.id)[-1]["retry"] == second.id
    with pytest.raises(JobRefusedError, match=r"did job .* again and succeeded"):
        first.retry()


def test_what_cannot_be_done_again_is_refused_with_a_reason(client: Client, shop: Shop) -> None:
    fine = client.submit(abs, -1)
    fine.result(WAIT_S)

    with pytest.raises(JobRefusedError, match="succeeded; only what failed or was cancelled"):
        client.job(fine.id).retry()
    with pytest.raises((JobNotFoundError, QueryError), match="no job nobody is known"):
        client.job("nobody").retry()
    assert call(shop, "jobs/nobody/retry", method="POST")[0] == 404
    assert call(shop, f"jobs/{fine.id}/retry", method="POST")[0] == 409
    with pytest.raises(QueryError, match="no array nobody is known"):
        client.find_array("nobody")


def test_a_job_that_came_after_a_failed_one_comes_after_what_did_that_again(
    client: Client, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    first = client.job(client.submit(exit_unless, gate).id)
    second = client.job(client.submit(exit_unless, gate, after=[first]).id)
    assert second.exception(WAIT_S) is not None
    with pytest.raises(JobRefusedError, match=f"lineshaft retry {first.id} {second.id}"):
        second.retry()
    Path(gate).touch()

    first.retry()

    assert second.retry().result(WAIT_S) == "through"


def test_a_job_is_not_done_again_after_a_repeat_that_failed_as_well(
    client: Client, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    first = client.job(client.submit(exit_unless, gate).id)
    second = client.job(client.submit(exit_unless, gate, after=[first]).id)
    assert second.exception(WAIT_S) is not None
    again = first.retry()
    assert again.exception(WAIT_S) is not None

    with pytest.raises(JobRefusedError, match=f"lineshaft retry {first.id} {second.id}"):
        second.retry()
    Path(gate).touch()
    again.retry()

    assert second.retry().result(WAIT_S) == "through"


def test_http_tells_of_an_array_does_jobs_again_and_cancels_all(
    client: Client, shop: Shop, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    params = [{"x": 1}, {"x": 2, "gate": str(gate)}]
    array = client.array("square.py:main", params, files={"square.py": SQUARE})
    array.wait(WAIT_S)
    gate.touch()

    status, told = call(shop, f"arrays/{array.id}?status=failed")
    again = call(shop, f"jobs/{array.id}.1/retry", method="POST")
    cancelled = call(shop, f"arrays/{array.id}/cancel", method="POST")

    assert (status, told["count"], told["counts"]) == (200, 2, {"succeeded": 1, "failed": 1})
    assert [each["job_id"] for each in told["items"]] == [f"{array.id}.1"]
    assert again == (200, {"job_id": f"{array.id}.1.r1", "retry_of": f"{array.id}.1"})
    assert cancelled[0] == 200
    assert call(shop, "arrays/nobody")[0] == 404
