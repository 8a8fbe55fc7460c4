"""The published client of the seed plan protocol (PyPI: somatize), installed beside us and run.

It is built for CPython 3.12 and 3.13 alone, and a filter runs under the minor version that pickled
it, so the worker gets such a Python as well. Nothing of the client comes into our own environment.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from uv import find_uv_bin

PYTHONS: Final = ("3.12", "3.13")
ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = ("protocol", "runtime", "records", "coordinator", "worker", "client")


def python_for_the_client() -> str:
    """A Python for which there are wheels of the client; skips where there is none."""
    for version in PYTHONS:
        for candidate in _candidates(version):
            if _version_of(candidate) == version:
                return str(candidate)
    pytest.skip("the client needs CPython 3.12 or 3.13: uv python install 3.12")


def _candidates(version: str) -> list[Path]:
    found = [Path(sys.executable)]
    managed = _say([find_uv_bin(), "python", "find", "--managed-python", version])
    found += [Path(managed)] if managed else []
    on_path = shutil.which(f"python{version}")
    found += [Path(on_path)] if on_path else []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [*found, *sorted(pyenv.glob(f"{version}.*/bin/python"))]


def _version_of(python: Path) -> str | None:
    return _say([str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])


def _say(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def python_for_the_worker(folder: Path, python: str) -> tuple[str, dict[str, str]]:
    """A Python of the same version with what our worker needs, and its environment variables."""
    if Path(python) == Path(sys.executable):
        return python, {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["worker"]]
    sources = os.pathsep.join(str(ROOT / each) for each in _SOURCES)
    return str(_made(folder, python, needed)), {"PYTHONPATH": sources}


@dataclass(frozen=True)
class PlanClient:
    """The client in one version, with the program that uses it."""

    python: Path
    home: Path

    def answers(self, url: str, token: str, cases: Sequence[str]) -> dict[str, Any]:
        """Run the program; what each case gave."""
        program = Path(__file__).with_name("plan_client_program.py")
        done = subprocess.run(
            [self.python, program, url, token, *cases],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), "PYTHONPATH": ""},
        )
        assert done.returncode == 0, done.stderr
        answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answers


def plan_client(folder: Path, python: str, version: str) -> PlanClient:
    """Install the client; skips where the registry cannot be reached or has no such wheel."""
    needed = [f"somatize=={version}", "cloudpickle", "numpy", "colorama"]
    return PlanClient(_made(folder, python, needed), folder)


def _made(folder: Path, python: str, packages: Sequence[str]) -> Path:
    uv, made = find_uv_bin(), folder / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "-p", python, folder], check=True, timeout=60)
    command = [uv, "pip", "install", "-q", "--only-binary", ":all:", "-p", made, *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode != 0:
        pytest.skip(f"{packages[0]} cannot be installed here: {done.stderr.strip()[-300:]}")
    return made
