"""`GET /api/v1/jobs`: pages, and what is asked for."""

import time
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from tests.e2e.farm import until

from lineshaft import Client


@pytest.fixture(scope="module")
def since(http: httpx.Client) -> float:
    """All jobs of these tests were submitted later."""
    return time.time()


@pytest.fixture
def named(client: Client, http: httpx.Client, since: float, tmp_path: Path) -> list[str]:
    """Seven jobs, the last one first."""
    listed = http.get("/api/v1/jobs", params={"tag": "listed", "limit": 1000}).json()
    if not listed:
        for number in range(7):
            lap = tmp_path / "lap.py"
            lap.write_text("raise SystemExit(3)" if number == 6 else "pass")
            tags = ["listed", f"lap{number % 2}"]
            job = client.run("lap.py", files=[lap], name=f"Lap {number}", tags=tags)
            until(partial(_is_over, http, job.id), within_s=90)
        listed = http.get("/api/v1/jobs", params={"tag": "listed", "limit": 1000}).json()
    return [job["job_id"] for job in listed]


def _is_over(http: httpx.Client, job_id: str) -> bool:
    facts = http.get(f"/api/v1/jobs/{job_id}").json()
    return facts.get("status") in ("succeeded", "failed")


def ids(http: httpx.Client, **query: str | float) -> list[str]:
    answer = http.get("/api/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["job_id"] for job in answer.json()]


def test_each_page_leads_to_the_next_with_the_same_filter(
    http: httpx.Client, named: list[str]
) -> None:
    found: list[str] = []
    url = "/api/v1/jobs?tag=listed&limit=3"
    sizes: list[int] = []
    while url:
        answer = http.get(url)
        found += [job["job_id"] for job in answer.json()]
        sizes.append(len(answer.json()))
        following = answer.links.get("next")
        url = urljoin(str(answer.url), following["url"]) if following else ""

    assert found == named
    assert sizes == [3, 3, 1]


def test_jobs_are_found_by_name_tag_kind_status_and_time(
    http: httpx.Client, named: list[str], since: float
) -> None:
    assert ids(http, name="lap ", tag="listed") == named
    assert ids(http, name="LAP 6", since=since) == [named[0]]
    assert ids(http, find="lap1", since=since) == [named[1], named[3], named[5]]
    assert ids(http, tag="lap1", status="succeeded", since=since) == [named[1], named[3], named[5]]
    assert ids(http, tag="listed", status="failed") == [named[0]]
    assert ids(http, tag="listed", kind="plan") == []
    assert ids(http, tag="listed", kind="pipeline") == named
    assert ids(http, tag="listed", status="live") == []
    assert ids(http, tag="listed", since=time.time() + 60) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [("since=soon", 400), ("since=nan", 400), ("before=nobody", 404), ("limit=0", 400)],
)
def test_what_cannot_be_answered_is_said(http: httpx.Client, query: str, status: int) -> None:
    answer = http.get(f"/api/v1/jobs?{query}")

    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_name_that_a_route_does_not_know_is_refused_with_those_it_knows(
    http: httpx.Client,
) -> None:
    wrong = http.get("/api/v1/jobs?limit=1&state=queued")
    none = http.get("/api/v1/workers?limit=1")

    assert (wrong.status_code, none.status_code) == (400, 400)
    assert wrong.json()["error"] == (
        "/api/v1/jobs does not take 'state' in its query: it takes status, limit, before, kind, "
        "tag, name, find, since, owner"
    )
    assert none.json()["error"].endswith("it takes nothing but token")
    assert http.get("/api/v1/jobs/x/live?sinze=0.0").status_code == 400


def test_an_unchanged_page_is_not_sent_again(http: httpx.Client, named: list[str]) -> None:
    first = http.get("/api/v1/jobs?tag=listed&limit=3")
    again = http.get(first.url, headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.links) == (304, first.links)
