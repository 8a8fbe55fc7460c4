"""Packing one value after the other, as a stream does."""

import pickle
from typing import Protocol, cast

from lineshaft_runtime.packing import OUT_OF_BAND_BYTES_MIN, BytesLike, pack

_NUMBERS = frozenset("biufc")
"""Kinds of element of which the type says all: truth values, integers, real and complex numbers."""

_Kind = tuple[object, tuple[int, ...], bool, bool, bool]


class Packer:
    """Packs as `pack` does; an array like the one before needs no pickling.

    The bytes of an array are not in its pickle, so that of another one with the same type, shape
    and layout is the same, and to make it would be half of what a short chunk costs.
    """

    def __init__(self) -> None:
        self._kind: _Kind | None = None
        self._before: list[BytesLike] = []

    def pack(self, value: object, *, name: str = "value") -> list[BytesLike]:
        """Turn a value into buffers, some of them views of its memory.

        Raises:
            CannotPackError: Some part cannot be pickled; the error names it.
        """
        kind = _kind_of(value)
        if kind is not None and kind == self._kind:
            # It is an array, which has buffers.
            return [*self._before, pickle.PickleBuffer(cast("bytes", value)).raw()]
        packed = pack(value, name=name)
        self._kind, self._before = kind, packed[:-1]
        return packed


class _Array(Protocol):
    """What is looked at of NumPy's own, which is not imported for it."""

    dtype: "_Dtype"
    shape: tuple[int, ...]
    flags: "_Flags"
    nbytes: int


class _Dtype(Protocol):
    kind: str
    metadata: object


class _Flags(Protocol):
    c_contiguous: bool
    f_contiguous: bool
    writeable: bool


def _kind_of(value: object) -> _Kind | None:
    """Return all that the pickle of a plain array depends on; None for what is no such array.

    One whose bytes would be in the pickle is none, nor one that may contain objects.
    """
    kind = type(value)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy":
        return None
    array = cast("_Array", value)
    dtype, flags = array.dtype, array.flags
    is_plain = dtype.kind in _NUMBERS and dtype.metadata is None
    if not is_plain or array.nbytes < OUT_OF_BAND_BYTES_MIN:
        return None
    in_rows, in_columns = flags.c_contiguous, flags.f_contiguous
    if not (in_rows or in_columns):
        return None
    return dtype, array.shape, in_rows, in_columns, flags.writeable
