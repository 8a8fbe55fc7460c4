"""What is noted of a job's arguments while they are pickled.

Theory. A pickle names modules, and who loads it imports them first; classes and functions of the
user's own go by value, with code that may import more when it runs. Only the pickler knows both
for sure. Outside of `COLLECTED` nothing is noted, and nothing is paid for it.
"""

import io
import pickle
from collections.abc import Callable
from contextvars import ContextVar
from types import FunctionType, ModuleType
from typing import cast

import cloudpickle

from lineshaft_runtime.overriding import override


class Collected:
    """What was found by now; all in the order in which it was met."""

    __slots__ = ("by_value", "modules", "refs")

    def __init__(self) -> None:
        self.refs: dict[str, None] = {}
        """Blobs of values that stand as references."""
        self.modules: dict[str, None] = {}
        """Modules that are named, with dots."""
        self.by_value: list[type | FunctionType] = []
        """Classes and functions of which the code itself is in the pickle."""


COLLECTED: ContextVar[Collected | None] = ContextVar("collected", default=None)

BufferCallback = Callable[[pickle.PickleBuffer], bool] | None


def dumps(value: object, buffer_callback: BufferCallback = None) -> bytes:
    """Pickle as cloudpickle does, and note what is met."""
    with io.BytesIO() as file:
        collected = COLLECTED.get()
        if collected is None:
            pickler = cloudpickle.Pickler(file, protocol=5, buffer_callback=buffer_callback)
        else:
            pickler = _Noting(file, protocol=5, buffer_callback=buffer_callback)
            pickler.collected = collected
        pickler.dump(value)  # pyright: ignore[reportUnknownMemberType] - cloudpickle has no types
        return file.getvalue()


class _Noting(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Notes what goes by name and what by value."""

    collected: Collected

    @override
    def reducer_override(self, obj: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        """Decide as cloudpickle does."""
        if isinstance(obj, ModuleType):
            reduced = cast("tuple[object, ...]", self.dispatch_table[ModuleType](obj))
            if reduced[0] is cloudpickle.cloudpickle.subimport:  # pyright: ignore[reportUnknownMemberType] - as above
                self.collected.modules[obj.__name__] = None
            return reduced
        decided = cast("object", super().reducer_override(obj))  # pyright: ignore[reportUnknownMemberType] - as above
        if isinstance(obj, type | FunctionType):
            if decided is not NotImplemented:
                self.collected.by_value.append(obj)
            elif isinstance(named := obj.__module__, str):  # pyright: ignore[reportUnnecessaryIsInstance] - C code may say None
                self.collected.modules[named] = None
        return decided
