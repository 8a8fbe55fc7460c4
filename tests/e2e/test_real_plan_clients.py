"""The published client of the seed plan protocol uses a coordinator as one of its workers."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from tests.e2e.farm import Farm, farm
from tests.e2e.real_plan_client import (
    plan_client,
    python_for_the_client,
    python_for_the_worker,
)

OF_BOTH = (
    "chain", "rows", "fitted", "fitted_again", "odd", "fails", "streamed", "stream_fails",
    "sent_much", "got_much", "at_once", "looked", "stranger", "stopped",
)  # fmt: skip
OF_C = ("forked", "needy", "looped", "looped_out", "branched", "split")
RAISED = "node 'a' failed in forward: ValueError: bad \"quote\" \\ here"


@dataclass(frozen=True)
class Place:
    """A farm whose worker runs under a Python of the client's version."""

    farm: Farm
    python: str

    @property
    def token(self) -> str:
        return (self.farm.home / "token").read_text().strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    python = python_for_the_client()
    folder = tmp_path_factory.mktemp("plan_clients")
    worker_python, variables = python_for_the_worker(folder / "worker", python)
    with farm(folder / "farm") as made, made.client() as client:
        command = [worker_python, "-m", "lineshaft_worker", "--name", "w1", "--slots", "2"]
        with (
            (folder / "worker.log").open("wb") as log,
            subprocess.Popen(command, env=made.environ | variables, stdout=log, stderr=log) as own,
        ):
            try:
                made.until_ready(client, "w1")
                yield Place(made, python)
            finally:
                own.terminate()


@pytest.fixture(scope="module")
def told_by(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Mapping[str, Any]]:
    """What a version of the client was told; each runs once."""

    @cache
    def ask(version: str) -> Mapping[str, Any]:
        client = plan_client(tmp_path_factory.mktemp("client"), place.python, version)
        cases = OF_BOTH + (OF_C if version == "0.5.1" else ())
        return client.answers(place.farm.url, place.token, cases)

    return ask


@pytest.fixture(params=["0.2.46", "0.5.1"])
def answers(
    request: pytest.FixtureRequest, told_by: Callable[[str], Mapping[str, Any]]
) -> Mapping[str, Any]:
    return told_by(request.param)


@pytest.fixture
def answers_of_c(told_by: Callable[[str], Mapping[str, Any]]) -> Mapping[str, Any]:
    return told_by("0.5.1")


def test_graphs_run_and_keep_the_form_of_their_data(answers: Mapping[str, Any]) -> None:
    assert answers["chain"] == [24.0, 28.0]
    assert answers["rows"] == [[2.0, 4.0], [6.0, 8.0]]
    assert answers["odd"] == {"pair": [1, {"deep": []}], "text": "ä\n", "none": None}


def test_fits_see_their_labels_each_time(answers: Mapping[str, Any]) -> None:
    assert answers["fitted"] == {"learned": {"x": [2.0, 4.0], "y": [0.0, 1.0]}, "x": [18.0]}
    assert answers["fitted_again"] == [5.0, 6.0]


def test_what_a_filter_raises_is_told_with_its_own_lines_only(answers: Mapping[str, Any]) -> None:
    for case in ("fails", "stream_fails"):
        error = str(answers[case])
        assert RAISED in error
        assert "plan_client_program.py" in error
        assert "lineshaft" not in error.replace("plan_client_program.py", "")


def test_streams_give_every_row_in_order(answers: Mapping[str, Any]) -> None:
    assert answers["streamed"] == [4.0 * i for i in range(40)]


def test_values_of_many_megabytes_go_both_ways(answers: Mapping[str, Any]) -> None:
    assert answers["sent_much"] == [600_000.0]
    assert answers["got_much"] == 600_000


def test_several_clients_at_once_get_their_own_answers(answers: Mapping[str, Any]) -> None:
    assert answers["at_once"] == [[0.0], [3.0], [6.0], [9.0]]


def test_a_lab_is_told_what_is_here(answers: Mapping[str, Any]) -> None:
    assert answers["looked"] == ["ok", "Register", ["cpu"]]


def test_a_stranger_is_refused_and_nobody_stops_the_coordinator(
    answers: Mapping[str, Any],
) -> None:
    assert "401" in str(answers["stranger"])
    assert answers["stopped"] == [24.0, 28.0]


def test_a_join_gets_all_branches_by_name(answers_of_c: Mapping[str, Any]) -> None:
    assert answers_of_c["forked"] == {"seen": {"b": [12.0], "c": [102.0]}}


def test_loops_and_branches_take_their_turns(answers_of_c: Mapping[str, Any]) -> None:
    assert answers_of_c["looped"] == {"done": True, "n": 5.0}
    assert answers_of_c["looped_out"] == [16.0]
    assert answers_of_c["branched"][1] == {"seen": [100.0]}
    assert answers_of_c["branched"][0]["pair"] == [1, {"deep": []}]


def test_what_a_program_imports_is_installed(answers_of_c: Mapping[str, Any]) -> None:
    assert answers_of_c["needy"] == {"name": "colorama"}


def test_a_forward_is_split_over_replicas(answers_of_c: Mapping[str, Any]) -> None:
    assert answers_of_c["split"] == [[2.0], [4.0], [6.0]]
