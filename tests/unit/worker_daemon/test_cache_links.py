"""Files of a coordinator on the same machine, in a worker's cache under a second name."""

import hashlib
import stat
from pathlib import Path

from lineshaft_protocol.ids import BlobId
from lineshaft_worker.daemon.cache import BlobCache

DATA = b"large" * 100
BLOB = BlobId(hashlib.sha256(DATA).hexdigest())


def coordinators_file(folder: Path) -> Path:
    path = folder / "blob"
    path.write_bytes(DATA)
    path.chmod(0o400)
    return path


def test_a_linked_blob_is_one_file_with_two_names_and_stays_read_only(tmp_path: Path) -> None:
    source = coordinators_file(tmp_path)
    cache = BlobCache(tmp_path / "cache", bytes_max=1000)

    assert cache.link(BLOB, source)

    assert BLOB in cache
    assert cache.path(BLOB).samefile(source)
    assert stat.S_IMODE(source.stat().st_mode) == 0o400


def test_a_linked_blob_counts_and_goes_when_room_is_needed(tmp_path: Path) -> None:
    source = coordinators_file(tmp_path)
    cache = BlobCache(tmp_path / "cache", bytes_max=len(DATA) - 1)
    cache.hold(BLOB)
    cache.link(BLOB, source)

    assert cache.release(BLOB) == [BLOB]

    assert not cache.path(BLOB).exists()
    assert source.read_bytes() == DATA


def test_what_cannot_be_linked_leaves_nothing(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache", bytes_max=1000)

    assert not cache.link(BLOB, tmp_path / "collected meanwhile")

    assert BLOB not in cache
    assert not cache.path(BLOB).exists()
