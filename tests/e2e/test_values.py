"""Values of every kind on their way to a job and back, and values kept for many jobs."""

import dataclasses
import os
import pickle
from datetime import datetime

import numpy as np
import pytest
from tests.e2e.farm import Farm

from lineshaft import DataRef
from lineshaft.errors import PayloadLostError

LARGE = 40_000


@dataclasses.dataclass
class Batch:
    name: str
    images: np.ndarray
    labels: np.ndarray


def returned(value):
    return value


def changed(array):
    array[0] = -1
    return array


def total(batches, *, weight):
    return sum(float(each["x"].sum()) for each in batches) * weight


def base(dtype: str) -> np.ndarray:
    return (np.arange(LARGE) % 100).astype(dtype)


PLAIN = ("?", "b", "B", "<i2", ">i4", "<u8", "e", "f", ">f8", "F", "D")
ARRAYS = {
    **{dtype: base(dtype) for dtype in PLAIN},
    "datetime": base("<i8").astype("M8[s]"),
    "timedelta": base("<i8").astype("m8[ms]"),
    "text": base("<i8").astype("U7"),
    "bytes": base("<i8").astype("S5"),
    "structured": np.zeros(LARGE, dtype=[("at", "M8[s]"), ("xyz", "<f4", (3,)), ("name", "U3")]),
    "object": np.array([{"a": 1}, None, "text", 2**80] * 50, dtype=object),
    "column by column": np.asfortranarray(base("f").reshape(200, 200)),
    "every other": base("f")[::2],
    "backwards": base("f")[::-1],
    "transposed": base("f").reshape(4, 100, 100).transpose(2, 0, 1),
    "broadcast": np.broadcast_to(np.float32(3), (300, 300)),
    "no dimension": np.array(2.5),
    "empty": np.empty((0, 3), dtype="f"),
    "masked": np.ma.masked_array(base("f"), mask=base("<i8") % 2),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_it_went(pair: Farm, name: str) -> None:
    array = ARRAYS[name]

    with pair.client() as client:
        result = client.submit(returned, array).result(timeout=60)

    assert type(result) is type(array)
    assert result.dtype == array.dtype
    assert result.shape == array.shape
    assert np.array_equal(np.asarray(result), np.asarray(array))


OTHERS = {
    "bytes": bytes(LARGE),
    "bytearray": bytearray(LARGE),
    "datetime": datetime(2026, 1, 2, 3),  # noqa: DTZ001 - without a zone on purpose
    "nested": {"nested": [np.float32(2), (b"x" * LARGE, {"deep": None})]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_values_come_back_as_they_went(pair: Farm, name: str) -> None:
    value = OTHERS[name]

    with pair.client() as client:
        result = client.submit(returned, value).result(timeout=60)

    assert type(result) is type(value)
    assert result == value


def test_arrays_within_an_object_come_back_and_may_be_changed(pair: Farm) -> None:
    batch = Batch("first", base("f").reshape(100, 400), base("<i8"))

    with pair.client() as client:
        result = client.submit(returned, batch).result(timeout=60)

    result.images[0] = 5
    assert np.array_equal(result.images[1:], batch.images[1:])
    assert np.array_equal(result.labels, batch.labels)


def test_a_tensor_comes_back_as_it_went(pair: Farm) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    tensor = torch.arange(LARGE, dtype=torch.float32)

    with pair.client() as client:
        assert client.submit(returned, tensor).result(timeout=60).equal(tensor)


def test_a_table_comes_back_as_it_went(pair: Farm) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    table = pyarrow.table({"x": list(range(LARGE)), "name": ["a"] * LARGE})

    with pair.client() as client:
        assert client.submit(returned, table).result(timeout=60).equals(table)


# --- values kept for many jobs ---


def worker_blobs(farm: Farm) -> list[os.stat_result]:
    return [path.stat() for path in farm.home.glob("workers/*/blobs/*")]


def test_a_kept_value_goes_to_a_worker_once_and_each_call_has_its_own(empty_farm: Farm) -> None:
    empty_farm.start_worker("w1")
    array = base("f").repeat(10)
    with empty_farm.client() as client:
        empty_farm.until_ready(client, "w1")

        ref = client.put(array)
        again = client.put(array)
        results = list(client.map(changed, [ref] * 6))

    assert ref == again
    assert array[0] == 0
    assert all(each[0] == -1 and np.array_equal(each[1:], array[1:]) for each in results)
    large = [each for each in worker_blobs(empty_farm) if each.st_size >= array.nbytes]
    assert len(large) == 1


def test_references_may_be_nested_in_arguments(pair: Farm) -> None:
    ones, twos = np.ones(LARGE), np.full(LARGE, 2.0)
    with pair.client() as client:
        batches = [{"x": client.put(ones)}, {"x": client.put(twos)}, {"x": ones}]

        result = client.submit(total, batches, weight=client.put(10)).result(timeout=60)

    assert result == 40 * LARGE


def test_a_kept_value_that_the_coordinator_does_not_have_is_named(pair: Farm) -> None:
    with pair.client() as client:
        future = client.submit(returned, DataRef("0" * 64, 5))

        with pytest.raises(PayloadLostError, match="0000"):
            future.result(timeout=60)


def test_a_reference_that_is_pickled_elsewhere_stays_one() -> None:
    ref = DataRef("a" * 64, 5)

    assert pickle.loads(pickle.dumps(ref)) == ref
