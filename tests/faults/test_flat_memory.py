"""However much passes through it, a coordinator holds no more than before."""

import shutil
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.e2e.farm import Farm
from tests.faults.scale import rounds

from lineshaft import Client

MIB = 1 << 20
ARRAY_BYTES = 16 * MIB
UNDER_WAY = 4
GROWN_BYTES_MAX = 64 * MIB


class Watch(threading.Thread):
    """Looks at what a process itself has made, pages of files aside."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._is_over = threading.Event()
        self.most_bytes = 0

    def run(self) -> None:
        while not self._is_over.wait(0.05):
            self.most_bytes = max(self.most_bytes, self.now_bytes())

    def now_bytes(self) -> int:
        memory = self._process.memory_info()
        return int(memory.rss - memory.shared)

    def stop(self) -> int:
        self._is_over.set()
        self.join()
        return self.most_bytes


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
