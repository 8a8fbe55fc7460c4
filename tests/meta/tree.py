"""The files of this repository, as the checks see them."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = (
    "protocol/lineshaft_protocol",
    "runtime/lineshaft_runtime",
    "records/lineshaft_records",
    "coordinator/lineshaft_coordinator",
    "worker/lineshaft_worker",
    "client/lineshaft",
)

SKIPPED = {"__pycache__", "node_modules", "dist", "build"}
TEXTS = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".service",
    ".sbatch",
    ".sh",
    ".c",
    ".html",
    ".js",
    ".css",
}


def files_below(folder: Path) -> Iterator[Path]:
    """Every file that belongs to the project, in a stable order."""
    for path in sorted(folder.iterdir()):
        if path.name in SKIPPED or (path.name.startswith(".") and path.name != ".ci"):
            continue
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def kept_files() -> list[Path]:
    """What git keeps; in an unpacked source distribution, everything."""
    if not (ROOT / ".git").exists():
        return list(files_below(ROOT))
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    kept = [ROOT / name for name in listed.stdout.split("\0") if name]
    # A file that somebody is just moving or removing is still in git's list.
    return [path for path in kept if path.is_file()]


def sources() -> list[Path]:
    """The Python files of the packages."""
    return [path for name in PACKAGES for path in files_below(ROOT / name) if path.suffix == ".py"]


def programs(*folders: str) -> list[Path]:
    """The Python files of other folders."""
    there = [ROOT / folder for folder in folders if (ROOT / folder).is_dir()]
    return [path for folder in there for path in files_below(folder) if path.suffix == ".py"]


def documents() -> list[Path]:
    """The Markdown files for readers."""
    return [path for path in files_below(ROOT) if path.suffix == ".md"]


def short(path: Path) -> str:
    """The path as a reader of a failure wants it."""
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(), filename=str(path))
