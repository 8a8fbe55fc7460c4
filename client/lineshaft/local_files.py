"""Finds the files of the user's own modules that a function imports only when it is called.

What a function refers to when it is sent goes by value. An `import` inside of it, or of what goes
by value with it, is seen only in the code: the files it would find here are sent along, with all
that their own sources import, the whole folder of a package, and the data files beside a module
that its source names.
"""

import ast
import dis
import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import cast

from lineshaft.errors import CannotPackError
from lineshaft.job_files import read_files
from lineshaft.local_modules import OURS, LocalModules
from lineshaft_runtime.carried import Carried

FILES_BYTES_MAX = 64 * 1024 * 1024
_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_NAME_LENGTH_MAX = 200


def carried(
    function: Callable[..., object] | None,
    modules: LocalModules,
    also: Sequence[type | FunctionType] = (),
) -> Carried | None:
    """Return the files that a function needs, to be put around it; None if it needs none.

    Args:
        function: What is called; None for none.
        modules: The user's own.
        also: What else goes by value with the job.

    Raises:
        CannotPackError: They are more than a function may bring.
    """
    found = _Found(modules)
    inner: object = getattr(function, "function", function)
    seen = set[int]()
    for root in (inner, *also):
        for part, names in _reachable(root, modules, seen):
            found.scan(part, names)
    if not found.files:
        return None
    size = sum(map(len, found.files.values()))
    if size > FILES_BYTES_MAX:
        text = f"its local modules have {size} bytes; the limit is {FILES_BYTES_MAX}"
        inner = also[0] if function is None else inner
        name = f"function {getattr(inner, '__qualname__', inner)!r}"
        raise CannotPackError(name, type(inner).__name__, text)
    digest = hashlib.sha256()
    for name, content in sorted(found.files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return Carried(b"", found.files, found.places, digest.hexdigest())


@dataclass
class _Found:
    modules: LocalModules
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    places: dict[str, str] = field(default_factory=dict[str, str])
    _seen: set[str] = field(default_factory=set[str])

    def scan(self, code: CodeType, names: dict[str, object]) -> None:
        """Take what the code imports, or looks for beside its own file."""
        package = names.get("__package__")
        for level, name, wanted in _imports(code):
            top = name if not level else f"{package or ''}.{name}"
            for each in (top, *(wanted if not top.strip(".") else ())):
                self.take(each.lstrip(".").partition(".")[0])
        file = names.get("__file__")
        if "__file__" in code.co_names and isinstance(file, str):
            self._take_place(file, str(package or ""))

    def take(self, name: str) -> None:
        """Take a module or package by the first part of its name, if it is the user's own."""
        if not name or name in self._seen or name in OURS:
            return
        self._seen.add(name)
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # As for `__main__`, which has none.
            return
        if spec is None:
            return
        folders = list(spec.submodule_search_locations or ())
        if folders and self.modules.is_own_path(f"{folders[0]}/__init__.py"):
            self._take_folder(Path(folders[0]), name)
        elif not folders and spec.origin and self.modules.is_own_path(spec.origin):
            self._take_file(Path(spec.origin))

    def _take_folder(self, folder: Path, name: str) -> None:
        for file_name, content in read_files({name: folder}).contents:
            self.files[file_name] = content
            self.places[str(folder.parent / file_name)] = file_name
            if file_name.endswith(".py"):
                self._follow(content)

    def _take_file(self, path: Path) -> None:
        content = path.read_bytes()
        self.files[path.name] = content
        self.places[str(path)] = path.name
        texts = [each for each in self._follow(content) if _is_below(each)]
        # As in `folder / "data" / "words.txt"`.
        within = [each for each in texts if (path.parent / each).is_dir()]
        for name in (*texts, *(f"{folder}/{each}" for folder in within for each in texts)):
            beside = path.parent / name
            if beside.is_file() and beside.suffix != ".py":
                self.files.setdefault(name, beside.read_bytes())

    def _take_place(self, file: str, package: str) -> None:
        if package:
            self.take(package.partition(".")[0])
        elif self.modules.is_own_path(file):
            self._take_file(Path(file).resolve())
            self.places[file] = Path(file).name

    def _follow(self, source: bytes) -> list[str]:
        """Take what a source imports; return the short texts in it."""
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # Then it cannot be imported here either.
            return []
        texts: list[str] = []
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    for alias in names:
                        self.take(alias.name.partition(".")[0])
                case ast.ImportFrom(module=str(module), level=0):
                    self.take(module.partition(".")[0])
                case ast.Constant(value=str(text)) if 0 < len(text) <= _NAME_LENGTH_MAX:
                    if "\n" not in text and "\0" not in text:
                        texts.append(text)
                case _:
                    pass  # Relative imports stay within the package, which is taken whole.
        return texts


def _is_below(name: str) -> bool:
    parts = Path(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def _reachable(
    part: object, modules: LocalModules, seen: set[int]
) -> Iterator[tuple[CodeType, dict[str, object]]]:
    """Yield the code that goes by value with a function, and its globals."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, type):
        if modules.is_by_value(part.__module__):
            for each in vars(part).values():
                yield from _reachable(getattr(each, "__func__", each), modules, seen)
        return
    if not isinstance(part, FunctionType) or not modules.is_by_value(part.__module__):
        return
    for code in _codes(part.__code__):
        yield code, part.__globals__
        for name in code.co_names:
            if name in part.__globals__:
                yield from _reachable(part.__globals__[name], modules, seen)
    for cell in part.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # It has no value yet.
            continue
        yield from _reachable(content, modules, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _imports(code: CodeType) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield level, module and names of each import in the code."""
    # Most code has none, and taking it apart costs more than all else in a submit.
    if _IMPORT_NAME not in code.co_code[::2]:
        return
    before: list[object] = [0, None]
    for step in dis.get_instructions(code):
        if step.opcode == _IMPORT_NAME:
            level, names = before[-2:]
            # The compiler puts a tuple of names here, or None.
            wanted = tuple(map(str, cast("tuple[object, ...]", names or ())))
            yield level if isinstance(level, int) else 0, str(step.argval), wanted
        elif step.opname.startswith("LOAD_"):
            before = [before[-1], step.argval]
