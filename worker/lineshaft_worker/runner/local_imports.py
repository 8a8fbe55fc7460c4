"""The user's own modules, importable while a function runs that brought them, and no longer.

A warm runner serves many functions, maybe of several users, and two of them may bring different
modules of one name. So whatever was imported from the files of one function is put aside before a
function with other files begins, and taken out again when the first one returns.
"""

import importlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import cast

from lineshaft_runtime.carried import Carried


class LocalImports:
    """Knows which files are importable now.

    Args:
        folder: Of the runner; it is deleted with it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._current: str | None = None
        self._aside: dict[str, dict[str, ModuleType]] = {}
        """What was imported from the files of a digest that is not the current one."""

    def ready(self, loaded: object) -> object:
        """Make importable what a function brought, and only that; return the function.

        Raises:
            OSError: The files cannot be written.
            Exception: Whatever unpickling the function raises.
        """
        if not isinstance(loaded, Carried):
            if self._current is not None:
                self._switch(None)
            return loaded
        if self._current != loaded.digest:
            self._switch(None)
            self._write(loaded)
            self._switch(loaded.digest)
        function = pickle.loads(loaded.function)  # noqa: S301 - a runner is where it is done
        self._relocate(function, loaded)
        return cast("Callable[..., object]", function)

    def _switch(self, digest: str | None) -> None:
        if self._current is not None:
            place = str(self._place(self._current))
            sys.path[:] = [each for each in sys.path if each != place]
            gone = {name: module for name, module in sys.modules.items() if _is_in(module, place)}
            for name in gone:
                del sys.modules[name]
            self._aside[self._current] = gone
        self._current = digest
        if digest is not None:
            sys.path.insert(0, str(self._place(digest)))
            sys.modules.update(self._aside.pop(digest, {}))
        importlib.invalidate_caches()

    def _write(self, carried: Carried) -> None:
        place = self._place(carried.digest)
        if place.exists():
            return
        draft = place.with_suffix(".part")
        for name, content in carried.files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        draft.rename(place)

    def _place(self, digest: str) -> Path:
        return self._folder / f"modules-{digest[:32]}"

    def _relocate(self, function: object, carried: Carried) -> None:
        """Have a function that came by value find what lies beside its own file."""
        # Functions of one module share their globals, so one is enough.
        inner: object = getattr(function, "function", function)
        if isinstance(inner, FunctionType):
            name = carried.places.get(str(inner.__globals__.get("__file__")))
            if name is not None:
                inner.__globals__["__file__"] = str(self._place(carried.digest) / name)


def _is_in(module: object, place: str) -> bool:
    file: object = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file.startswith(f"{place}/")
    # A package without a file of its own has only folders.
    folders: object = getattr(module, "__path__", None)
    return any(str(each).startswith(f"{place}/") for each in folders or ())  # type: ignore[attr-defined]  # any iterable
