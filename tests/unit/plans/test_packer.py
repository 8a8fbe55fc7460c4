"""Values packed one after the other, as `pack` packs each by itself."""

import numpy as np
import pytest

from lineshaft_runtime.packer import Packer
from lineshaft_runtime.packing import pack, unpack

RNG = np.random.default_rng(0)
ROWS = RNG.random((8, 64), dtype=np.float32)
READ_ONLY = ROWS + 1
READ_ONLY.flags.writeable = False


class Own(np.ndarray):
    """A subclass says more than an array."""


MIXED = [
    ROWS,
    ROWS + 1,
    ROWS.T,
    np.asfortranarray(ROWS),
    ROWS.reshape(64, 8),
    ROWS.reshape(-1),
    READ_ONLY,
    ROWS[:, ::2],
    ROWS.astype(np.int32),
    ROWS.astype(">f4"),
    ROWS.view(Own),
    ROWS[:1, :4],
    np.zeros((0, 64), np.float32),
    np.array([{"a": 1}, None] * 200, dtype=object),
    np.array([("a" * 400, 1.0)] * 9, dtype=[("name", "U400"), ("at", "f8")]),
    np.ma.masked_array(ROWS, ROWS > 0.5),
    [ROWS, ROWS],
    "text",
    unpack(b"".join(pack(ROWS))),
    (ROWS + 2).astype(np.dtype("f4", metadata={"unit": "m"})),
    ROWS + 3,
]


@pytest.mark.parametrize("before", MIXED, ids=lambda each: type(each).__name__)
def test_whatever_came_before_a_value_is_packed_as_by_itself(before: object) -> None:
    for value in MIXED:
        packer = Packer()
        packer.pack(before)
        packer.pack(before)

        assert b"".join(packer.pack(value)) == b"".join(pack(value))


def test_an_array_like_the_one_before_is_its_own() -> None:
    packer = Packer()
    first = b"".join(packer.pack(ROWS))
    second = b"".join(packer.pack(ROWS * 3))

    assert np.array_equal(unpack(first), ROWS)
    assert np.array_equal(unpack(second), ROWS * 3)
