"""`lineshaft env`: the environments of a worker's machine, seen and removed by its operator."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm, farm, until
from tests.integration.environments.wheels import make_wheel

WAITS = "import time, pathlib, lstiny\nwhile not pathlib.Path({path!r}).exists(): time.sleep(0.01)"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    make_wheel(folder, "lstiny", "1.5")
    make_wheel(folder, "lsother", "2.0")
    return folder


@pytest.fixture
def box(tmp_path: Path, packages: Path) -> Iterator[Shell]:
    """A shell on the machine of a worker."""
    with farm(tmp_path / "farm") as made:
        made.start_worker("w1", "--slots", "2", "--find-links", str(packages))
        with made.client() as client:
            made.until_ready(client)
        yield shell_of(made, tmp_path)


def shell_of(made: Farm, folder: Path) -> Shell:
    return Shell(folder, made.environ)


def test_an_operator_builds_ahead_looks_and_removes_what_is_not_in_use(
    box: Shell, packages: Path
) -> None:
    links = ("--find-links", str(packages))
    built = box.run("env", "prebuild", "--with", "lstiny", *links, "--json")
    again = box.run("env", "prebuild", "--with", "LSTiny", *links, "--json")
    other = box.run("env", "prebuild", "--with", "lsother", *links)
    assert (built.code, other.code) == (0, 0), built.err + other.err
    key = built.document["key"]
    assert (built.document["is_new"], again.document) == (True, {"key": key, "is_new": False})

    end = box.folder / "end"
    box.write("job.py", WAITS.format(path=str(end)))
    job = box.run("submit", "job.py", "--with", "lstiny").out.strip()
    until(
        lambda: box.run("job", job, "--json").document["status"] == "running",
        what="the job runs",
    )
    listed = {each["key"]: each for each in box.run("env", "list", "--json").document}
    refused = box.run("env", "prune", key)
    pruned = box.run("env", "prune", "--all", "--json")
    shown = box.run("env", "show", key[:6])
    end.touch()

    assert {each["is_used"] for each in listed.values()} == {True, False}
    assert listed[key]["packages"] == {"lstiny": "1.5"}
    assert (refused.code, "is in use, and stays" in refused.err) == (1, True)
    assert pruned.document == {"removed": [other.out.strip()], "in_use": [key]}
    assert "lstiny==1.5" in shown.out
    assert box.run("result", job).code == 0


def test_a_recent_environment_stays_when_old_ones_go(box: Shell, packages: Path) -> None:
    built = box.run("env", "prebuild", "--with", "lstiny", "--find-links", str(packages))

    recent = box.run("env", "prune", "--older-than", "1h", "--json")
    older = box.run("env", "prune", "--older-than", "0s", "--json")

    assert recent.document["removed"] == []
    assert older.document["removed"] == [built.out.strip()]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["prune"], 2, "--older-than 7d"),
        (["prune", "--all", "--older-than", "7d"], 2, "say which"),
        (["prune", "--older-than", "soon"], 2, "write it as 12h, 7d or 4w"),
        (["show", "ffff"], 4, "lineshaft env list"),
        (["prune", "ffff"], 4, "lineshaft env list"),
        (["prebuild"], 2, "-r requirements.txt"),
        (["prebuild", "-r", "none.txt"], 2, "no file none.txt"),
        (["prebuild", "--with", "lstiny", "--python", "2.7"], 1, "asks for Python 2.7"),
    ],
)
def test_wrong_use_says_what_to_do(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    made = Farm(tmp_path)
    (made.home / "environments").mkdir(parents=True)

    done = shell_of(made, tmp_path).run("env", *arguments)

    assert (done.code, says in done.err) == (code, True), done.err


def test_without_environments_the_way_to_them_is_told(tmp_path: Path) -> None:
    done = shell_of(Farm(tmp_path), tmp_path).run("env", "list")

    assert done.code == 2
    assert "run this on a worker's machine" in done.err
