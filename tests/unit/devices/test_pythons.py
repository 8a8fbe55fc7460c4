from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from lineshaft_worker.devices.pythons import python_envs

OWN = f"Python {platform.python_version()} ({sys.executable})"


def interpreter(file: Path, script: str) -> Path:
    """Write a program to be found; most must not be started and would leave a trace."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_our_own_interpreter_comes_first_and_once() -> None:
    folder = str(Path(sys.executable).parent)

    envs = python_envs({"PATH": folder})

    assert envs[0] == OWN
    assert envs.count(OWN) == 1


def test_a_version_that_is_written_down_needs_no_start(tmp_path: Path) -> None:
    started = tmp_path / "started"
    home = interpreter(tmp_path / "3.12.4" / "bin" / "python3", f"touch {started}")
    venv = interpreter(tmp_path / "venv" / "bin" / "python", f"touch {started}")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /x\nversion = 3.13.1\n")

    envs = python_envs({"PATH": f"{home.parent}:{venv.parent}"})

    assert envs == (OWN, f"Python 3.12.4 ({home})", f"Python 3.13.1 ({venv})")
    assert not started.exists()


def test_a_version_that_stands_nowhere_is_asked_for(tmp_path: Path) -> None:
    program = interpreter(tmp_path / "bin" / "python3.12", "echo 3.12.9")

    assert python_envs({"PATH": str(program.parent)}) == (OWN, f"Python 3.12.9 ({program})")


def test_several_names_of_one_interpreter_are_one(tmp_path: Path) -> None:
    program = interpreter(tmp_path / "bin" / "python3.12", "echo 3.12.9")
    for name in ("python", "python3"):
        (program.parent / name).symlink_to(program.name)

    assert python_envs({"PATH": str(program.parent)}) == (
        OWN,
        f"Python 3.12.9 ({program.parent / 'python3'})",
    )


@pytest.mark.parametrize("script", ["exit 1", "echo oops", "echo 3.12.9; exit 3", ""])
def test_a_program_that_is_no_python_is_left_out(tmp_path: Path, script: str) -> None:
    program = interpreter(tmp_path / "bin" / "python3", script)

    assert python_envs({"PATH": str(program.parent)}) == (OWN,)


def test_other_programs_with_similar_names_are_never_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    for name in ("python3-config", "python3.12-dbg", "ipython3", "pythonw"):
        interpreter(tmp_path / "bin" / name, f"touch {started}; echo 3.12.9")

    assert python_envs({"PATH": str(tmp_path / "bin")}) == (OWN,)
    assert not started.exists()


def test_a_program_that_hangs_costs_no_more_than_the_time_there_is(tmp_path: Path) -> None:
    program = interpreter(tmp_path / "bin" / "python3", "exec tail -f /dev/null")

    assert python_envs({"PATH": str(program.parent)}, budget_s=0.2) == (OWN,)


def test_missing_and_relative_folders_are_passed_over() -> None:
    assert python_envs({"PATH": "/nowhere-at-all::bin:."}) == (OWN,)


def test_condas_environments_are_named(tmp_path: Path) -> None:
    base, lab = tmp_path / "conda", tmp_path / "conda" / "envs" / "lab"
    for folder in (base, lab):
        (folder / "conda-meta").mkdir(parents=True)
    (tmp_path / ".conda").mkdir()
    gone = tmp_path / "conda" / "envs" / "gone"
    (tmp_path / ".conda" / "environments.txt").write_text(f"{base}\n{lab}\n{gone}\n\n")

    assert python_envs({"HOME": str(tmp_path)}) == (OWN, "conda:base", "conda:lab")
