"""What a worker has on its disk is used after a loss of power only if it was brought there."""

# ruff: noqa: ASYNC240 - a test may wait for its own files

import hashlib
import json
from pathlib import Path

from tests.integration.gateway.seed_bench import until

from lineshaft_protocol.ids import BlobId, JobId
from lineshaft_protocol.jobs import Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_worker.core.io import AttemptKey, FileStored
from lineshaft_worker.daemon.cache import BOOT, SAFE_MODE, BlobCache
from lineshaft_worker.daemon.keeper import Keeper
from lineshaft_worker.daemon.later_syncs import LaterSyncs

KEY = AttemptKey(JobId("job-1"), 1)
FILE = KeptFile(file_id="1.5", kind="checkpoint", name="model.pt", attempt=1, at=1.0)


def kept_blob(cache: BlobCache, data: bytes) -> BlobId:
    blob_id = BlobId(hashlib.sha256(data).hexdigest())
    draft = cache.draft(blob_id, "x")
    draft.write_bytes(data)
    cache.keep(blob_id, draft)
    return blob_id


def test_after_a_reboot_only_blobs_that_were_synced_are_used(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=1000)
    synced, unsynced = kept_blob(cache, b"synced"), kept_blob(cache, b"not")
    cache.sync(synced)

    same_boot = BlobCache(tmp_path, bytes_max=1000)
    (tmp_path / BOOT).write_text("another-boot")
    other_boot = BlobCache(tmp_path, bytes_max=1000)

    assert synced in same_boot
    assert unsynced in same_boot
    assert synced in other_boot
    assert unsynced not in other_boot
    assert not other_boot.path(unsynced).exists()


async def test_a_blob_that_came_is_brought_to_the_disk_by_and_by(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=1000)
    blobs = [kept_blob(cache, data) for data in (b"first", b"second")]
    syncs = LaterSyncs(cache, after_s=0.0)

    for blob_id in blobs:
        syncs.add(blob_id)

    await until(lambda: all(mode_of(cache.path(each)) == SAFE_MODE for each in blobs))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


class Coordinator:
    """Takes files; an upload can be held up for ever."""

    def __init__(self) -> None:
        self.posted: list[FileStored] = []
        self.stored: list[bytes] = []

    async def store(self, path: Path, blob_id: BlobId) -> Payload:
        self.stored.append(path.read_bytes())
        return Payload(blob=blob_id, size_bytes=path.stat().st_size)


def left_behind(folder: Path, data: bytes, *, boot_id: str) -> None:
    place = folder / f"{KEY.job_id}@{KEY.attempt}"
    place.mkdir(parents=True)
    (place / "1.5.data").write_bytes(data)
    note = {"file": FILE.model_dump(), "source": "", "boot_id": boot_id}
    (place / "1.5.json").write_text(json.dumps(note))


async def test_a_checkpoint_that_was_not_on_the_disk_is_told_as_lost(tmp_path: Path) -> None:
    left_behind(tmp_path, b"half of", boot_id="another-boot")
    coordinator = Coordinator()
    keeper = Keeper(tmp_path, coordinator.store, coordinator.posted.append)

    keeper.take_over()
    await keeper.drained(KEY)

    assert coordinator.stored == []
    (told,) = coordinator.posted
    assert told.file.problem == "the machine went down before it was on the disk"


async def test_a_checkpoint_that_was_on_the_disk_is_stored_after_a_reboot(tmp_path: Path) -> None:
    left_behind(tmp_path, b"the whole", boot_id="")
    coordinator = Coordinator()
    keeper = Keeper(tmp_path, coordinator.store, coordinator.posted.append)

    keeper.take_over()
    await keeper.drained(KEY)

    assert coordinator.stored == [b"the whole"]
    (told,) = coordinator.posted
    assert told.file.problem is None
    note = json.loads((tmp_path / "job-1@1" / "1.5.json").read_text())
    assert note["boot_id"] == "", "it says that it outlives another loss of power"
