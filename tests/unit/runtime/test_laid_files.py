"""Blobs that are written where the coordinator will take them from."""

import hashlib
import threading
from pathlib import Path

import pytest

from lineshaft_runtime import hashed_files
from lineshaft_runtime.durable import begin_sync
from lineshaft_runtime.hashed_files import TOGETHER_BYTES_MIN, write_hashed
from lineshaft_runtime.laid_files import LAID_MAX, FileLayer, LaidFile

PARTS = [b"head", bytes(60), memoryview(b"a value" * 10_000)]


def lay(layer: FileLayer, folder: Path) -> LaidFile:
    laid = layer.lay(folder, PARTS, free_bytes_min=0)
    assert laid is not None
    return laid


def test_a_laid_file_has_all_parts_and_is_named_by_their_hash(tmp_path: Path) -> None:
    laid = lay(FileLayer(), tmp_path)

    content = b"".join(PARTS)
    assert bytes(laid.data) == content
    assert laid.blob_id == hashlib.sha256(content).hexdigest()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_what_was_taken_can_still_be_read_when_its_name_is_gone(tmp_path: Path) -> None:
    laid = lay(FileLayer(), tmp_path)

    name = laid.take(tmp_path)
    assert name is not None
    (tmp_path / name).unlink()

    assert laid.take(tmp_path) is None
    assert bytes(laid.data) == b"".join(PARTS)


def test_a_file_of_an_earlier_session_is_not_offered_on_this_one(tmp_path: Path) -> None:
    assert lay(FileLayer(), tmp_path).take(tmp_path / "another") is None


def test_what_nobody_took_goes_with_its_blob(tmp_path: Path) -> None:
    laid = lay(FileLayer(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1

    del laid

    assert list(tmp_path.iterdir()) == []


def test_without_room_on_the_disk_nothing_is_laid_down(tmp_path: Path) -> None:
    assert FileLayer().lay(tmp_path, PARTS, free_bytes_min=1 << 60) is None
    assert list(tmp_path.iterdir()) == []


def test_where_the_folder_is_gone_nothing_is_laid_down(tmp_path: Path) -> None:
    assert FileLayer().lay(tmp_path / "gone", PARTS, free_bytes_min=0) is None


def test_only_so_many_files_are_open_at_a_time(tmp_path: Path) -> None:
    layer = FileLayer()
    for _ in range(LAID_MAX + 1):  # What failed holds no place.
        assert layer.lay(tmp_path / "gone", PARTS, free_bytes_min=0) is None
    held = [lay(layer, tmp_path) for _ in range(LAID_MAX)]

    assert layer.lay(tmp_path, PARTS, free_bytes_min=0) is None
    del held[0]

    assert lay(layer, tmp_path).data.nbytes == len(b"".join(PARTS))


@pytest.mark.parametrize("size_bytes", [100_000, TOGETHER_BYTES_MIN, TOGETHER_BYTES_MIN + 12_345])
def test_the_hash_is_that_of_the_file(tmp_path: Path, size_bytes: int) -> None:
    data = bytes(range(256)) * (size_bytes // 256 + 1)
    path = tmp_path / "file"

    digest = write_hashed(path, [data[:7], memoryview(data)[7:size_bytes]])

    assert path.read_bytes() == data[:size_bytes]
    assert digest == hashlib.sha256(data[:size_bytes]).hexdigest()


def test_who_changes_an_array_while_it_is_written_makes_no_file_with_a_wrong_name(
    tmp_path: Path,
) -> None:
    array = bytearray(4 * TOGETHER_BYTES_MIN)
    is_over = threading.Event()

    def change() -> None:
        number = 0
        while not is_over.is_set():
            number = (number + 1) % 256
            array[::4096] = bytes([number]) * len(array[::4096])

    changing = threading.Thread(target=change)
    changing.start()
    try:
        digests = {
            path: write_hashed(path, [array]) for path in (tmp_path / str(n) for n in range(8))
        }
    finally:
        is_over.set()
        changing.join()

    for path, digest in digests.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("size_bytes", [100_000, TOGETHER_BYTES_MIN + 12_345])
def test_the_disk_begins_with_all_of_a_file_and_the_hash_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    begun: list[tuple[int, int]] = []

    def begin(descriptor: int, offset: int, length: int) -> None:
        begun.append((offset, length))
        begin_sync(descriptor, offset, length)

    monkeypatch.setattr(hashed_files, "begin_sync", begin)
    data = bytes(range(256)) * (size_bytes // 256 + 1)

    digest = write_hashed(tmp_path / "file", [data[:size_bytes]], is_sync_begun=True)

    assert digest == hashlib.sha256(data[:size_bytes]).hexdigest()
    ends = [0, *(offset + length for offset, length in begun)]
    assert [offset for offset, _ in begun] == ends[:-1]
    assert ends[-1] == size_bytes
