"""However much passes through it, a process holds no more than before."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.e2e.farm import Farm
from tests.e2e.memory_watch import Watch
from tests.faults.scale import rounds, tell

from lineshaft import Client

MIB = 1 << 20
GIB = 1 << 30
ARRAY_BYTES = 16 * MIB
UNDER_WAY = 4
GROWN_BYTES_MAX = 64 * MIB
COPIES = 2
"""How often an artifact lies on this machine at most: two of job, coordinator and user have it."""
LEAVES = """
import os
from lineshaft import run
os.mkdir("outputs")
piece = os.urandom(1 << 20)
with open("outputs/large.bin", "wb") as file:
    for number in range(run.params["bytes"] >> 20):
        file.write(piece[:-8] + number.to_bytes(8, "big"))
"""


@pytest.mark.parametrize("way", ["wire", "files"])
def test_memory_of_the_coordinator_is_flat_while_gigabytes_pass(tmp_path: Path, way: str) -> None:
    count = rounds(8, 596)  # At night 20 GB, both ways together.
    if shutil.disk_usage(tmp_path).free < 3 * count * ARRAY_BYTES:
        pytest.skip(f"needs room for {3 * count * ARRAY_BYTES >> 30} GiB")
    made = Farm(tmp_path / "farm")
    made.folder.mkdir()
    try:
        coordinator = made.start_coordinator(*(("--blobs-by-wire",) if way == "wire" else ()))
        made.start_worker("w1", "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            passed(client, 0, UNDER_WAY)
            watch = Watch(coordinator.pid)
            before_bytes = watch.now_bytes()
            watch.start()

            passed(client, UNDER_WAY, count)

            assert watch.stop() - before_bytes < GROWN_BYTES_MAX
    finally:
        made.close()
        shutil.rmtree(made.folder)  # pytest keeps folders of the last few runs.


def passed(client: Client, first: int, count: int) -> None:
    """Send arrays, no two alike, to a worker and take them back, a few at a time."""
    base = np.arange(ARRAY_BYTES // 4, dtype=np.float32)
    for number in range(first, first + count, UNDER_WAY):
        arrays = [base + np.float32(number + n) for n in range(UNDER_WAY)]
        for array, result in zip(arrays, client.map(np.negative, arrays), strict=True):
            assert result[1] == -array[1]


def test_an_artifact_of_ten_gibibytes_moves_in_flat_memory(
    empty_farm: Farm, tmp_path: Path
) -> None:
    size_bytes = rounds(1, 10) * GIB
    if shutil.disk_usage(tmp_path).free < COPIES * size_bytes + GIB:
        pytest.skip(f"needs room for {COPIES * size_bytes // GIB + 1} GiB")
    worker = empty_farm.start_worker("w1", "--slots", "1")
    assert empty_farm.coordinator is not None
    with empty_farm.client() as client:
        empty_farm.until_ready(client)
        watches = [
            Watch(psutil.Process().pid),
            Watch(worker.pid),
            Watch(empty_farm.coordinator.pid),
        ]
        before = [watch.now_bytes() for watch in watches]
        for watch in watches:
            watch.start()
        job = client.run("job.py", files={"job.py": LEAVES}, params={"bytes": size_bytes})
        job.result(1800)
        (artifact,) = job.artifacts()

        path = artifact.download(tmp_path / "got.bin")

        grown = [w.stop() - bytes_ for w, bytes_ in zip(watches, before, strict=True)]
        assert max(grown) < GROWN_BYTES_MAX, grown
        assert (path.stat().st_size, hash_of(path)) == (size_bytes, artifact.sha256)
    path.unlink()
    shutil.rmtree(
        empty_farm.folder / "data" / "blobs"
    )  # pytest keeps folders of the last few runs.
    seen = ", ".join(f"{part} +{b / MIB:.0f} MiB" for part, b in zip(PARTS, grown, strict=True))
    tell("F14", f"GiB of one artifact that moved, {size_bytes // GIB}", 1, seen)


PARTS = ("client", "worker daemon", "coordinator")


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
