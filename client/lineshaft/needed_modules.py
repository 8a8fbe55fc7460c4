"""Modules that a job cannot do without and does not bring, read off its files.

Only what is sure counts: an import at the top of a file that is read when the job starts, before
anything was called that might make modules importable. What a function imports when it is called,
or what stands in an `if` or `try`, may never be needed, so it is left out.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lineshaft.local_modules import KNOWN
from lineshaft_protocol.jobs import MODULES_MAX


class _Import(NamedTuple):
    """A module that is imported for sure."""

    name: str
    """With dots."""
    names: tuple[str, ...]
    """What is taken from it, which may be modules."""


def needed_modules(entry_point: str, files: Sequence[tuple[str, bytes]]) -> tuple[str, ...]:
    """Return the first parts of the names of modules that must be installed, in order.

    Args:
        entry_point: Of the job.
        files: Its files.
    """
    walk = _Walk(dict(files))
    source, _, name = entry_point.partition(":")
    if source in walk.files:
        walk.folders.append(source.rpartition("/")[0])
        walk.read(source)
    elif name:
        walk.need(_Import(source, ()))
    return tuple(walk.found)[:MODULES_MAX]


class _Walk:
    """Follows imports through the files of a job."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.found: dict[str, None] = {}
        self.folders = [""]
        """From where modules are imported; the folder of a script is another."""
        self._read: set[str] = set()

    def read(self, path: str) -> bool:
        """Note what a file imports; False if nothing is sure of what comes after it."""
        if path in self._read:
            return True
        self._read.add(path)
        try:
            tree = ast.parse(self.files[path])
        except (SyntaxError, ValueError):
            return False  # The worker's Python may be newer than ours.
        for statement in tree.body:
            for each in _imports(statement, _package_of(path)):
                if not self.need(each):
                    return False
            if not _is_harmless(statement):
                return False
        return True

    def need(self, wanted: _Import) -> bool:
        """Note a module, or read it if it is among the files; as `read`."""
        top = wanted.name.partition(".")[0]
        if not self._is_here(top):
            if top not in KNOWN:
                self.found[top] = None
            return True
        parts = wanted.name.split(".")
        names = [".".join(parts[: count + 1]) for count in range(len(parts))]
        names += [f"{wanted.name}.{each}" for each in wanted.names]
        paths = [path for name in names for path in self._paths(name) if path in self.files]
        is_sure = True
        for path in paths:
            is_sure = self.read(path) and is_sure
        return is_sure

    def _is_here(self, top: str) -> bool:
        starts = [f"{folder}/{top}" if folder else top for folder in self.folders]
        return any(
            path == f"{start}.py" or path.startswith((f"{start}/", f"{start}."))
            for start in starts
            for path in self.files
        )

    def _paths(self, name: str) -> Iterable[str]:
        for folder in self.folders:
            start = "/".join(filter(None, (folder, name.replace(".", "/"))))
            yield from (f"{start}.py", f"{start}/__init__.py")


def _imports(statement: ast.stmt, package: str) -> Iterable[_Import]:
    match statement:
        case ast.Import(names=names):
            for alias in names:
                yield _Import(alias.name, ())
        case ast.ImportFrom(module=str(module), names=names, level=0):
            yield _Import(module, tuple(alias.name for alias in names))
        case ast.ImportFrom(module=module, names=names, level=level):
            parts = package.split(".")
            above = parts[: len(parts) - level + 1]
            if package and above:
                name = ".".join([*above, *([module] if module else [])])
                yield _Import(name, tuple(alias.name for alias in names))
        case _:
            pass


def _package_of(path: str) -> str:
    return path.rpartition("/")[0].replace("/", ".")


def _is_harmless(statement: ast.stmt) -> bool:
    """Say whether a statement cannot change what can be imported after it."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return not statement.decorator_list
        case ast.Expr(value=ast.Constant()):
            return True  # A docstring.
        case ast.Assign(targets=[ast.Name() | ast.Tuple()], value=value):
            return _calls_nothing(value)
        case ast.AnnAssign(target=ast.Name(), value=value):
            return value is None or _calls_nothing(value)
        case ast.Try(body=body, handlers=handlers, orelse=[], finalbody=[]):
            inside = [*body, *(each for handler in handlers for each in handler.body)]
            return all(map(_is_harmless, inside))
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return not statement.orelse
        case _:
            return False


def _calls_nothing(value: ast.expr) -> bool:
    return not any(isinstance(each, ast.Call | ast.Await) for each in ast.walk(value))
