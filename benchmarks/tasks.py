"""The tasks that every system runs; importable on the workers of all of them."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def noop(value: object) -> object:
    """Cost nothing: what is left is the system's."""
    return value


def double(array: Array) -> Array:
    """Bytes both ways."""
    return array * np.float32(2)


def ends(array: Array) -> float:
    """Bytes up only; both ends of the array prove that it arrived."""
    return float(array[0] + array[-1])


def ramp(first: int) -> Array:
    """Bytes down only: 1 MiB."""
    return np.arange(first, first + (1 << 18), dtype=np.float32)
