"""Which Python versions jobs can have here, and which one a job gets."""

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineshaft_protocol.errors import LineshaftError

OLDEST = (3, 11)
"""What our own code inside of jobs needs."""
_FOUND = re.compile(r"Python (\d+\.\d+\.\d+) \((.+)\)")
_CLAUSE = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+){0,2})(\.\*)?")


class NoSuchPythonError(LineshaftError):
    """No interpreter of this machine is of the version that a job asks for."""

    def __init__(self, wanted: str, there: Sequence[str]) -> None:
        super().__init__(
            f"the job asks for Python {wanted}; this worker has {', '.join(there) or 'none'}. "
            "Ask for one of them, or install it there: uv python install"
        )
        self.wanted, self.there = wanted, tuple(there)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this machine."""

    version: str
    """As 3.12.1."""
    path: Path

    @property
    def minor(self) -> str:
        """As 3.12."""
        return ".".join(self.version.split(".")[:2])


def find_interpreters(inventory: Sequence[str], home: Path) -> tuple[Interpreter, ...]:
    """Return one interpreter for each version that jobs may use, our own first.

    Args:
        inventory: As `devices.pythons.python_envs` returns it.
        home: Whose folders of uv and pyenv are searched as well.
    """
    own = Interpreter(platform.python_version(), Path(sys.executable))
    found = {own.minor: own}
    for each in (*_of_inventory(inventory), *_of_folders(home)):
        if _numbers(each.version) >= OLDEST:
            found.setdefault(each.minor, each)
    rest = sorted((x for x in found.values() if x is not own), key=lambda x: _numbers(x.version))
    return (own, *reversed(rest))


def choose(
    interpreters: Sequence[Interpreter], *, minor: str | None, requires: str | None
) -> Interpreter:
    """Return the first that a job can run with: ours, or else the newest.

    Args:
        interpreters: In the order of preference.
        minor: The only version possible, as 3.12.
        requires: Versions as in a project's `requires-python`.

    Raises:
        NoSuchPythonError: None is of a version that is wanted.
    """
    for each in interpreters:
        if (minor is None or each.minor == minor) and is_allowed(each.version, requires or ""):
            return each
    wanted = " and ".join(part for part in (minor, requires) if part)
    raise NoSuchPythonError(wanted or "any", [each.version for each in interpreters])


def is_allowed(version: str, requires: str) -> bool:
    """Say whether a version is among those of a text such as `>=3.11,<3.14`.

    What cannot be read allows nothing: a job never gets a Python that was not meant.
    """
    ours = _numbers(version)
    for clause in filter(None, (part.strip() for part in requires.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is None or not _holds(ours, match[1], _numbers(match[2]), is_any=bool(match[3])):
            return False
    return True


def _holds(ours: tuple[int, ...], sign: str, theirs: tuple[int, ...], *, is_any: bool) -> bool:
    begins = ours[: len(theirs)] == theirs
    whole = (*theirs, 0, 0)[:3]
    match sign:
        case "==":
            return begins if is_any else ours == whole
        case "!=":
            return not begins if is_any else ours != whole
        case "~=":
            return ours >= whole and ours[: len(theirs) - 1] == theirs[:-1]
        case ">=":
            return ours >= whole
        case "<=":
            return ours <= whole
        case ">":
            return ours > whole
        case _:
            return ours < whole


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _of_inventory(inventory: Sequence[str]) -> Iterator[Interpreter]:
    for line in inventory:
        if match := _FOUND.fullmatch(line):
            yield Interpreter(match[1], Path(match[2]))


def _of_folders(home: Path) -> Iterator[Interpreter]:
    """Look where uv and pyenv install: the folder's name is the version."""
    for folder, name in (
        (home / ".local/share/uv/python", r"cpython-(\d+\.\d+\.\d+)-.*"),
        (home / ".pyenv/versions", r"(\d+\.\d+\.\d+)"),
    ):
        try:
            versions = sorted(folder.iterdir())
        except OSError:
            continue
        for each in versions:
            match = re.fullmatch(name, each.name)
            if match and "freethreaded" not in each.name and (each / "bin/python3").exists():
                yield Interpreter(match[1], each / "bin/python3")
