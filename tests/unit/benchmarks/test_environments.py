"""Environments of peers: compiled when they are made, and made anew for another Python."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.environments import Environments
from benchmarks.systems import Kind

UV = """#!/bin/sh
echo "$@" >> {said}
for last; do :; done
if [ "$1" = venv ]; then mkdir -p "$last/bin"; fi
"""
RAY = Kind(module="ray", environment="ray", requirements=("ray==2.0",))
ASKS_WHETHER_IT_COMPILES = "import sys; print(sys.dont_write_bytecode)"
MEASURES = f"""
import argparse, subprocess, sys
from pathlib import Path
from benchmarks.__main__ import run

chosen = argparse.Namespace(cache=Path(sys.argv[1]), rounds=1, budget=1.0)
next(run(chosen, [], []))
subprocess.run([sys.executable, "-c", {ASKS_WHETHER_IT_COMPILES!r}], check=True)
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a uv was asked for that installs nothing."""
    tools, said = tmp_path / "tools", tmp_path / "said"
    tools.mkdir()
    uv = tools / "uv"
    uv.write_text(UV.format(said=said))
    uv.chmod(0o700)
    # Where no other uv stands beside it.
    (tools / "python").symlink_to(Path(sys.executable).resolve())
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    return said


def test_what_is_installed_is_compiled_and_is_installed_once(said: Path, tmp_path: Path) -> None:
    python = Environments(tmp_path / "cache").python(RAY)
    again = Environments(tmp_path / "cache").python(RAY)

    made, installed = said.read_text().splitlines()
    assert made.startswith(f"venv --quiet --clear --python {sys.executable} ")
    assert installed.startswith(
        f"pip install --quiet --compile-bytecode --python {python} ray==2.0"
    )
    assert python == again


def test_another_python_and_other_requirements_make_another_environment(
    said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = Environments(tmp_path / "cache")
    places = [environments.python(RAY)]
    places.append(environments.python(replace(RAY, requirements=("ray==2.1",))))
    other = said.with_name("other")
    other.touch()
    beside = said.parent / "tools" / "python"
    beside.unlink()
    beside.symlink_to(other)
    places.append(environments.python(RAY))
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    places.append(environments.python(RAY))

    assert len(set(places)) == 4


def test_what_is_measured_keeps_what_it_compiles(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    root = Path(__file__).parents[3]

    done = subprocess.run(
        [sys.executable, "-c", MEASURES, tmp_path],
        env=environ,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "False\n"
