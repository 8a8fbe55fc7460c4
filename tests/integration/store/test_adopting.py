"""Files that are taken over by the loop itself, and those that go to a thread."""

import hashlib
import threading
from pathlib import Path

import pytest

from lineshaft_coordinator.data.adopting import Adopting
from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.data.blobs import BlobStore

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowStore(BlobStore):
    """A store whose disk takes some time, and who asked it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, blob_bytes_max=8 * MIB, total_bytes_max=64 * MIB)
        self.put_bytes(b"the first, for which folders are made")
        self.clock, self.takes_s = clock, 0.0
        self.threads: list[threading.Thread] = []

    def adopt(self, blob_id: str, path: Path, size_bytes: int) -> None:
        self.clock.now += self.takes_s
        self.threads.append(threading.current_thread())
        super().adopt(blob_id, path, size_bytes)


def laid(folder: Path, content: bytes) -> tuple[str, Path, int]:
    path = folder / f"laid-{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest(), path, len(content)


def test_a_file_that_comes_alone_is_taken_over_at_once(tmp_path: Path) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)
    blob_id, path, size_bytes = laid(tmp_path, b"alone")

    assert adopting.is_quick(store, blob_id, size_bytes)
    adopting.at_once(store, blob_id, path, size_bytes)

    assert store.is_complete(blob_id)
    assert not path.exists()


async def test_what_comes_in_numbers_goes_to_threads(tmp_path: Path) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)
    first, second = laid(tmp_path, b"first"), laid(tmp_path, b"second")
    assert adopting.is_quick(store, first[0], first[2])
    adopting.at_once(store, *first)

    assert not adopting.is_quick(store, second[0], second[2])
    await adopting.in_thread(store, *second)

    assert store.is_complete(second[0])
    here, elsewhere = store.threads
    assert here is threading.current_thread()
    assert elsewhere is not here
    clock.now += 1.0
    assert adopting.is_quick(store, *laid(tmp_path, b"third")[::2])


def test_a_large_file_goes_to_a_thread(tmp_path: Path) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)

    assert adopting.is_quick(store, "a" * 64, 2 * MIB)
    clock.now += 1.0
    assert not adopting.is_quick(store, "a" * 64, 2 * MIB + 1)


def test_a_blob_that_somebody_is_sending_goes_to_a_thread(tmp_path: Path) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)
    blob_id, _, size_bytes = laid(tmp_path, b"sent by another as well")
    store.begin(blob_id, size_bytes)

    assert not adopting.is_quick(store, blob_id, size_bytes)


def test_the_first_blob_of_all_goes_to_a_thread_which_makes_the_folders(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", blob_bytes_max=8 * MIB, total_bytes_max=64 * MIB)
    blob_id, path, size_bytes = laid(tmp_path, b"first")
    assert not Adopting(Clock()).is_quick(store, blob_id, size_bytes)

    store.adopt(blob_id, path, size_bytes)

    assert Adopting(Clock()).is_quick(store, *laid(tmp_path, b"second")[::2])


def test_a_file_for_which_others_have_to_go_goes_to_a_thread(tmp_path: Path) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)
    for number in range(9):
        store.begin(f"{number:064d}", 7 * MIB, holder=number)
    free_bytes = 64 * MIB - store.total_bytes

    assert not adopting.is_quick(store, "a" * 64, free_bytes + 1)
    clock.now += 1.0
    assert adopting.is_quick(store, "a" * 64, free_bytes)


@pytest.mark.parametrize(("takes_s", "most"), [(0.02, 3), (0.5, 1)])
def test_a_slow_disk_holds_up_the_loop_three_times_at_most_and_a_stalled_one_once(
    tmp_path: Path, takes_s: float, most: int
) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)
    store.takes_s = takes_s
    times = 0

    for number in range(10):
        clock.now += 1.0
        file = laid(tmp_path, b"%d" % number)
        if adopting.is_quick(store, file[0], file[2]):
            adopting.at_once(store, *file)
            times += 1

    assert times == most
    clock.now += 30.0
    assert adopting.is_quick(store, *laid(tmp_path, b"later")[::2])


def test_a_failure_counts_as_an_attempt_and_is_told(tmp_path: Path) -> None:
    clock = Clock()
    store, adopting = SlowStore(tmp_path / "blobs", clock), Adopting(clock)
    blob_id, path, size_bytes = laid(tmp_path, b"short")

    with pytest.raises(BlobError, match="not the 6 that were said"):
        adopting.at_once(store, blob_id, path, size_bytes + 1)

    assert not path.exists()
    assert not adopting.is_quick(store, blob_id, size_bytes)
