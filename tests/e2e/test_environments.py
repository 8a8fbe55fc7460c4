"""Jobs get what they require, from their client to their process, without any index."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from tests.e2e.farm import Farm, farm, until
from tests.integration.environments.wheels import make_wheel

import lineshaft
from lineshaft import Client
from lineshaft.errors import EnvironmentFailedError, InvalidJobError

SCRIPT = b"""
import sys
import lstiny
from lineshaft import run

def main():
    run.log({"seen": 1.0})
    return lstiny.version, sys.prefix
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    make_wheel(folder, "lstiny", "1.5")
    make_wheel(folder, "lsother", "2.0")
    return folder


@pytest.fixture
def here(tmp_path: Path, packages: Path) -> Iterator[Farm]:
    with farm(tmp_path / "farm") as made:
        made.start_worker("w1", "--slots", "2", "--find-links", str(packages))
        yield made


@pytest.fixture
def client(here: Farm) -> Iterator[Client]:
    with here.client() as opened:
        here.until_ready(opened)
        yield opened


def test_a_job_has_what_it_requires_and_tells_how_it_came(client: Client) -> None:
    job = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["lstiny"])

    version, prefix = cast("tuple[str, str]", job.result(timeout=60))
    again = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["LSTiny # same"])

    assert version == "1.5"
    assert prefix != sys.prefix
    assert again.result(timeout=60) == (version, prefix)
    events = list(job.events())
    told = [cast("Any", event) for event in events if hasattr(event, "told")]
    numbers = [event.told.seq for event in told]
    assert numbers == list(range(1, len(numbers) + 1))
    assert type(told[-1]).__name__ == "Metrics"
    assert {event.phase for event in told[:-1]} >= {"resolve", "install"}


def test_environments_that_were_made_and_found_are_counted_apart(
    here: Farm, client: Client
) -> None:
    def counts() -> dict[str, int]:
        text = httpx.get(f"{here.url}/metrics").text
        found = re.findall(r'\nlineshaft_env_build_seconds_count{hit="(\w+)"} (\d+)\n', text)
        return {hit: int(count) for hit, count in found}

    assert counts() == {"true": 0, "false": 0}
    for number in range(3):
        client.run(
            "job.py:main", files={"job.py": SCRIPT}, requirements=["lstiny"], name=f"j{number}"
        ).result(timeout=60)

    # The worker tells what it found with a heartbeat.
    until(lambda: counts() == {"true": 2, "false": 1}, within_s=60)


def test_a_function_has_what_it_requires(client: Client) -> None:
    def version() -> str:
        import lstiny

        return str(lstiny.version)

    future = client.submit(version, requirements=["lstiny"])  # type: ignore[call-arg]

    assert future.result(60) == "1.5"


def test_a_script_says_itself_what_it_needs(client: Client) -> None:
    block = b'# /// script\n# requires-python = ">=3.11"\n# dependencies = ["lstiny"]\n# ///\n'

    job = client.run("job.py:main", files={"job.py": block + SCRIPT})

    assert cast("tuple[str, str]", job.result(timeout=60))[0] == "1.5"


def test_a_pipeline_has_what_its_filters_require_and_keeps_its_runner(client: Client) -> None:
    class Versions(lineshaft.Filter):
        requirements = ("lstiny==1.5",)

        def fit(self, x: object) -> str:
            import lstiny

            return str(lstiny.version)

        def forward(self, x: object, state: str) -> object:
            import os

            import lsother

            return state, str(lsother.version), os.getpid()

    pipeline = lineshaft.Pipeline([("versions", Versions())], requirements=["lsother"])

    fitted = client.fit(pipeline, 1)
    first, second = (cast("tuple[str, str, int]", client.forward(fitted, 1)) for _ in range(2))

    assert first[:2] == ("1.5", "2.0")
    assert first == second


def test_what_cannot_be_had_fails_with_the_resolvers_words(client: Client) -> None:
    job = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["lstiny==7"])

    with pytest.raises(EnvironmentFailedError, match="lstiny==7") as failed:
        job.result(timeout=60)

    assert failed.value.last_lines


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({}, "installed on its worker"),
        ({"requirements": []}, "installed by its requirements"),
        ({"requirements": ["lsother"]}, "installed by its requirements"),
    ],
)
def test_a_module_that_is_not_there_is_named_and_nothing_of_the_job_runs(
    client: Client, tmp_path: Path, wanted: dict[str, Any], where: str
) -> None:
    source = f"from lineshaft import run\nimport lstiny\nopen({str(tmp_path / 'ran')!r}, 'w')\n"
    job = client.run("job.py", files={"job.py": source}, **wanted)

    with pytest.raises(EnvironmentFailedError, match=f"module lstiny cannot be imported.*{where}"):
        job.result(timeout=60)

    assert not (tmp_path / "ran").exists()
    began = [each for each in job.story() if each["type"] == "AttemptBegan"]  # type: ignore[index,call-overload]
    assert began == []


def test_an_executable_file_is_executable_in_the_job(client: Client, tmp_path: Path) -> None:
    program = tmp_path / "say.sh"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    source = "import subprocess\ndef main():\n    return subprocess.check_output('./say.sh')"
    files = {"job.py": source.encode(), "say.sh": program}

    assert client.run("job.py:main", files=files).result(timeout=60) == b"hello\n"


def test_an_entry_point_that_is_not_there_is_refused_before_anything_is_sent(
    client: Client,
) -> None:
    with pytest.raises(InvalidJobError, match=r"has no 'mian'; it has .*main"):
        client.run("job.py:mian", files={"job.py": SCRIPT})
    with pytest.raises(InvalidJobError, match=r"no file 'jobs.py'; the job has job.py"):
        client.run("jobs.py", files={"job.py": SCRIPT})

    assert client.jobs() == []


def test_a_cancelled_build_leaves_no_process_and_no_folder(
    here: Farm, client: Client, packages: Path
) -> None:
    files = {f"lslarge_{n}.py": b"x = 1\n" * 50 for n in range(4000)}
    make_wheel(packages, "lslarge", files=files)
    root = here.home / "environments"
    job = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["lslarge"])
    until(lambda: list(root.glob(".partial-*/lib/*/*/lslarge*")), what="the build goes on")
    until(lambda: job.status == "preparing", what="the job is said to be prepared")
    why = cast("dict[str, Any]", client.why(job.id))

    job.cancel()

    until(lambda: job.status == "cancelled", what="the job is cancelled")
    until(lambda: not list(root.glob(".partial-*")), what="the half-built folder is gone")
    assert "prepares its environment" in why["reasons"][0]
    done = client.run("job.py:main", files={"job.py": SCRIPT}, requirements=["lstiny"])
    assert done.result(timeout=60)
