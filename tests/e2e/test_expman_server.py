"""The routes of seed 004, answered by us and by the real expman about the same records."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.records.real_expman import installed, serving
from tests.e2e.farm import Farm, farm, until

from lineshaft_records.documents import read_info
from lineshaft_records.layout import RunFolder

TRAIN = """
from lineshaft import run
for step in range(3000):
    print("at", step)
    run.log({"loss": 1.0 / (step + 1), "odd": float("nan"), "word": f"w{step}"}, step=step)
"""
EXPERIMENT = "/api/experiments/digits"
OURS_ONLY = {"env_path"}
"""A path of the coordinator's machine: null."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Farm, str]]:
    folder = tmp_path_factory.mktemp("recorded")
    with farm(folder / "farm") as made, made.client() as client:
        made.start_worker("w1")
        made.until_ready(client)
        (folder / "train.py").write_text(TRAIN)
        params = {"lr": 0.1, "nested": {"a": [1, None]}}
        job = client.run("train.py", files=[folder / "train.py"], name="digits", params=params)
        run = RunFolder(made.folder / "data" / "runs" / "digits" / job.id)
        until(lambda: read_info(run).status == "FINISHED", what="the run is closed")
        yield made, str(job.id)


@pytest.fixture(scope="module")
def upstream(recorded: tuple[Farm, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    expman = installed(tmp_path_factory.mktemp("expman"))
    with serving(expman, recorded[0].folder / "data" / "runs") as url:
        until(lambda: _answers(url), what="expman serves")
        yield url


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/api/stats", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def both(recorded: tuple[Farm, str], upstream: str) -> "Both":
    return Both(recorded[0], recorded[1], upstream)


class Both:
    """Asks us and the seed's server the same."""

    def __init__(self, here: Farm, run: str, upstream: str) -> None:
        self.run = f"{EXPERIMENT}/runs/{run}"
        token = (here.home / "token").read_text().strip()
        self._ours = f"http://127.0.0.1:{here.port}", {"Authorization": f"Bearer {token}"}
        self._theirs = upstream, dict[str, str]()

    def ask(self, path: str) -> tuple[Any, Any]:
        """Our answer, and theirs."""
        found: list[Any] = []
        for url, headers in (self._ours, self._theirs):
            request = urllib.request.Request(f"{url}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                found.append(answer.read().decode())
        ours, theirs = found
        return (json.loads(ours), json.loads(theirs)) if ours[:1] in "[{" else (ours, theirs)

    def begun(self, path: str) -> tuple[Any, Any]:
        """The first event of both streams."""
        return tuple(self._first(*each, path) for each in (self._ours, self._theirs))  # type: ignore[return-value]

    @staticmethod
    def _first(url: str, headers: dict[str, str], path: str) -> Any:
        request = urllib.request.Request(url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            line = next(each for each in answer if each.startswith(b"data: "))
            return json.loads(line.removeprefix(b"data: "))

    def edit(self, path: str, said: object) -> Any:
        """Change something with us, whose records the seed's server reads."""
        url, headers = self._ours
        data = json.dumps(said).encode()
        request = urllib.request.Request(url + path, data=data, headers=headers, method="PATCH")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


def test_s004_16_experiments_and_configs_are_told_as_the_seed_tells_them(both: Both) -> None:
    for path in ("/api/experiments", f"{both.run}/config"):
        ours, theirs = both.ask(path)
        assert ours == theirs, path
    ours, theirs = both.ask("/api/config")
    assert ours.keys() == theirs.keys()
    ours, theirs = both.ask("/api/stats")
    assert ours.keys() == theirs.keys()
    assert ours["total_runs"] == theirs["total_runs"] == 1


def test_s004_16_runs_are_told_as_the_seed_tells_them(both: Both) -> None:
    (ours,), (theirs,) = both.ask(f"{EXPERIMENT}/runs?metrics=loss,odd,word")
    assert ours.keys() == theirs.keys()
    assert {k: v for k, v in ours.items() if k not in OURS_ONLY} == {
        k: v for k, v in theirs.items() if k not in OURS_ONLY
    }
    ours, theirs = both.ask(f"{both.run}/metadata")
    assert ours.keys() == theirs.keys()
    assert (ours["id"], ours["status"]) == (theirs["id"], theirs["status"])
    (ours,), (theirs,) = both.ask(f"{EXPERIMENT}/stats")
    assert ours.keys() == theirs.keys()
    assert ours["run"] == theirs["run"]


def test_s004_16_what_people_edit_is_told_as_the_seed_tells_it(
    both: Both, recorded: tuple[Farm, str]
) -> None:
    for path, said in (
        (both.run, {"name": "the best", "description": "of many\nlines", "tags": ["a", "b"]}),
        (EXPERIMENT, {"display_name": "Digits!", "project": "vision", "tags": ["c"]}),
    ):
        edited = both.edit(f"{path}/metadata", said)
        ours, theirs = both.ask(f"{path}/metadata")
        assert {**edited, **said} == edited
        assert ours.keys() == theirs.keys()
        assert {key: ours[key] for key in said} == {key: theirs[key] for key in said} == said
    ours, theirs = both.ask(f"{EXPERIMENT}/runs")
    assert (ours[0]["id"], ours[0]["name"]) == (theirs[0]["id"], theirs[0]["name"])


def test_s004_16_metrics_are_rows_as_the_seed_has_them(both: Both) -> None:
    ours, theirs = both.ask(f"{both.run}/metrics?max_points=0")
    assert len(ours) == 3000
    assert ours == theirs
    ours, theirs = both.ask(f"{both.run}/metrics?since_step=2990")
    assert ours == theirs
    ours, theirs = both.ask(f"{both.run}/metrics")
    # Which of the rows is everybody's own choice; the ends are no choice.
    assert 1000 < len(ours) <= 2000
    assert (ours[0], ours[-1]) == (theirs[0], theirs[-1])


def test_s004_16_files_are_told_and_shown_as_the_seed_does(both: Both) -> None:
    ours, theirs = both.ask(f"{both.run}/artifacts")
    assert [each for each in ours if each["is_default"]] == theirs
    for file in ("run.yaml", "config.yaml", "vectors.parquet"):
        ours, theirs = both.ask(f"{both.run}/artifacts/content?path={file}")
        assert ours == theirs, file


def test_s004_16_a_log_is_streamed_as_plain_text(both: Both, recorded: tuple[Farm, str]) -> None:
    here, run = recorded
    log: Path = here.folder / "data" / "runs" / "digits" / run / "console.log"
    token = (here.home / "token").read_text().strip()
    url = f"http://127.0.0.1:{here.port}{both.run}/log/stream?file=console.log&token={token}"

    with urllib.request.urlopen(url, timeout=30) as answer:
        lines = [line.decode().rstrip("\n") for line in answer]

    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "{}", "that of the end"
    assert "\n".join(data[:-1]) == log.read_text()


def test_s004_16_the_stream_of_rows_begins_with_those_that_there_are(
    both: Both, recorded: tuple[Farm, str]
) -> None:
    ours, theirs = both.begun(f"/api/run/digits/{recorded[1]}/stream/vectors")

    assert len(ours) == 3000
    assert ours == theirs
