# ruff: noqa: ASYNC220, ASYNC221, PTH208 - nothing else waits for the event loop of these tests
"""What the machine may refuse: locks, rights, room, and older and newer files."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest
from tests.integration.store import crashing_writer
from tests.integration.store.samples import event, finished, row, submitted

from lineshaft_coordinator.store.check import check_database, check_store
from lineshaft_coordinator.store.errors import (
    BackupExistsError,
    StoreFullError,
    StoreLockedError,
    StoreNotWritableError,
    StoreOnNetworkError,
    StoreVersionError,
)
from lineshaft_coordinator.store.files import StoreFiles
from lineshaft_coordinator.store.interface import Batch, Sought
from lineshaft_coordinator.store.lock import filesystem_of, is_network, prepare_folder
from lineshaft_coordinator.store.schema import MIGRATIONS, Migration, migrate
from lineshaft_coordinator.store.sqlite import SqliteStore

NEXT = Migration(4, ("ALTER TABLE jobs ADD COLUMN note TEXT",))
BROKEN = Migration(4, ("CREATE TABLE notes (text)", "CREATE TABLE jobs (text)"))

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:5 / /mnt/data\\040set rw - nfs4 box:/export rw
24 22 0:6 / /mnt/fuse rw shared:1 - fuse.sshfs box: rw
25 22 0:7 / /mnt/twice rw - ext4 /dev/vdb rw
26 22 0:8 / /mnt/twice rw - cifs //box/share rw
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("count", [1, 40])
async def test_a_full_disk_refuses_the_batch_whole_and_takes_the_next_once_there_is_room(
    small_disk: Path, count: int
) -> None:
    ballast = small_disk / "ballast"
    store = SqliteStore(small_disk / "data")
    await store.open()
    await store.append(submitted("kept"))
    ballast.write_bytes(bytes(free_bytes(small_disk) - 100_000))

    large = Batch(
        records=[(f"j{n}", 1.0, bytes(200_000 // count)) for n in range(count)],
        rows=[row(f"j{n}") for n in range(count)],
        events=[event(f"j{n}", 0) for n in range(count)],
    )
    with pytest.raises(StoreFullError) as refusal:
        await store.append(large)
    ballast.unlink()
    kept = await store.counts()
    await store.append(large)

    assert refusal.value.folder == small_disk / "data"
    assert kept == {"queued": 1}
    assert await store.counts() == {"queued": 1 + count}
    await store.close()
    assert check_store(small_disk / "data").problems == ()


async def test_a_disk_filled_to_the_last_byte_never_breaks_the_store(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "data")
    await store.open()
    acknowledged = refused = 0
    ballast = small_disk / "ballast"

    for number in range(60):
        ballast.write_bytes(bytes(max(0, free_bytes(small_disk) - number % 7 * 5_000)))
        try:
            await store.append(submitted(f"j{number}", b"x" * 3_000))
            acknowledged += 1
        except StoreFullError:
            refused += 1
        ballast.unlink()

    assert (await store.counts())["queued"] == acknowledged == len(list(store.live_records()))
    assert refused > 0
    await store.close()
    report = check_store(small_disk / "data")
    assert (report.problems, report.job_count) == ((), acknowledged)


async def test_a_store_on_a_full_disk_opens_when_there_is_room_again(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "data")
    await store.open()
    await store.append(submitted("j1"))
    await store.close()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(free_bytes(small_disk)))

    with pytest.raises(StoreFullError):
        await SqliteStore(small_disk / "data").open()
    ballast.unlink()
    store = SqliteStore(small_disk / "data")
    await store.open()

    assert list(store.live_records()) == [b"submitted"]
    await store.close()


async def test_a_backup_without_room_leaves_nothing_behind(
    small_disk: Path, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "data")
    await store.open()
    await store.append(submitted("j1", bytes(5 << 20)))

    with pytest.raises(StoreFullError):
        await store.backup(small_disk / "copy")

    assert os.listdir(small_disk) == []
    await store.close()


async def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    (small_disk / "data").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(StoreNotWritableError, match="Read-only"):
        await SqliteStore(small_disk / "data").open()


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreNotWritableError, match=str(tmp_path / "file" / "data")):
        await SqliteStore(tmp_path / "file" / "data").open()


async def test_a_second_coordinator_is_told_who_has_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, crashing_writer.__file__, str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()

        with pytest.raises(StoreLockedError) as refusal:
            await SqliteStore(tmp_path).open()
        with pytest.raises(StoreLockedError):
            check_store(tmp_path)
        child.kill()
        child.stdout.read()

    assert (refusal.value.folder, refusal.value.pid) == (tmp_path, child.pid)


@pytest.mark.parametrize(
    ("path", "filesystem"),
    [
        ("/home/me", "ext4"),
        ("/mnt/data set/jobs", "nfs4"),
        ("/mnt/fuse", "fuse.sshfs"),
        ("/mnt/fuses", "ext4"),
        ("/mnt/twice/x", "cifs"),
    ],
)
def test_the_deepest_and_latest_mount_tells_the_file_system(path: str, filesystem: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == filesystem
    assert is_network(filesystem) == (filesystem != "ext4")


def test_a_network_file_system_is_taken_only_if_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 1 0:5 / / rw - nfs4 box:/export rw\n")
    monkeypatch.setattr("lineshaft_coordinator.store.lock._MOUNTS", mounts)

    with pytest.raises(StoreOnNetworkError, match="nfs4"):
        prepare_folder(tmp_path / "data", is_network_allowed=False)
    prepare_folder(tmp_path / "data", is_network_allowed=True)


async def test_an_older_schema_is_brought_up_to_date_after_a_backup(tmp_path: Path) -> None:
    old = SqliteStore(tmp_path)
    await old.open()
    await old.append(submitted("j1"))
    await old.close()

    new = SqliteStore(tmp_path, migrations=[*MIGRATIONS, NEXT])
    await new.open()
    replayed = list(new.live_records())
    await new.close()

    (backup,) = (tmp_path / "backups").iterdir()
    report = check_database(backup)
    assert replayed == [b"submitted"]
    assert (report.problems, report.schema_version, report.job_count) == ((), 3, 1)


async def test_jobs_of_a_store_without_owners_are_kept_and_have_none(tmp_path: Path) -> None:
    first_version(tmp_path, "old")

    store = SqliteStore(tmp_path)
    await store.open()
    await store.append(Batch(rows=[row("new", owner="a1b2c3d4")]))
    owners = {each.job_id: each.owner for each in await store.rows(limit=9)}
    found = await store.rows(limit=9, sought=Sought(owner="a1b2c3d4"))
    await store.append(finished("old", 2.0))
    await store.append(finished("new", 2.0))
    await store.close()

    (backup,) = (tmp_path / "backups").iterdir()
    report = check_database(backup)
    assert owners == {"old": "", "new": "a1b2c3d4"}
    assert [each.job_id for each in found] == ["new"]
    assert (report.problems, report.schema_version, report.job_count) == ((), 1, 1)
    assert check_store(tmp_path).problems == ()


async def test_whose_a_job_is_stays_as_it_was_first_said(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.append(Batch(rows=[row("j1", owner="first"), row("j2")]))
    await store.append(Batch(rows=[row("j1", owner="second", attempt=1)]))

    seen = [store.owner_of(job_id) for job_id in ("j1", "j2", "unknown")]
    await store.close()

    assert seen == ["first", "", None]
    assert check_store(tmp_path).problems == ()


def first_version(folder: Path, job_id: str) -> None:
    """Make a store as it was at schema version 1, with one live job."""
    folder.mkdir(parents=True, exist_ok=True)
    path = StoreFiles(folder).database
    cells = (job_id, 1, "queued", "train", "plan", "c1", 1.0, None, None, 0, "", None)
    crc = crc32("\0".join(map(str, cells)).encode())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, migrations=MIGRATIONS[:1], keep_copy=lambda _: None)
        marks = ", ".join("?" * 13)
        connection.execute(f"INSERT INTO jobs VALUES ({marks})", (*cells, crc))


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    new = SqliteStore(tmp_path, migrations=[*MIGRATIONS, NEXT])
    await new.open()
    await new.close()

    with pytest.raises(StoreVersionError, match=r"version 4.*up to 3"):
        await SqliteStore(tmp_path).open()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    old = SqliteStore(tmp_path)
    await old.open()
    await old.append(submitted("j1"))
    await old.close()

    with pytest.raises(Exception, match="already exists"):
        await SqliteStore(tmp_path, migrations=[*MIGRATIONS, BROKEN]).open()

    again = SqliteStore(tmp_path)
    await again.open()
    assert list(again.live_records()) == [b"submitted"]
    await again.close()


async def test_a_migration_s_backup_is_never_written_over(tmp_path: Path) -> None:
    old = SqliteStore(tmp_path)
    await old.open()
    await old.backup(tmp_path / "copy")

    with pytest.raises(BackupExistsError):
        await old.backup(tmp_path / "copy")
    await old.close()


def free_bytes(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize
