"""Users' type checkers see what our documentation says."""

import subprocess
import sys
from pathlib import Path

from tests.meta.tree import ROOT

USAGE = Path(__file__).with_name("usage.py")


def checked(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--explicit-package-bases", *map(str, files)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_public_api_has_the_types_that_its_users_rely_on() -> None:
    run = checked(USAGE)

    ours = [line for line in run.stdout.splitlines() if line.startswith("tests/typing/usage.py")]
    assert ours == []
    assert "error" not in run.stderr


def test_the_checker_would_see_a_type_that_changed(tmp_path: Path) -> None:
    changed = tmp_path / "usage_changed.py"
    text = USAGE.read_text()
    promise = "assert_type(future.result(), float)"
    assert promise in text
    changed.write_text(text.replace(promise, "assert_type(future.result(), object)"))

    run = checked(changed)

    assert run.returncode != 0
    assert 'Expression is of type "float", not "object"' in run.stdout
