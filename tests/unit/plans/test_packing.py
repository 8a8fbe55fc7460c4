"""Packed values come back as they were, lie where they should, and name what cannot be packed."""

import contextlib
import dataclasses
import functools
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lineshaft_runtime.packing import (
    ALIGNMENT_BYTES,
    CannotPackError,
    PackingError,
    pack,
    pack_bytes,
    pack_plain,
    packed_size,
    unpack,
)

LARGE = 4096


def aligned(data: bytes) -> memoryview:
    """The data at the beginning of a cache line, in writable memory."""
    room = np.zeros(len(data) + ALIGNMENT_BYTES, np.uint8)
    start = -room.ctypes.data % ALIGNMENT_BYTES
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return memoryview(room[start : start + len(data)])


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, 2, 3),
        [1.5, float("inf"), "é", b"\x00", True],
        {"a": {1, 2}, (1, 2): frozenset("x"), "n": {"deep": [[]]}},
        bytearray(b"x" * LARGE),
        b"x" * LARGE,
        2**200,
        dataclasses,
    ],
)
def test_builtin_values_come_back_equal_and_of_the_same_type(value: object) -> None:
    back = unpack(pack_bytes(value))

    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "dtype",
    [
        "?", "i1", "u2", "i4", ">i4", "u8", "f2", "f4", "f8", ">f8", "g", "c8", "c16", "G",
        "S3", "U3", "M8[s]", "m8[ms]", "V5", [("a", "i4"), ("b", "f8", (2,))],
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (64, 33)])
def test_arrays_of_any_dtype_and_shape_come_back_the_same(dtype: str, shape: tuple[int]) -> None:
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(1).integers(0, 100, size_bytes, np.uint8)
    array = np.ndarray(shape, dtype, raw.tobytes()) if size_bytes else np.zeros(shape, dtype)
    if str(dtype) in {"?", "U3"}:
        array = np.ones(shape, dtype)

    back = unpack(bytearray(pack_bytes(array)))

    assert isinstance(back, np.ndarray)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda array: array[::2],
        lambda array: array[:, ::-3],
        lambda array: array.T,
        lambda array: np.broadcast_to(array[0], (5, 100)),
    ],
    ids=["fortran", "rows", "reversed", "transposed", "broadcast"],
)
def test_arrays_of_any_layout_come_back_the_same(
    layout: Callable[[np.ndarray], np.ndarray],
) -> None:
    array = layout(np.arange(10_000.0).reshape(100, 100))

    back = unpack(pack_bytes(array))

    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, array)


def test_object_arrays_and_subclasses_and_masks_come_back() -> None:
    value = {
        "objects": np.array([1, "a", None, {"k": np.arange(3)}], object),
        "masked": np.ma.masked_array(np.arange(LARGE), np.arange(LARGE) % 3 == 0),
        "record": np.rec.fromrecords([(1, 2.0)] * LARGE, names="a,b"),
        "strings": np.array(["a", "längere"], np.dtypes.StringDType()),
    }

    back = unpack(pack_bytes(value))

    assert isinstance(back, dict)
    assert repr(back) == repr(value)
    assert {key: type(part) for key, part in back.items()} == {
        key: type(part) for key, part in value.items()
    }


def test_large_arrays_are_neither_copied_into_the_pickle_nor_out_of_the_data() -> None:
    array = np.arange(LARGE)
    packed = pack({"a": array, "same": array})
    data = bytearray(b"".join(packed))

    back = unpack(data)

    assert sum(np.shares_memory(array, np.frombuffer(part, np.uint8)) for part in packed) == 1
    assert isinstance(back, dict)
    assert back["a"] is back["same"]
    assert np.shares_memory(back["a"], np.frombuffer(data, np.uint8))


def test_arrays_are_writable_where_the_data_and_the_original_are() -> None:
    constant = np.arange(LARGE)
    constant.flags.writeable = False
    packed = pack_bytes([np.arange(LARGE), constant, np.arange(3)])

    writable, read_only = unpack(bytearray(packed)), unpack(packed)

    assert isinstance(writable, list)
    assert isinstance(read_only, list)
    assert [array.flags.writeable for array in writable] == [True, False, True]
    assert [array.flags.writeable for array in read_only] == [False, False, True]


def test_arrays_are_aligned_to_a_cache_line() -> None:
    arrays = [np.arange(LARGE + odd, dtype=np.int8) for odd in range(70)]

    back = unpack(aligned(pack_bytes(arrays)))

    assert isinstance(back, list)
    assert {array.ctypes.data % ALIGNMENT_BYTES for array in back} == {0}
    for array, original in zip(back, arrays, strict=True):
        np.testing.assert_array_equal(array, original)


def test_the_size_of_a_packed_value_is_known_before_it_is_written() -> None:
    packed = pack([np.zeros((70, 70)), "x", np.zeros(1001, np.int8)])

    assert packed_size(packed) == len(b"".join(packed))


def test_functions_and_classes_of_a_script_travel_by_value() -> None:
    offset = 40

    class Local:
        def __init__(self, number: int) -> None:
            self.number = number

        def add(self) -> int:
            return self.number + offset

    add = unpack(pack_bytes(Local(2).add))

    assert callable(add)
    assert add() == 42


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 11, 30, 500, 10_000])
def test_a_truncated_value_is_refused(cut: int) -> None:
    data = pack_bytes({"a": np.arange(LARGE)})

    with pytest.raises(PackingError):
        unpack(data[:cut])


def test_a_longer_value_a_strange_start_and_a_damaged_header_are_refused() -> None:
    data = pack_bytes({"a": np.arange(LARGE)})
    header_bytes = int.from_bytes(data[4:8], "little")
    tail = data[8 + header_bytes :]

    for damaged in (
        data + b"x",
        b"JUNK" + data[4:],
        b"LSP1\xff\xff\xff\xff" + data[8:],
        b"LSP1\x04\0\0\0\xc1\xc1\xc1\xc1" + tail,
        b"LSP1\x03\0\0\0\x92\xff\x90" + tail,  # [-1, []]
        b"LSP1\x04\0\0\0\x92\x00\x91\xff" + tail,  # [0, [-1]]
        b"LSP1\x02\0\0\0\x91\x00" + tail,  # [0]
        b"LSP1\x03\0\0\0\x92\xa1a\x90" + tail,  # ["a", []]
        b"LSP1\x03\0\0\0\x92\x00\x00" + tail,  # [0, 0]
    ):
        with pytest.raises(PackingError):
            unpack(damaged)


def test_every_flipped_byte_gives_a_value_or_a_packing_error() -> None:
    data = pack_bytes({"a": [1, "x", (None, 2.5)], "b": bytearray(b"abc")})

    for index in range(len(data)):
        with contextlib.suppress(PackingError):
            unpack(data[:index] + bytes([data[index] ^ 0x81]) + data[index + 1 :])


def test_memory_that_is_not_in_one_piece_is_refused() -> None:
    with pytest.raises(PackingError, match="one piece"):
        unpack(memoryview(pack_bytes(1) * 2)[::2])


def test_a_missing_module_is_named_with_what_to_do() -> None:
    head = pack_bytes(None)[:4]
    pickled = b"cno_such_module\nThing\n."
    header = b"\x92" + bytes([len(pickled)]) + b"\x90"

    with pytest.raises(PackingError, match=r"'no_such_module'.*requirements"):
        unpack(head + len(header).to_bytes(4, "little") + header + pickled)


class Trainer:
    """Holds something that cannot leave the process, three levels down."""

    def __init__(self) -> None:
        self.rows = [1, 2, {"fine": 1, "guard": threading.Lock()}]


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Config:
    name: str
    lock: object


LOCK = threading.Lock()


def function_with_a_lock() -> Callable[[], bool]:
    lock, other = threading.Lock(), 3

    def train() -> bool:
        return lock.locked() and other > 2

    return train


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "value"),
        ({"kwargs": {"lock": threading.Lock()}}, "value['kwargs']['lock']"),
        ((1, [2, threading.Lock()]), "value[1][1]"),
        (Trainer(), "value.rows[2]['guard']"),
        (Slotted(), "value.lock"),
        (Config("n", threading.Lock()), "value.lock"),
        (Trainer().__init__, "value.__self__.rows[2]['guard']"),
        (functools.partial(print, 1, file=threading.Lock()), "value.keywords['file']"),
    ],
)
def test_the_smallest_part_that_cannot_be_packed_is_named(value: object, path: str) -> None:
    with pytest.raises(CannotPackError) as caught:
        pack(value)

    assert caught.value.path == path
    assert caught.value.type_name == "_thread.lock"
    assert "make it inside the function" in str(caught.value)


def test_a_variable_of_an_enclosing_function_is_named() -> None:
    with pytest.raises(CannotPackError) as caught:
        pack({"fn": function_with_a_lock()}, name="job")

    assert caught.value.path.startswith("variable 'lock' of function 'function_with_a_lock.")
    assert caught.value.path.endswith("train' (job['fn'])")


def test_a_global_of_a_shipped_function_is_named() -> None:
    source = "import threading\nlock = threading.Lock()\ndef f():\n    return lock\n"
    script: dict[str, object] = {"__name__": "__main__"}
    exec(source, script)  # a script's function, which cloudpickle ships by value

    with pytest.raises(CannotPackError) as caught:
        pack(script["f"])

    assert caught.value.path == "global 'lock' of function 'f' (value)"


def test_files_and_generators_get_advice_of_their_own(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w") as file, pytest.raises(CannotPackError, match="pass the path"):  # noqa: PTH123
        pack([file])
    with pytest.raises(CannotPackError, match="pass a list"):
        pack(item for item in [1])


def test_a_cycle_and_great_depth_end() -> None:
    cycle: list[object] = [threading.Lock()]
    cycle.insert(0, cycle)
    deep: list[object] = []
    for _ in range(200_000):
        deep = [deep]

    with pytest.raises(CannotPackError) as caught:
        pack(cycle)
    with pytest.raises(CannotPackError, match="nested too deep"):
        pack(deep)

    assert caught.value.path == "value[1]"


def test_the_error_itself_can_be_sent() -> None:
    with pytest.raises(CannotPackError) as caught:
        pack([threading.Lock()])

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    "value", [(), (1, 2.5, None), (True, "text", b"\0" * 70_000), ((3,), {}), {"a": (1,)}]
)
def test_plain_values_are_packed_as_all_others_are(value: object) -> None:
    assert [pack_plain(value)] == pack(value)
    assert unpack(pack_plain(value)) == value
