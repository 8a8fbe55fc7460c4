"""Blobs are whole or not there, whatever the sender or the disk does."""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lineshaft_coordinator.data.blob_errors import (
    BlobDiskError,
    BlobIdError,
    BlobMismatchError,
    BlobNotBegunError,
    BlobNotFoundError,
    BlobOffsetError,
    BlobStoreFullError,
    BlobTooLargeError,
)
from lineshaft_coordinator.data.blob_files import read_cached
from lineshaft_coordinator.data.blobs import BlobStore, Collected

MIB = 1 << 20
DATA = bytes(range(256)) * 1000
NAME = hashlib.sha256(DATA).hexdigest()

Opener = Callable[[], BlobStore]


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    return lambda: BlobStore(
        tmp_path / "blobs",
        blob_bytes_max=MIB,
        total_bytes_max=2 * MIB,
        free_bytes_min=0,
        upload_count_max=4,
    )


@pytest.fixture
def blobs(opener: Opener) -> BlobStore:
    return opener()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_blob_arrives_in_chunks_and_is_there_after_the_last(
    blobs: BlobStore, opener: Opener, tmp_path: Path
) -> None:
    assert blobs.begin(NAME, len(DATA)) == 0
    for offset in range(0, len(DATA), 100_000):
        assert not blobs.is_complete(NAME)
        blobs.write(NAME, offset, DATA[offset : offset + 100_000])

    assert blobs.is_complete(NAME)
    assert opener().is_complete(NAME)
    assert files(tmp_path / "blobs") == [f"{NAME[:2]}/{NAME[2:]}"]
    assert blobs.open(NAME).path.read_bytes() == DATA
    assert blobs.begin(NAME, len(DATA)) == len(DATA)
    assert blobs.total_bytes == len(DATA)


def test_an_upload_goes_on_after_a_restart(blobs: BlobStore, opener: Opener) -> None:
    blobs.begin(NAME, len(DATA))
    blobs.write(NAME, 0, DATA[:5000])

    again = opener()
    assert again.begin(NAME, len(DATA)) == 5000
    again.write(NAME, 5000, DATA[5000:])

    assert again.read(NAME, 0, MIB) == DATA


def test_an_upload_that_ended_just_before_a_restart_is_completed_by_begin(
    opener: Opener, tmp_path: Path
) -> None:
    opener()
    (tmp_path / "blobs" / "partial" / NAME).write_bytes(DATA)

    blobs = opener()

    assert not blobs.is_complete(NAME)
    assert blobs.begin(NAME, len(DATA)) == len(DATA)
    assert blobs.is_complete(NAME)


def test_an_empty_blob_is_complete_once_begun(blobs: BlobStore) -> None:
    assert blobs.begin(name_of(b""), 0) == 0

    assert blobs.is_complete(name_of(b""))
    assert blobs.put_bytes(b"") == name_of(b"")


@pytest.mark.parametrize("spoiled", [DATA[:-1] + b"x", b"x" + DATA[1:]])
def test_bytes_with_another_hash_are_dropped(
    blobs: BlobStore, tmp_path: Path, spoiled: bytes
) -> None:
    blobs.begin(NAME, len(DATA))
    blobs.write(NAME, 0, spoiled[:1000])

    with pytest.raises(BlobMismatchError):
        blobs.write(NAME, 1000, spoiled[1000:])

    assert files(tmp_path / "blobs") == []
    assert blobs.total_bytes == 0
    assert blobs.begin(NAME, len(DATA)) == 0


def test_more_bytes_than_were_said_are_refused_and_dropped(
    blobs: BlobStore, tmp_path: Path
) -> None:
    blobs.begin(NAME, len(DATA))

    with pytest.raises(BlobMismatchError):
        blobs.write(NAME, 0, DATA + b"x")

    assert files(tmp_path / "blobs") == []
    with pytest.raises(BlobNotBegunError):
        blobs.write(NAME, 0, DATA)


@pytest.mark.parametrize("offset", [0, 999, 1001])
def test_a_repeated_or_early_chunk_is_refused_and_the_upload_goes_on(
    blobs: BlobStore, offset: int
) -> None:
    blobs.begin(NAME, len(DATA))
    blobs.write(NAME, 0, DATA[:1000])

    with pytest.raises(BlobOffsetError) as refusal:
        blobs.write(NAME, offset, DATA[offset : offset + 10])

    assert refusal.value.expected == 1000
    blobs.write(NAME, 1000, DATA[1000:])
    assert blobs.is_complete(NAME)


def test_a_chunk_for_a_complete_blob_is_told_so(blobs: BlobStore) -> None:
    blobs.put_bytes(DATA)

    with pytest.raises(BlobOffsetError) as refusal:
        blobs.write(NAME, 0, DATA[:10])

    assert refusal.value.expected == len(DATA)


@pytest.mark.parametrize("name", ["", "ab", "../" * 21 + "x", NAME.upper(), NAME + "\n", NAME[:-1]])
def test_a_name_that_is_no_hash_is_refused(blobs: BlobStore, name: str) -> None:
    with pytest.raises(BlobIdError):
        blobs.begin(name, 1)
    with pytest.raises(BlobNotFoundError):
        blobs.open(name)
    with pytest.raises(BlobNotBegunError):
        blobs.write(name, 0, b"x")


def test_a_blob_over_the_limit_is_refused_before_it_is_sent(blobs: BlobStore) -> None:
    with pytest.raises(BlobTooLargeError):
        blobs.begin(NAME, MIB + 1)
    with pytest.raises(BlobTooLargeError):
        blobs.begin(NAME, -1)
    with pytest.raises(BlobTooLargeError):
        blobs.put_bytes(bytes(MIB + 1))


def test_uploads_count_whole_against_the_total(blobs: BlobStore) -> None:
    blobs.put_bytes(bytes(MIB))
    blobs.begin(NAME, MIB - 1)

    with pytest.raises(BlobStoreFullError):
        blobs.begin(name_of(b"ab"), 2)
    blobs.put_bytes(b"c")

    assert blobs.total_bytes == 2 * MIB


def test_uploads_under_way_are_limited(blobs: BlobStore) -> None:
    for number in range(4):
        blobs.begin(name_of(b"%d" % number), 1)

    with pytest.raises(BlobStoreFullError):
        blobs.begin(NAME, 1)
    blobs.write(name_of(b"0"), 0, b"0")
    blobs.begin(NAME, 1)


def test_an_upload_that_ends_while_uploads_are_collected_is_not_missed(
    opener: Opener, tmp_path: Path
) -> None:
    partial = tmp_path / "blobs" / "partial"
    opener()
    for number in range(300):
        (partial / name_of(b"%d" % number)).write_bytes(b"x")
    blobs, begun = opener(), threading.Barrier(2)
    problems: list[Exception] = []

    def collect() -> None:
        begun.wait()
        try:
            blobs.collect(set(), older_than_s=-3600.0, now=time.time())
        except OSError as error:
            problems.append(error)

    # Each takes files from under the other, as who completes an upload does.
    threads = [threading.Thread(target=collect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert list(partial.iterdir()) == []


def test_who_goes_gives_back_the_room_that_it_never_used(blobs: BlobStore) -> None:
    liar, other = object(), object()
    blobs.begin(NAME, MIB, liar)
    blobs.begin(name_of(b"ab"), MIB, liar)
    with pytest.raises(BlobStoreFullError):
        blobs.begin(name_of(b"abc"), MIB, other)

    blobs.leave(liar)

    assert blobs.total_bytes == 0
    blobs.begin(name_of(b"abc"), MIB, other)
    blobs.begin(name_of(b"abcd"), MIB, other)


def test_uploads_of_who_is_gone_do_not_count_against_others(blobs: BlobStore) -> None:
    liar, other = object(), object()
    for number in range(4):
        blobs.begin(name_of(b"%d" % number), 1, liar)

    blobs.leave(liar)

    for number in range(4):
        assert blobs.begin(name_of(b"other %d" % number), 7, other) == 0
    assert blobs.total_bytes == 4 * 7


def test_an_upload_whose_sender_is_gone_is_gone_on_with_where_it_stood(blobs: BlobStore) -> None:
    first, second = object(), object()
    blobs.begin(NAME, len(DATA), first)
    blobs.write(NAME, 0, DATA[:5000])
    blobs.leave(first)
    assert blobs.total_bytes == 5000

    assert blobs.begin(NAME, len(DATA), second) == 5000
    assert blobs.total_bytes == len(DATA)
    blobs.leave(first)
    assert blobs.total_bytes == len(DATA), "somebody else sends it now"
    blobs.write(NAME, 5000, DATA[5000:])

    assert blobs.read(NAME, 0, MIB) == DATA
    assert blobs.total_bytes == len(DATA)


def test_what_came_of_an_upload_gives_way_to_who_needs_the_room(
    blobs: BlobStore, tmp_path: Path
) -> None:
    gone, here = object(), object()
    blobs.begin(NAME, len(DATA), gone)
    blobs.write(NAME, 0, DATA[:5000])
    blobs.leave(gone)
    blobs.begin(name_of(b"one"), MIB, here)
    with pytest.raises(BlobTooLargeError):
        blobs.begin(name_of(b"vast"), 2 * MIB, here)
    assert blobs.total_bytes == MIB + 5000, "nothing is given up for what never fits"

    blobs.begin(name_of(b"two"), MIB, here)

    assert blobs.total_bytes == 2 * MIB
    assert NAME not in {Path(each).name for each in files(tmp_path)}
    blobs.leave(here)
    assert blobs.begin(NAME, len(DATA), gone) == 0
    assert blobs.write(NAME, 0, DATA) == len(DATA)


def test_nothing_gives_way_to_what_does_not_fit_even_then(blobs: BlobStore) -> None:
    gone, here = object(), object()
    blobs.put_bytes(bytes(MIB))
    blobs.begin(NAME, len(DATA), gone)
    blobs.write(NAME, 0, DATA[:5000])
    blobs.leave(gone)
    blobs.begin(name_of(b"one"), 1, here)

    with pytest.raises(BlobStoreFullError):
        blobs.begin(name_of(b"two"), MIB, here)

    assert blobs.begin(NAME, len(DATA), here) == 5000


def test_the_same_blob_with_another_size_is_refused(blobs: BlobStore) -> None:
    blobs.put_bytes(DATA)
    blobs.begin(name_of(b"abc"), 3)

    with pytest.raises(BlobMismatchError):
        blobs.begin(NAME, len(DATA) + 1)
    with pytest.raises(BlobMismatchError):
        blobs.begin(name_of(b"abc"), 4)

    assert blobs.is_complete(NAME)


def test_parts_are_read_and_nothing_past_the_end(blobs: BlobStore) -> None:
    blobs.put_bytes(DATA)

    assert blobs.read(NAME, 10, 5) == DATA[10:15]
    assert blobs.read(NAME, len(DATA) - 5, 100) == DATA[-5:]
    assert blobs.read(NAME, len(DATA), 1) == b""
    for offset in (-1, len(DATA) + 1):
        with pytest.raises(BlobOffsetError):
            blobs.read(NAME, offset, 1)


def test_a_blob_cut_off_behind_our_back_is_not_read_as_a_shorter_one(blobs: BlobStore) -> None:
    blobs.put_bytes(DATA)
    os.truncate(blobs.open(NAME).path, 1000)

    with pytest.raises(BlobDiskError, match="cut off"):
        blobs.read(NAME, 0, len(DATA))


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="of Linux")
def test_what_is_in_memory_is_read_as_it_is_and_never_as_less(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(DATA)

    assert read_cached(path, 1000, 5000) in (DATA[1000:6000], None)  # None: a disk that cannot tell
    assert read_cached(path, len(DATA) - 10, 11) is None
    assert read_cached(tmp_path / "collected", 0, 1) is None


def test_bytes_that_are_put_complete_an_upload_under_way(blobs: BlobStore) -> None:
    blobs.begin(NAME, len(DATA))
    blobs.write(NAME, 0, DATA[:1000])

    blobs.put_bytes(DATA)

    assert blobs.read(NAME, 0, MIB) == DATA
    with pytest.raises(BlobOffsetError):
        blobs.write(NAME, 1000, DATA[1000:2000])


def test_bytes_of_a_blob_that_others_complete_meanwhile_are_told_so(blobs: BlobStore) -> None:
    blobs.begin(NAME, len(DATA))
    upload = blobs._uploads.table[NAME]
    lock = upload.lock

    class Taken:
        """Is had by somebody else until the blob is complete."""

        def __enter__(self) -> None:
            upload.lock = lock
            blobs.put_bytes(DATA)

        def __exit__(self, *_: object) -> None:
            pass

    upload.lock = Taken()  # type: ignore[assignment]

    with pytest.raises(BlobOffsetError) as refused:
        blobs.write(NAME, 0, DATA)

    assert refused.value.expected == len(DATA)


def test_many_threads_may_put_the_same_and_other_blobs(blobs: BlobStore) -> None:
    faults: list[BaseException] = []

    def put() -> None:
        try:
            for number in range(50):
                blobs.put_bytes(b"%d" % number)
        except BaseException as error:  # noqa: BLE001 - asserted below
            faults.append(error)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert all(blobs.is_complete(name_of(b"%d" % number)) for number in range(50))
    assert blobs.total_bytes == sum(len(b"%d" % number) for number in range(50))


def test_a_collection_removes_what_is_old_and_not_needed(
    blobs: BlobStore, opener: Opener, tmp_path: Path
) -> None:
    needed, old, again, fresh = (blobs.put_bytes(text) for text in (b"n", b"old", b"again", b"f"))
    blobs.begin(NAME, len(DATA))
    blobs.write(NAME, 0, DATA[:1000])
    left_behind = tmp_path / "blobs" / "partial" / name_of(b"left")
    left_behind.write_bytes(b"le")
    for path in (*(blobs.open(name).path for name in (needed, old, again)), left_behind):
        os.utime(path, (0.0, 0.0))
    os.utime(tmp_path / "blobs" / "partial" / NAME, (0.0, 0.0))
    blobs.put_bytes(b"again")
    now = blobs.open(fresh).path.stat().st_mtime

    collected = blobs.collect({needed}, older_than_s=3600.0, now=now)

    assert collected == Collected(count=3, size_bytes=3 + 1000 + 2)
    assert [blobs.is_complete(name) for name in (needed, old, again, fresh)] == [
        True,
        False,
        True,
        True,
    ]
    with pytest.raises(BlobNotBegunError):
        blobs.write(NAME, 1000, b"x")
    assert blobs.total_bytes == opener().total_bytes == len(b"n" + b"again" + b"f")
    assert blobs.collect(lambda _: False, older_than_s=-10.0, now=now).count == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_drops_the_upload(small_disk: Path) -> None:
    blobs = BlobStore(small_disk, blob_bytes_max=MIB, total_bytes_max=MIB, free_bytes_min=0)
    data = os.urandom(700_000)
    blobs.begin(name_of(data), len(data))
    blobs.write(name_of(data), 0, data[:300_000])
    (small_disk / "ballast").write_bytes(bytes(500_000))

    with pytest.raises(BlobStoreFullError, match="disk"):
        blobs.write(name_of(data), 300_000, data[300_000:])

    assert files(small_disk) == ["ballast"]
    assert blobs.total_bytes == 0
    (small_disk / "ballast").unlink()
    assert blobs.put_bytes(data) == name_of(data)


def test_blobs_leave_room_for_the_journal(small_disk: Path) -> None:
    blobs = BlobStore(
        small_disk, blob_bytes_max=MIB, total_bytes_max=9 * MIB, free_bytes_min=600_000
    )

    with pytest.raises(BlobStoreFullError, match="must stay free"):
        blobs.begin(NAME, 500_000)
    blobs.begin(NAME, 300_000)
