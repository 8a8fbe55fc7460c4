"""Which modules are the user's own, so that a worker cannot import them."""

import contextlib
import sys
import sysconfig
import threading
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import cloudpickle

from lineshaft_protocol.jobs import MODULES_MAX

OURS = frozenset(
    {
        "lineshaft",
        "lineshaft_coordinator",
        "lineshaft_protocol",
        "lineshaft_records",
        "lineshaft_runtime",
        "lineshaft_worker",
    }
)

KNOWN = frozenset(sys.stdlib_module_names) | OURS | {"__main__", "cloudpickle"}
"""First parts of the names of modules that every worker has, or nobody can have."""

_NOTHING = contextlib.nullcontext()


def needed_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first parts of modules' names that a worker may lack, in order."""
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return tuple(top for top in tops if top not in KNOWN and top.isidentifier())[:MODULES_MAX]


class LocalModules:
    """Has what the user's own modules define pickled by value, and no other module's.

    A module is the user's own if it is Python source under one of the folders, and neither
    installed nor part of Python. Of those, only what is referenced is pickled.

    Args:
        folders: By default the current folder and that of the script.
    """

    # cloudpickle keeps one list for the process, so there is one at a time who changes it.
    _registering: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, folders: tuple[Path, ...] | None = None) -> None:
        self._folders = tuple(str(each.resolve()) for each in folders or _usual_folders())
        self._installed = tuple(
            str(Path(path).resolve())
            for name, path in sysconfig.get_paths().items()
            if name in {"stdlib", "platstdlib", "purelib", "platlib"}
        )
        self._found: tuple[int, tuple[ModuleType, ...]] = (0, ())

    def find(self) -> tuple[ModuleType, ...]:
        """Return those imported by now."""
        # Looking at a thousand modules takes longer than all else in a submit.
        seen_count, found = self._found
        if seen_count != len(sys.modules):
            modules = dict(sys.modules)
            found = tuple(
                module for name, module in modules.items() if self._is_local(name, module)
            )
            # Both at once, for another thread may look at any time.
            self._found = len(modules), found
        return found

    def by_value(self) -> AbstractContextManager[None]:
        """Pickle them by value inside of the block, in this and every other thread."""
        modules = self.find()
        return self._registered(modules) if modules else _NOTHING

    def is_by_value(self, module_name: str) -> bool:
        """Say whether what a module defines is pickled by value."""
        module = sys.modules.get(module_name)
        return module_name == "__main__" or module is None or module in self.find()

    @contextlib.contextmanager
    def _registered(self, modules: tuple[ModuleType, ...]) -> Generator[None]:
        with self._registering:
            known: frozenset[str] = frozenset(cloudpickle.list_registry_pickle_by_value())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            added = [
                each
                for each in modules
                if each.__name__ not in known and each.__name__ in sys.modules
            ]
            for module in added:
                cloudpickle.register_pickle_by_value(module)  # pyright: ignore[reportUnknownMemberType]
            try:
                yield
            finally:
                for module in added:
                    cloudpickle.unregister_pickle_by_value(module)  # pyright: ignore[reportUnknownMemberType]

    def _is_local(self, name: str, module: object) -> bool:
        if not isinstance(module, ModuleType) or module.__name__ != name or name == "__main__":
            return False
        file: object = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            return False
        return name.partition(".")[0] not in OURS and self.is_own_path(file)

    def is_own_path(self, file: str) -> bool:
        """Say whether a source file is the user's own: in one of the folders, and not installed."""
        if not file.endswith(".py"):
            return False
        path = str(Path(file).resolve())
        if "/site-packages/" in path or "/dist-packages/" in path:
            return False
        return _is_under(path, self._folders) and not _is_under(path, self._installed)


def _usual_folders() -> tuple[Path, ...]:
    folders = [Path.cwd()]
    main_file: object = getattr(sys.modules.get("__main__"), "__file__", None)
    if isinstance(main_file, str):
        folders.append(Path(main_file).resolve().parent)
    # A home or root folder holds everything, installed or not.
    return tuple(each for each in folders if each not in {Path("/"), Path(sys.prefix, "bin")})


def _is_under(path: str, folders: tuple[str, ...]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)
