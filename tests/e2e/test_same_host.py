"""Large values between processes of one machine: as files, unless somebody said otherwise."""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.farm import Farm


def double(array):
    array *= 2  # The argument is the attempt's own.
    return array


def large_blobs(farm: Farm) -> list[os.stat_result]:
    folder = farm.folder / "data" / "blobs"
    found = [path.stat() for path in folder.glob("??/*")]
    return [each for each in found if each.st_size > 1 << 20]


@pytest.mark.parametrize("flags", [(), ("--blobs-by-wire",)])
def test_an_array_goes_there_and_back(tmp_path: Path, flags: tuple[str, ...]) -> None:
    farm = Farm(tmp_path)
    try:
        farm.start_coordinator(*flags)
        farm.start_worker("w1")
        pass_an_array(farm, is_linked=not flags)
    finally:
        farm.close()


def pass_an_array(farm: Farm, *, is_linked: bool) -> None:
    array = np.arange(1 << 19, dtype=np.float32)

    with farm.client() as client:
        result = client.submit(double, array).result(timeout=60)
        result[0] = 7  # It is ours to change.

        assert np.array_equal(result[1:], 2 * array[1:])
    links = [each.st_nlink for each in large_blobs(farm)]
    assert len(links) == 2
    # A file that the worker has too was not sent.
    assert (max(links) > 1) is is_linked
    laid_down = Path(farm.folder).glob("data/blobs/porch/*/*")
    assert [path for path in laid_down if path.name != "secret"] == []
