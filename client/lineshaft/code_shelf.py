"""Functions as bytes, pickled again only when something they refer to may have changed."""

import hashlib
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import TypeAlias, cast

from lineshaft.chunks import ChunkCall
from lineshaft.local_modules import LocalModules, needed_of
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.values import value
from lineshaft_runtime.carried import Carried
from lineshaft_runtime.collecting import dumps
from lineshaft_runtime.data_refs import collected
from lineshaft_runtime.packing import pack

_DEPTH_MAX = 32
_ABSENT = ("not there",)
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, BuiltinFunctionType)


@value()
class Code:
    """A function as the content of a blob."""

    id: BlobId
    data: bytes
    modules: tuple[str, ...] = ()
    """First parts of the names of modules without which it cannot be loaded."""
    brought: frozenset[str] = frozenset()
    """Those that it brings."""


class CodeShelf:
    """Keeps the bytes of functions for as long as the functions live.

    A function pickled by value takes along the globals and variables it refers to, as they are
    now. Its bytes are therefore kept only if all of these are constants, modules or other
    functions, and used only while they are the same ones.
    """

    def __init__(self, modules: LocalModules) -> None:
        self._modules = modules
        self._kept: dict[tuple[int, bool], _Kept] = {}
        self._changing = threading.Lock()

    def code(
        self, function: Callable[..., object], also: Sequence[type | FunctionType] = ()
    ) -> Code:
        """Return the function as bytes.

        Args:
            function: What is called.
            also: Classes and functions by value in its arguments: the files go along that these
                import when they are used.

        Raises:
            CannotPackError: It refers to what cannot leave the process; the error names it.
        """
        is_chunked = isinstance(function, ChunkCall)
        inner: object = function.function if is_chunked else function  # type: ignore[attr-defined]  # narrowed by the flag
        key = (id(inner), is_chunked)
        kept = self._kept.get(key)
        if not also and kept is not None and kept.is_valid_for(inner):
            return kept.code
        watched = tuple(_watch(inner, self._modules))
        from lineshaft.local_files import carried  # noqa: PLC0415 - nothing for `import lineshaft`

        brought = carried(function, self._modules, also)
        code = self._pickled(function, inner)
        if brought is not None:
            # Not kept: its files may change unseen.
            return _with_files(code, brought)
        if all(each is not None for each in watched):
            self._keep(key, inner, code, cast("tuple[_Watched, ...]", watched))
        return code

    def _pickled(self, function: object, inner: object) -> Code:
        with self._modules.by_value(), collected() as found:
            try:
                data = dumps(function)
            except Exception:
                # This finds the culprit, and raises an error that names it.
                pack(inner, name=f"function {getattr(inner, '__qualname__', inner)!r}")
                raise
        return Code(BlobId(hashlib.sha256(data).hexdigest()), data, needed_of(found.modules))

    def files(self, also: Sequence[type | FunctionType]) -> Code | None:
        """Return the files alone that some code imports when it is used; None if it needs none.

        Raises:
            CannotPackError: They are more than a job may bring.
        """
        from lineshaft.local_files import carried  # noqa: PLC0415 - as in code

        brought = carried(None, self._modules, also)
        if brought is None:
            return None
        return _with_files(Code(BlobId(""), pickle.dumps(None)), brought)

    def _keep(
        self, key: tuple[int, bool], inner: object, code: Code, watched: tuple["_Watched", ...]
    ) -> None:
        def forget(_: object) -> None:
            self._kept.pop(key, None)

        try:
            reference = weakref.ref(inner, forget)
        except TypeError:  # Some callables cannot be referred to weakly.
            return
        with self._changing:
            self._kept[key] = _Kept(reference, code, watched)


def _with_files(code: Code, brought: Carried) -> Code:
    data = pickle.dumps(replace(brought, function=code.data), protocol=5)
    here = frozenset(name.partition("/")[0].partition(".")[0] for name in brought.files)
    modules = tuple(each for each in code.modules if each not in here)
    return Code(BlobId(hashlib.sha256(data).hexdigest()), data, modules, here)


_Watched: TypeAlias = tuple[Callable[[], object], object]
"""How to look at something that a function refers to, and what was there."""


@value()
class _Kept:
    reference: weakref.ref[object]
    code: Code
    watched: tuple[_Watched, ...]

    def is_valid_for(self, function: object) -> bool:
        return self.reference() is function and all(look() is was for look, was in self.watched)


def _watch(
    part: object, modules: LocalModules, seen: set[int] | None = None, depth: int = 0
) -> Iterator[_Watched | None]:
    """Yield all that pickling the part takes along; None for what may change unseen."""
    seen = set() if seen is None else seen
    if id(part) in seen or part is _ABSENT or isinstance(part, _CONSTANTS):
        return
    seen.add(id(part))
    if _goes_by_name(part, modules):
        return
    if not isinstance(part, FunctionType) or part.__dict__ or depth > _DEPTH_MAX:
        yield None
        return
    # Weakly, or the function would live for as long as what is known of it.
    reference = weakref.ref(part)
    for attribute in ("__code__", "__defaults__", "__kwdefaults__"):
        yield _attribute_looker(reference, attribute), getattr(part, attribute)
    values = [*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).values()]
    for name in _names(part.__code__):
        # Also what is not there: it may be an attribute's name, or a global that is set later.
        value: object = part.__globals__.get(name, _ABSENT)
        yield _looker(part.__globals__, name), value
        values.append(value)
    for cell in part.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # It has no value yet, and may get one.
            yield None
            return
        yield _cell_looker(cell), value
        values.append(value)
    for value in values:
        yield from _watch(value, modules, seen, depth + 1)


def _goes_by_name(part: object, modules: LocalModules) -> bool:
    if isinstance(part, ModuleType):
        return not modules.is_by_value(part.__name__)
    if isinstance(part, FunctionType | type):
        is_global = "<locals>" not in part.__qualname__ and "<lambda>" not in part.__qualname__
        return is_global and not modules.is_by_value(part.__module__)
    return False


def _looker(names: dict[str, object], name: str) -> Callable[[], object]:
    return lambda: names.get(name, _ABSENT)


def _attribute_looker(reference: weakref.ref[FunctionType], name: str) -> Callable[[], object]:
    return lambda: getattr(reference(), name, _ABSENT)


def _cell_looker(cell: CellType) -> Callable[[], object]:
    return lambda: cast("object", cell.cell_contents)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
