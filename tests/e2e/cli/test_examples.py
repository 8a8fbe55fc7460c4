"""The programs in examples/ do what they say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm, farm

INSTALL_S = 400.0
NO_INDEX = re.compile(r"(?i)failed to fetch|error sending request|not found in the .*registry")
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A coordinator and two workers with one slot each: a runner takes seconds for scikit-learn."""
    with farm(tmp_path_factory.mktemp("farm")) as made:
        for name in ("w1", "w2"):
            made.start_worker(name, "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
        yield made


def run_example(name: str, farm: Farm, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=folder,
        env=farm.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_sweep_finds_a_good_setting(pair: Farm, tmp_path: Path) -> None:
    *scores, best = run_example("digits_sweep.py", pair, tmp_path)

    found = {int(line.split()[0]): float(line.split()[-1]) for line in scores}
    assert [*found] == [1, 3, 5, 9, 15, 25]
    assert max(found.values()) > 0.95
    assert best.endswith(f"with {max(found.values()):.4f}")


def test_the_pipeline_gives_the_same_here_and_there(pair: Farm, tmp_path: Path) -> None:
    accuracy, same = run_example("pipeline_of_filters.py", pair, tmp_path)

    assert float(accuracy.removeprefix("held-out accuracy: ")) > 0.9
    assert same == "same labels here: True"


def test_the_training_script_runs_by_itself_and_as_a_job(pair: Farm, shell: Shell) -> None:
    (text,) = run_example("training.py", pair, shell.folder)
    shell.write("training.py", (EXAMPLES / "training.py").read_text())

    script = shell.run("run", "training.py")
    function = shell.run("run", "training.py:main", "--param", "epochs=50", "--param", "rate=0.5")

    assert (script.code, script.out.splitlines()[0]) == (0, text)
    assert function.code == 0
    result = json.loads(function.out.splitlines()[-1])
    assert abs(result["slope"] - 3) < 0.2
    assert result["loss"] < 0.02


def test_the_training_in_an_environment_of_its_own(pair: Farm, shell: Shell) -> None:
    folder = EXAMPLES / "sklearn_training"
    for each in ("train.py", "requirements.txt"):
        shell.write(each, (folder / each).read_text())
    built = shell.run("env", "prebuild", "-r", "requirements.txt", within_s=INSTALL_S)
    if built.code and NO_INDEX.search(built.err):
        pytest.skip(f"no index of packages is reachable: {built.err.splitlines()[-1]}")
    assert built.code == 0, built.err

    done = shell.run("run", "train.py:main", "-r", "requirements.txt", "--param", "folds=3")

    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert result["accuracy"] > 0.9
    assert result["prefix"] == str(pair.home / "environments" / built.out.strip())


def test_the_sweep_as_an_array_ends_with_a_table(pair: Farm, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text((EXAMPLES / "sweep" / "train.py").read_text())

    heading, *rows, last = run_example("sweep/sweep.py", pair, tmp_path)

    cells = [line.split() for line in rows]
    scores = {(row[0], row[1]): float(row[3]) for row in cells if row[2] == "succeeded"}
    assert heading.split() == ["rate", "momentum", "status", "loss"]
    assert [row[2] for row in cells] == ["succeeded"] * 4 + ["failed"] * 2
    assert min(scores.values()) == scores["0.5", "0.5"] < 0.02
    assert "diverges" in rows[-1]
    assert last.endswith("4 of 6 succeeded")
