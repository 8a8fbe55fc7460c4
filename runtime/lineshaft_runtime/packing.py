"""Python objects as bytes and back, with large buffers kept out of the pickle.

A packed value is a head (magic, a msgpack header, the pickle) and then the raw buffers, each at a
multiple of 64 bytes from the start, so that an array made on one is aligned wherever the
whole is. Nothing is copied that need not be: `pack` returns views of the caller's memory and
`unpack` returns arrays on the memory it was given.

Unpacking runs code that the packed value names. Only a runner or a client may do it; the
coordinator and the worker daemon carry packed values without looking inside.
"""

import dataclasses
import functools
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import TypeAlias, cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs

from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.collecting import dumps
from lineshaft_runtime.overriding import override

BytesLike: TypeAlias = bytes | bytearray | memoryview

ALIGNMENT_BYTES = 64
"""A cache line, and the widest vector register."""

OUT_OF_BAND_BYTES_MIN = 1024
"""Smaller buffers stay in the pickle: a copy of them costs less than their padding."""

PLAIN = frozenset({bool, bytes, float, int, str, type(None)})
"""Types of which plain pickle makes what cloudpickle does, only sooner."""

_MAGIC = b"LSP1"
_PREAMBLE = struct.Struct("<4sI")
_PADDING = bytes(ALIGNMENT_BYTES)
_SHORT = _PREAMBLE.pack(_MAGIC, 3) + b"\x92"
"""How a packed value begins whose pickle has less than 128 bytes and that has no buffers: its
length and an empty list follow, a byte each."""
_SHORT_BYTES_MAX = 127
_SHORT_HEAD_BYTES = len(_SHORT) + 2
_DEPTH_MAX = 32
_TRIES_MAX = 10_000


class PackingError(LineshaftError):
    """Bytes that should be a packed value are not, or cannot be unpacked here."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoPassageError(TypeError):
    """Raised by the ``__reduce__`` of what stays in its process; it says why."""


class CannotPackError(LineshaftError):
    """A value has a part that cannot leave its process.

    `path` leads to the smallest such part, written like Python: `value['rows'][3].lock`.
    """

    def __init__(self, path: str, type_name: str, cause: str) -> None:
        super().__init__(
            f"{path} of type {type_name} cannot be pickled ({cause}); {_fix_for(type_name)}"
        )
        self.path, self.type_name, self.cause = path, type_name, cause

    @override
    def __reduce__(self) -> tuple[type["CannotPackError"], tuple[str, str, str]]:
        """Survive the way from a runner to the client."""
        return CannotPackError, (self.path, self.type_name, self.cause)


def pack(value: object, *, name: str = "value") -> list[BytesLike]:
    """Turn a value into buffers, to be written one after the other.

    The buffers are views of the value's own memory: write them before the value changes.

    Args:
        value: Anything that cloudpickle can pickle. Functions and classes of modules that can be
            imported go by name, those of `__main__` and nested ones by value.
        name: What an error calls the value, as `argument 'rows'`.

    Raises:
        CannotPackError: Some part cannot be pickled; the error names it.
    """
    views: list[memoryview] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_BYTES_MIN:
            return True
        views.append(view)
        return False

    try:
        # Plain pickle is faster by 1.9 µs for a tuple of ints, but it would send a function of
        # `__main__` by name, which the other side does not have.
        pickled = dumps(value, keep_in_band)
    except MemoryError:
        raise
    except Exception as error:
        raise _blame(value, name, error) from error
    head = _head(pickled, [view.nbytes for view in views])
    packed: list[BytesLike] = [head]
    size_bytes = len(head)
    for view in views:
        if padding := -size_bytes % ALIGNMENT_BYTES:
            packed.append(_PADDING[:padding])
        packed.append(view)
        size_bytes += padding + view.nbytes
    return packed


def pack_plain(value: object) -> bytes:
    """Pack values of `PLAIN` types, in tuples and dictionaries: as `pack` does, but sooner.

    Args:
        value: Without a function or class, which plain pickle would send by name.
    """
    return _head(pickle.dumps(value, 5), [])


def unpack(data: BytesLike) -> object:
    """Return the value that `pack` was given.

    Arrays lie on `data`, without a copy: they are writable where `data` is (and the array was),
    and aligned where `data` itself starts at a multiple of 64 bytes. Who needs to change an
    array made on read-only data copies it.

    Raises:
        PackingError: The data are not one whole packed value, or it cannot be made here, for
            instance because a module is not installed.
    """
    pickled, buffers = _sections(data)
    try:
        return cast("object", pickle.loads(pickled, buffers=buffers))  # noqa: S301 - see above
    except ImportError as error:
        raise PackingError(
            f"the packed value needs a module that cannot be imported here ({error}); "
            "name its distribution in the requirements, or ship the file"
        ) from error
    except Exception as error:
        raise PackingError(
            f"the packed value cannot be unpickled: {type(error).__name__}: {error}"
        ) from error


def packed_size(buffers: Iterable[BytesLike]) -> int:
    """Return how many bytes the buffers are together."""
    return sum(
        buffer.nbytes if isinstance(buffer, memoryview) else len(buffer) for buffer in buffers
    )


def pack_bytes(value: object, *, name: str = "value") -> bytes:
    """Pack into one piece, which copies: for small values.

    Raises:
        CannotPackError: Some part cannot be pickled; the error names it.
    """
    return b"".join(pack(value, name=name))


def _head(pickled: bytes, lengths: list[int]) -> bytes:
    if not lengths and len(pickled) <= _SHORT_BYTES_MAX:
        return _SHORT + bytes((len(pickled), 0x90)) + pickled
    header = _encode((len(pickled), lengths))
    return b"".join((_PREAMBLE.pack(_MAGIC, len(header)), header, pickled))


def _encode(header: tuple[int, list[int]]) -> bytes:
    packb = msgpack.packb  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("bytes", packb(header))


def _decode(header: memoryview) -> object:
    unpackb = msgpack.unpackb  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("object", unpackb(header))


def _sections(data: BytesLike) -> tuple[BytesLike, list[memoryview]]:
    if type(data) is bytes and data.startswith(_SHORT) and len(data) > _SHORT_HEAD_BYTES:
        # As below, for what most small calls take and return.
        size, mark = data[len(_SHORT) : _SHORT_HEAD_BYTES]
        if size <= _SHORT_BYTES_MAX and mark == 0x90 and len(data) == _SHORT_HEAD_BYTES + size:
            return data[_SHORT_HEAD_BYTES:], []
    try:
        view = memoryview(data).cast("B")
    except TypeError as error:
        raise PackingError(f"the data are not one piece of memory: {error}") from error
    if view.nbytes < _PREAMBLE.size:
        raise PackingError(f"{view.nbytes} bytes are too few for a packed value")
    magic, header_bytes = _PREAMBLE.unpack_from(view)
    if magic != _MAGIC:
        raise PackingError(f"a packed value starts with {_MAGIC!r}, this with {magic!r}")
    start = _PREAMBLE.size + header_bytes
    pickled_bytes, lengths = _header(view[_PREAMBLE.size : start])
    end = start + pickled_bytes
    pickled = view[start:end]
    buffers: list[memoryview] = []
    for length in lengths:
        start = end + -end % ALIGNMENT_BYTES
        end = start + length
        buffers.append(view[start:end])
    if end != view.nbytes:
        raise PackingError(f"the packed value has {view.nbytes} bytes, its header says {end}")
    return pickled, buffers


def _header(header: memoryview) -> tuple[int, list[int]]:
    try:
        # The cast is a claim of the sender, checked in the next line.
        pickled_bytes, lengths = cast("tuple[int, list[int]]", _decode(header))
        is_sound = all(type(size) is int and size >= 0 for size in (pickled_bytes, *lengths))
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise PackingError(f"the header of the packed value is damaged: {error}") from error
    if not is_sound:
        raise PackingError("the header of the packed value is damaged: a size is no size")
    return pickled_bytes, lengths


def _blame(value: object, name: str, error: Exception) -> CannotPackError:
    path, part, cause = _Search().smallest(name, value, error)
    kind = type(part)
    type_name = kind.__qualname__
    if kind.__module__ != "builtins":
        type_name = f"{kind.__module__}.{type_name}"
    text = "it is nested too deep" if _is_too_deep(cause) else str(cause)
    return CannotPackError(path, type_name, text)


class _Search:
    """Walks down from a value that cannot be pickled to a part that has no bad part itself."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._tries_left = _TRIES_MAX

    def smallest(
        self, path: str, value: object, error: Exception, depth: int = 0
    ) -> tuple[str, object, Exception]:
        self._seen.add(id(value))
        if depth < _DEPTH_MAX and not _is_too_deep(error) and not _refuses(value):
            for part_path, part in _parts(path, value):
                if id(part) in self._seen or self._tries_left == 0:
                    continue
                self._tries_left -= 1
                if part_error := _why_not(part):
                    return self.smallest(part_path, part, part_error, depth + 1)
        return path, value, error


def _is_too_deep(error: Exception) -> bool:
    # cloudpickle raises its own error from Python's.
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


def _refuses(value: object) -> bool:
    """Whether its class will not have it pickled: then no part of it is to blame."""
    try:
        value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except NoPassageError:
        return True
    except Exception:  # noqa: BLE001 - any `__reduce__` of a user may run, and raise anything
        return False
    return False


def _why_not(part: object) -> Exception | None:
    try:
        dumps(part, _keep_none)
    except Exception as error:  # noqa: BLE001 - any `__reduce__` of a user may run, and raise anything
        return error
    return None


def _keep_none(buffer: pickle.PickleBuffer) -> bool:
    buffer.raw()  # Raises, as in `pack`, if the buffer is not contiguous.
    return False


def _parts(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield what a pickler would look into, with a path for each."""
    match value:
        case FunctionType():
            yield from _parts_of_function(path, value)
        case MethodType():
            yield f"{path}.__self__", value.__self__
        case functools.partial():
            whole = cast("functools.partial[object]", value)
            yield f"{path}.func", whole.func
            yield from _items(f"{path}.args", whole.args)
            yield from _items(f"{path}.keywords", whole.keywords)
        case type():
            for name, part in vars(value).items():
                if not name.startswith("__"):
                    yield f"{path}.{name}", part
        case Mapping() | list() | tuple() | set() | frozenset():
            yield from _items(path, cast("Iterable[object]", value))
        case _:
            yield from _parts_of_object(path, value)


def _items(path: str, items: Iterable[object]) -> Iterator[tuple[str, object]]:
    match items:
        case Mapping():
            for key, part in cast("Mapping[object, object]", items).items():
                yield f"{path}[{key!r}]", part
                yield f"{path} key {key!r}", key
        case list() | tuple():
            for index, part in enumerate(items):
                yield f"{path}[{index}]", part
        case _:
            for part in items:
                yield f"{path} element {part!r}", part


def _parts_of_function(path: str, function: FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    where = f"of function {function.__qualname__!r} ({path})"
    cells: tuple[CellType, ...] = function.__closure__ or ()
    for variable, cell in zip(code.co_freevars, cells, strict=True):
        try:
            yield f"variable {variable!r} {where}", cell.cell_contents
        except ValueError:  # The variable has no value yet.
            continue
    for default in function.__defaults__ or ():
        yield f"a default {where}", default
    for key, default in (function.__kwdefaults__ or {}).items():
        yield f"default {key!r} {where}", default
    for variable in code.co_names:
        if variable in function.__globals__:
            yield f"global {variable!r} {where}", function.__globals__[variable]


def _parts_of_object(path: str, value: object) -> Iterator[tuple[str, object]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                yield f"{path}.{field.name}", getattr(value, field.name)
        return
    attributes = cast("dict[str, object]", getattr(value, "__dict__", {}))
    for key, part in attributes.items():
        yield f"{path}.{key}", part
    for kind in type(value).__mro__:
        slots = cast("str | Iterable[str]", kind.__dict__.get("__slots__", ()))
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot != "__dict__" and hasattr(value, slot):
                yield f"{path}.{slot}", getattr(value, slot)


def _fix_for(type_name: str) -> str:
    if type_name.startswith(("_thread.", "threading.", "multiprocessing.", "_asyncio.")):
        return "make it inside the function that runs on the worker"
    if type_name.startswith("_io."):
        return "pass the path and open it where it is used, or pass what it contains"
    if type_name in {"generator", "async_generator", "coroutine"}:
        return "pass a list of what it yields"
    if type_name.startswith(("socket.", "ssl.", "sqlite3.")):
        return "connect inside the function that runs on the worker"
    if type_name.startswith("lineshaft.") and type_name.endswith("Future"):
        return "pass its result(), or submit with after=[it] to have one job wait for another"
    return (
        "leave it out, make it inside the function that runs on the worker, "
        "or give its class a `__reduce__`"
    )
