"""Whose jobs are: listed, asked for, and the same after a restart of the coordinator."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm, farm

from lineshaft import Client
from lineshaft.errors import BadNameError
from lineshaft_coordinator.server.admission import Tokens


@dataclass
class People:
    """A coordinator with two users, each with a token of the same role."""

    farm: Farm
    ann: tuple[str, str]
    bob: tuple[str, str]
    """Id and secret."""

    def client(self, who: tuple[str, str]) -> Client:
        return Client(self.farm.url, token=who[1])

    def get(self, path: str, who: tuple[str, str]) -> Any:
        url = f"http://127.0.0.1:{self.farm.port}{path}"
        return httpx.get(url, headers={"Authorization": f"Bearer {who[1]}"}).json()

    def owners(self, query: str, who: tuple[str, str]) -> dict[str, str]:
        return {job["job_id"]: job["owner"] for job in self.get(f"/api/v1/jobs{query}", who)}


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    with farm(tmp_path / "farm") as made:
        made.start_worker("w1", "--slots", "2")
        local = (made.home / "token").read_text().strip()
        tokens = Tokens(made.folder / "data", local)
        yield People(made, tokens.create("client"), tokens.create("client"))


def test_each_job_is_its_submitter_s_and_stays_so(people: People, tmp_path: Path) -> None:
    with people.client(people.ann) as ann, people.client(people.bob) as bob:
        hers, failed = ann.submit(abs, -1), ann.submit(int, "x")
        his = bob.submit(abs, -2)
        assert (hers.result(60), his.result(60)) == (1, 2)
        assert isinstance(failed.exception(60), ValueError)
        again = bob.job(failed.id).retry()
        with pytest.raises(ValueError):  # noqa: PT011 - the text is Python's
            again.result(60)
        listed = ann.jobs(owner="me")
        with pytest.raises(BadNameError):
            ann.jobs(owner="no id")
    assert people.farm.coordinator is not None
    people.farm.coordinator.terminate()
    people.farm.start_coordinator()

    everybodys = people.owners("", people.ann)
    mine = people.owners("?owner=me&limit=2", people.bob)
    theirs = people.owners(f"?owner={people.ann[0]}&status=failed", people.bob)
    about = people.get(f"/api/v1/jobs/{hers.id}", people.bob)
    shell = Shell(tmp_path, people.farm.environ)
    admins = shell.run("jobs", "--mine", "--json").document
    shown = shell.run("jobs", "--owner", people.bob[0]).out
    both = shell.run("jobs", "--owner", people.bob[0], "--mine")
    shell.end()

    ann_id, bob_id = people.ann[0], people.bob[0]
    whose = {hers.id: ann_id, failed.id: ann_id, his.id: bob_id, again.id: bob_id}
    assert everybodys == whose
    assert {job["job_id"] for job in listed} == {hers.id, failed.id}  # type: ignore[union-attr, index, call-overload]
    assert mine == {his.id: bob_id, again.id: bob_id}
    assert theirs == {failed.id: ann_id}
    assert about["owner"] == ann_id
    assert admins == []
    assert his.id in shown
    assert again.id in shown
    assert hers.id not in shown
    assert "give one of them" in both.err
