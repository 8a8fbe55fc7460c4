"""Whether modules can be imported in an environment, found out by looking, without starting it."""

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

_HARMLESS_PTH = frozenset({"lineshaft.pth", "_virtualenv.pth", "distutils-precedence.pth"})


def missing_here(names: Iterable[str]) -> list[str]:
    """Return those that this worker's own Python cannot import."""
    missing = [name for name in names if not _is_found(name)]
    if missing:
        # What was installed this moment may not have been seen yet.
        importlib.invalidate_caches()
        missing = [name for name in missing if not _is_found(name)]
    return missing


def missing_in(environment: Path, names: Iterable[str], *, support: Path | None) -> list[str]:
    """Return those that the Python of an environment cannot import; none where that is not sure.

    Args:
        environment: Its folder.
        names: First parts of the names of modules.
        support: Folder of our own code for it.

    Raises:
        OSError: It cannot be read.
    """
    known = set(sys.stdlib_module_names) | set(sys.builtin_module_names)
    for packages in (environment / "lib").glob("python3.*/site-packages"):
        if any(each.name not in _HARMLESS_PTH for each in packages.glob("*.pth")):
            return []  # Its lines may name any folder, or be any program.
        known |= _names_in(packages)
        for standard in _standard_folders(environment, packages.parent.name):
            known |= _names_in(standard)
    if support is not None:
        known |= _names_in(support)
    return [name for name in names if name not in known]


def _is_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return True  # Something odd is there: its import will say what.


def _standard_folders(environment: Path, python: str) -> list[Path]:
    """Return where the modules of the interpreter itself are, which may be another than ours."""
    for line in (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "home":
            lib = Path(value.strip()).parent / "lib" / python
            return [lib, lib / "lib-dynload"]
    return []


def _names_in(folder: Path) -> set[str]:
    # `six.py`, `_cffi.cpython-311-x86_64-linux-gnu.so` and the folder of a package.
    return {each.name.partition(".")[0] for each in folder.iterdir()} if folder.is_dir() else set()
