"""An environment for each peer, made by uv from PyPI."""

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.systems import Kind

INSTALL_S = 600.0
OURS = ("numpy", "psutil")
"""What the harness needs in every environment."""


class CannotInstallError(Exception):
    """A peer is not to be had; the text says why."""


class Environments:
    """Virtual environments below one folder, made when asked for and kept.

    Args:
        folder: Where they are; another Python or other requirements make another one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._failed: dict[str, str] = {}

    def python(self, kind: Kind) -> str:
        """The interpreter for this system.

        Raises:
            CannotInstallError: It could not be installed.
        """
        if kind.environment is None:
            return sys.executable
        if kind.environment in self._failed:
            raise CannotInstallError(self._failed[kind.environment])
        place = self.folder / _name(kind.environment, kind.requirements)
        python = place / "bin" / "python"
        if not (place / "compiled").exists():
            try:
                _install(place, python, kind.requirements)
            except CannotInstallError as error:
                self._failed[kind.environment] = str(error)
                raise
        return str(python)

    def version(self, kind: Kind) -> str:
        """What was installed."""
        if not kind.requirements:
            return ""
        program = (
            f"from importlib.metadata import version; print(version({kind.requirements[0]!r}))"
        )
        done = subprocess.run(
            [self.python(kind), "-c", program], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()


def _name(environment: str, requirements: tuple[str, ...]) -> str:
    interpreter = str(Path(sys.executable).resolve())
    made_of = "\n".join([interpreter, platform.python_build()[1], *requirements, *OURS])
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:8]
    return f"{environment}-{platform.python_version()}-{digest}"


def _install(place: Path, python: Path, requirements: tuple[str, ...]) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise CannotInstallError("uv is not there: pip install uv")
    print(f"installing {', '.join(requirements)} into {place}", file=sys.stderr, flush=True)
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)])
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
    _run([*install, *requirements, *OURS])
    (place / "compiled").touch()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired as error:
        raise CannotInstallError(f"not installed within {INSTALL_S:g} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise CannotInstallError(f"not installed: {lines[-1][:200]}")
