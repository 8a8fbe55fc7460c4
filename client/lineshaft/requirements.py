"""What a job needs installed: read from lists, files and scripts, as people write it down."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

from lineshaft_runtime.requirements import Requirements, RequirementsError, parse_requirements

RequirementsLike: TypeAlias = "str | Path | Iterable[str] | Needs"
"""Lines as in a requirements.txt; the path of such a file, a pyproject.toml or a script; or what
was read before."""

DEPTH_MAX = 10
"""Files that include each other."""
_SUFFIXES = (".txt", ".in", ".toml", ".py")
_SCRIPT = re.compile(r"(?m)^# /// script\s*$\s(?P<content>(^#(| .*)$\s)+)^# ///\s*$")
"""PEP 723's own expression."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be installed, and for which versions of Python."""

    requirements: Requirements = field(default_factory=Requirements)
    requires_python: str | None = None

    def merged(self, other: "Needs") -> "Needs":
        """Return what is needed for both.

        Raises:
            RequirementsError: They name two indexes.
        """
        versions = [each for each in (self.requires_python, other.requires_python) if each]
        return Needs(
            self.requirements.merged(other.requirements), ",".join(dict.fromkeys(versions)) or None
        )


def read_requirements(given: RequirementsLike) -> Needs:
    """Read requirements from wherever they are.

    Raises:
        RequirementsError: They cannot be read, or mean nothing on a worker.
        OSError: A file cannot be read.
    """
    if isinstance(given, Needs):
        return given
    if isinstance(given, str):
        if not given.endswith(_SUFFIXES):
            raise RequirementsError(f"requirements take several, as a list: [{given!r}]")
        given = Path(given)
    if isinstance(given, Path):
        if not given.name.endswith(_SUFFIXES):
            raise RequirementsError(f"{given} is none of {', '.join(_SUFFIXES)}")
        return _read_file(given, 0)
    lines = list(given)
    for line in lines:
        if not isinstance(line, str):  # pyright: ignore[reportUnnecessaryIsInstance] - from users
            raise RequirementsError(f"requirements are texts, not {type(line).__name__}")
    return Needs(parse_requirements(lines))


def read_script(text: str) -> Needs:
    """Read what a script says it needs, by PEP 723; nothing if it says nothing.

    Raises:
        RequirementsError: What it says cannot be read.
    """
    found = list(_SCRIPT.finditer(text))
    if not found:
        return Needs()
    if len(found) > 1:
        raise RequirementsError("the script has more than one '# /// script' block")
    lines = found[0]["content"].splitlines(keepends=True)
    data = _toml("".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))
    return _of_table(data)


def _read_file(path: Path, depth: int) -> Needs:
    if depth > DEPTH_MAX:
        raise RequirementsError(f"{path}: files include each other without end")
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".py":
        return read_script(text)
    if path.suffix == ".toml":
        return _project(path, text)
    lines: list[str] = []
    needs = Needs()
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(?:-r|--requirement)[\s=]*(\S+)\s*(?:#.*)?", line)
        if match is None:
            lines.append(line)
        else:
            needs = needs.merged(_read_file(path.parent / match[1], depth + 1))
    try:
        return needs.merged(Needs(parse_requirements(lines)))
    except RequirementsError as error:
        raise RequirementsError(f"{path}: {error}") from None


def _project(path: Path, text: str) -> Needs:
    data = _toml(text, str(path))
    project = data.get("project")
    if not isinstance(project, Mapping):
        raise RequirementsError(f"{path} has no [project] with dependencies")
    tool = cast("dict[str, dict[str, object]]", data.get("tool", {}))
    if tool.get("uv", {}).get("sources"):
        raise RequirementsError(
            f"{path} takes packages from [tool.uv.sources], which workers do not know; "
            "write what they should install: uv export --no-emit-project -o requirements.txt"
        )
    return _of_table(cast("Mapping[str, object]", project))


def _of_table(table: Mapping[str, object]) -> Needs:
    dependencies = table.get("dependencies", [])
    python = table.get("requires-python")
    if not isinstance(dependencies, list) or not isinstance(python, str | None):
        raise RequirementsError("dependencies are a list, and requires-python is a text")
    lines = [str(each) for each in cast("list[object]", dependencies)]
    return Needs(parse_requirements(lines), python)


def _toml(text: str, where: str = "the script's block") -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequirementsError(f"{where} is no TOML: {error}") from error
