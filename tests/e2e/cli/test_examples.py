"""The programs in examples/ do what they say."""

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.cli.shell import Shell
from tests.e2e.farm import Farm

EXAMPLES = Path(__file__).parents[3] / "examples"


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
