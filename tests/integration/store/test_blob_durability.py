"""A blob gets its name once its bytes are on the disk, and is there once its name is, too."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lineshaft_coordinator.data.blobs import BlobStore

DATA = bytes(range(256)) * 500
NAME = hashlib.sha256(DATA).hexdigest()


class Disk:
    """Remembers which files and folders were synced since they were last written to."""

    def __init__(self, store: BlobStore, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self._store = store
        self._fsync, self._pwrite, self._rename = os.fsync, os.pwrite, os.rename
        self._fdatasync = os.fdatasync
        patch.setattr(os, "fsync", self._on_fsync)
        patch.setattr(os, "fdatasync", self._on_fdatasync)
        patch.setattr(os, "pwrite", self._on_pwrite)
        patch.setattr(os, "rename", self._on_rename)

    def _on_fsync(self, descriptor: int) -> None:
        assert not self._store.is_complete(NAME)
        self._fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        assert path.is_dir(), "of files the times need not be synced"
        self.steps.append("folder synced" if len(path.name) == 2 else "folders synced")

    def _on_fdatasync(self, descriptor: int) -> None:
        assert not self._store.is_complete(NAME)
        self._fdatasync(descriptor)
        self.steps.append("bytes synced")

    def _on_pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self.steps.append("written")
        return self._pwrite(descriptor, data, offset)

    def _on_rename(self, source: Path, target: Path) -> None:
        self._rename(source, target)
        self.steps.append("named")


def in_chunks(store: BlobStore, folder: Path) -> None:
    del folder
    store.begin(NAME, len(DATA))
    store.write(NAME, 0, DATA[:60_000])
    store.write(NAME, 60_000, DATA[60_000:])


def as_bytes(store: BlobStore, folder: Path) -> None:
    del folder
    store.put_bytes(DATA)


def as_a_file(store: BlobStore, folder: Path) -> None:
    (folder / "given").write_bytes(DATA)
    store.adopt(NAME, folder / "given", len(DATA))


def after_a_restart(store: BlobStore, folder: Path) -> None:
    (folder / "blobs" / "partial" / NAME).write_bytes(DATA)
    again = BlobStore(folder / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 20)
    again.begin(NAME, len(DATA))
    assert again.is_complete(NAME)
    del store


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors have no names here")
@pytest.mark.parametrize("keep", [in_chunks, as_bytes, as_a_file, after_a_restart])
def test_bytes_are_synced_before_the_name_and_the_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Callable[[BlobStore, Path], None]
) -> None:
    store = BlobStore(tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 20)
    disk = Disk(store, monkeypatch)

    keep(store, tmp_path)

    named = disk.steps.index("named")
    assert "bytes synced" in disk.steps[:named]
    assert "written" not in disk.steps[disk.steps.index("bytes synced") :]
    assert "folders synced" in disk.steps[:named]
    assert disk.steps[named:] == ["named", "folder synced"]


def test_the_folders_are_made_and_synced_once_and_again_if_somebody_removed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 20)
    disk = Disk(store, monkeypatch)
    store.put_bytes(b"one")
    store.put_bytes(b"two")
    assert disk.steps.count("folders synced") == 1
    (tmp_path / "blobs" / NAME[:2]).rmdir()

    store.put_bytes(DATA)

    assert store.read(NAME, 0, len(DATA)) == DATA
    assert disk.steps[-3:] == ["folders synced", "named", "folder synced"]
