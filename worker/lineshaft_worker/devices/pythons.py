"""The Python interpreters a machine has, found without starting them where possible."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_NAME = re.compile(r"python(\d+\.\d+)?|python3")
_PRINT_VERSION = "import platform; print(platform.python_version())"
_START_S_MAX = 2.0


def python_envs(
    environ: Mapping[str, str], *, budget_s: float = 4.0, own: Path | None = None
) -> tuple[str, ...]:
    """List interpreters such as `Python 3.11.7 (/usr/bin/python3)`, our own one first.

    The names `python3`, `python` and `pythonX.Y` in the folders of `PATH` count; several names of
    one file in one folder are one interpreter. Conda's environments follow as `conda:<name>`.

    Args:
        environ: For `PATH`, and `HOME` for conda's list.
        budget_s: Time for starting those whose version stands nowhere; the rest is left out.
        own: The running interpreter, unless it is `sys.executable`.
    """
    until = time.monotonic() + budget_s
    own = own or Path(sys.executable)
    found: list[str] = []
    seen = {_identity(own)}
    if own.name:
        found.append(f"Python {platform.python_version()} ({own})")
    for program in _candidates(environ.get("PATH", "")):
        identity = _identity(program)
        if identity in seen:
            continue
        seen.add(identity)
        version = _written_version(program) or _asked_version(program, until - time.monotonic())
        if version is not None:
            found.append(f"Python {version} ({program})")
    return (*found, *_conda(environ))


def _candidates(path: str) -> Iterator[Path]:
    for folder in dict.fromkeys(path.split(":")):
        # A relative folder depends on where we were started: never search it.
        if not folder.startswith("/"):
            continue
        try:
            names = {file.name for file in Path(folder).iterdir() if _NAME.fullmatch(file.name)}
        except OSError:
            continue
        for name in sorted(names, key=_usual_first):
            if (program := Path(folder, name)).is_file():
                yield program


def _usual_first(name: str) -> tuple[int, str]:
    usual = ("python3", "python")
    return (usual.index(name) if name in usual else len(usual), name)


def _identity(program: Path) -> tuple[Path, Path]:
    # The folder belongs to it: a virtual environment's interpreter is a link to another one.
    return program.parent.resolve(), program.resolve()


def _written_version(program: Path) -> str | None:
    """Read the version a virtual environment or a folder such as `3.12.1/bin` tells."""
    try:
        lines = (program.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition("="))
        version = re.match(r"\d+\.\d+\.\d+", value)
        if key in ("version", "version_info") and version:
            return version[0]
    home = program.resolve().parent
    version = re.fullmatch(r"(?:cpython-)?(\d+\.\d+\.\d+)(?:-.*)?", home.parent.name)
    return version[1] if version and home.name == "bin" else None


def _asked_version(program: Path, left_s: float) -> str | None:
    if left_s <= 0:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - the operator's own PATH, without a shell
            [program, "-I", "-S", "-c", _PRINT_VERSION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=min(left_s, _START_S_MAX),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = answer.stdout.decode("ascii", "replace").strip()
    return version if answer.returncode == 0 and re.match(r"\d+\.\d+", version) else None


def _conda(environ: Mapping[str, str]) -> list[str]:
    """Read conda's own list of environments; it needs no start of `conda`, which takes seconds."""
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        return []
    try:
        lines = Path(home, ".conda", "environments.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    folders = [Path(line.strip()) for line in lines if line.strip()]
    names = [
        folder.name if folder.parent.name == "envs" else "base"
        for folder in folders
        if (folder / "conda-meta").is_dir()
    ]
    return [f"conda:{name}" for name in dict.fromkeys(names)]
