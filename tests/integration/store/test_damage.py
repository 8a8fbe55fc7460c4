"""Damaged files are refused with the file named, or nothing of what they held is lost (F11)."""

import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.store.samples import event, finished, row, submitted

from lineshaft_coordinator.store.check import check_store
from lineshaft_coordinator.store.errors import StoreDamagedError
from lineshaft_coordinator.store.interface import Batch
from lineshaft_coordinator.store.sqlite import SqliteStore

JOBS = 40
DATABASE = "lineshaft.sqlite"
LOG = "lineshaft.sqlite-wal"
LAST = "j-last"

Everything = dict[str, object]


async def fill(store: SqliteStore) -> None:
    for number in range(JOBS):
        await store.append(submitted(f"j{number}", b"record of %d " % number * 20))
        events = [event(f"j{number}", seq, body=b"event " * 20) for seq in range(3)]
        await store.append(Batch(events=events))
    for number in range(0, JOBS, 2):
        await store.append(finished(f"j{number}", at=5.0))
    await store.append(Batch(rows=[row("j1", worker_id="w1", error="why it failed")]))
    await store.append(submitted(LAST))


async def read_everything(store: SqliteStore) -> Everything:
    """Read all that the store holds, but for the last batch: a crash may have torn that."""
    jobs = [f"j{number}" for number in range(JOBS)]
    live = [record for record in store.live_records() if record != b"submitted"]
    listed = [found for found in await store.rows(limit=999) if found.job_id != LAST]
    return {
        "live": live,
        "rows": listed,
        "by id": [await store.row_of(job_id) for job_id in jobs],
        "records": [await store.records_of(job_id) for job_id in jobs],
        "events": [await store.events_of(job_id) for job_id in jobs],
    }


@pytest.fixture
async def closed(tmp_path: Path) -> tuple[Path, Everything]:
    """A store that was closed, and what is in it."""
    folder = tmp_path / "closed"
    store = SqliteStore(folder)
    await store.open()
    await fill(store)
    everything = await read_everything(store)
    await store.close()
    return folder, everything


@pytest.fixture
async def crashed(tmp_path: Path) -> tuple[Path, Everything]:
    """What a crash left of a store: all that it holds is in its log."""
    folder = tmp_path / "running"
    store = SqliteStore(folder)
    await store.open()
    await fill(store)
    everything = await read_everything(store)
    shutil.copytree(folder, tmp_path / "crashed")
    await store.close()
    return tmp_path / "crashed", everything


def flip_bit(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def flip_bits(path: Path, dice: random.Random) -> None:
    for _ in range(20):
        flip_bit(path, dice)


def zero_block(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = dice.randrange(len(data)) // 4096 * 4096
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


def cut_off(path: Path, dice: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(len(data))])


async def refused_or_whole(folder: Path, everything: Everything) -> bool:
    """Tell whether a store was refused; fail if it was taken and something is missing in it."""
    store = SqliteStore(folder)
    named: Path | None = None
    found: Everything = {}
    try:
        await store.open()
        found = await read_everything(store)
    except StoreDamagedError as error:
        named = error.path
    finally:
        await store.close()
    if named is None:
        assert found == everything
        return False
    assert named in (folder / DATABASE, folder / LOG)
    return True


@pytest.mark.parametrize("damage", [flip_bit, flip_bits, zero_block, cut_off])
async def test_a_damaged_database_is_refused_or_nothing_is_missing(
    closed: tuple[Path, Everything], damage: Callable[[Path, random.Random], None]
) -> None:
    folder, everything = closed
    original = (folder / DATABASE).read_bytes()
    refused = 0

    for seed in range(40):
        (folder / DATABASE).write_bytes(original)
        damage(folder / DATABASE, random.Random(seed))
        refused += await refused_or_whole(folder, everything)
        for beside in (LOG, "lineshaft.sqlite-shm", "store.open"):
            (folder / beside).unlink(missing_ok=True)

    assert refused > 5


async def test_a_job_id_is_missed_wherever_it_changes(closed: tuple[Path, Everything]) -> None:
    folder, everything = closed
    original = (folder / DATABASE).read_bytes()
    places = [found.start() for found in re.finditer(rb"j39", original)]

    refusals = []
    for place in places:
        (folder / DATABASE).write_bytes(original[:place] + b"J" + original[place + 1 :])
        refusals.append(await refused_or_whole(folder, everything))
        for beside in (LOG, "lineshaft.sqlite-shm", "store.open"):
            (folder / beside).unlink(missing_ok=True)

    # Table and index of the journal, of the jobs by id, by time and by mark, and its events.
    assert refusals.count(True) >= 6


@pytest.mark.parametrize("damage", [flip_bit, flip_bits, zero_block])
async def test_a_damaged_log_is_refused_or_nothing_is_missing(
    crashed: tuple[Path, Everything],
    damage: Callable[[Path, random.Random], None],
    tmp_path: Path,
) -> None:
    folder, everything = crashed
    refused = 0

    for seed in range(15):
        copy = tmp_path / f"copy{seed}"
        shutil.copytree(folder, copy)
        damage(copy / LOG, random.Random(seed))
        refused += await refused_or_whole(copy, everything)

    assert refused > 5


async def test_a_refused_store_is_left_as_it_was_found(crashed: tuple[Path, Everything]) -> None:
    folder, _ = crashed
    damaged = (folder / LOG).read_bytes().replace(b"record of 1 ", b"record of l ")
    (folder / LOG).write_bytes(damaged[: len(damaged) // 2])
    (folder / DATABASE).write_bytes(b"not a database " * 1000)
    before = folder_bytes(folder)

    with pytest.raises(StoreDamagedError):
        await SqliteStore(folder).open()

    assert folder_bytes(folder) == before


async def test_a_store_refused_by_a_checksum_keeps_its_log(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "running")
    await store.open()
    await fill(store)
    with sqlite3.connect(tmp_path / "running" / DATABASE) as connection:
        connection.execute("UPDATE jobs SET status = 'lost' WHERE job_id = 'j1'")
    connection.close()
    folder = tmp_path / "crashed"
    shutil.copytree(tmp_path / "running", folder)
    await store.close()
    before = folder_bytes(folder)

    with pytest.raises(StoreDamagedError, match="row of job j1"):
        await SqliteStore(folder).open()

    assert folder_bytes(folder) == before
    assert len(before[LOG]) > 0


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Read what matters of a folder: not the index of the log, nor whose lock it is."""
    names = (DATABASE, LOG, "store.made", "store.open")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("is_there", [True, False], ids=["empty", "missing"])
async def test_a_database_that_lost_everything_is_not_taken_for_a_new_one(
    closed: tuple[Path, Everything], is_there: bool
) -> None:
    folder, _ = closed
    (folder / DATABASE).unlink()
    if is_there:
        (folder / DATABASE).touch()

    with pytest.raises(StoreDamagedError, match=f"{folder / DATABASE}.*but jobs were kept in it"):
        await SqliteStore(folder).open()


async def test_a_log_that_went_missing_in_a_crash_is_missed(
    crashed: tuple[Path, Everything],
) -> None:
    folder, _ = crashed
    (folder / LOG).unlink()

    with pytest.raises(StoreDamagedError, match=f"{folder / LOG}.*missing"):
        await SqliteStore(folder).open()


async def test_a_job_that_lost_its_live_mark_is_noticed(closed: tuple[Path, Everything]) -> None:
    folder, _ = closed
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("UPDATE jobs SET is_live = 0 WHERE job_id = 'j1'")
    connection.close()

    report = check_store(folder)

    assert report.problems == ("the row of job j1 does not match its checksum",)


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()

    with pytest.raises(StoreDamagedError, match="not a Lineshaft database"):
        await SqliteStore(tmp_path).open()


async def test_a_check_finds_a_sound_store_sound_after_a_crash(
    crashed: tuple[Path, Everything],
) -> None:
    report = check_store(crashed[0])

    assert report.problems == ()
    assert (report.job_count, report.live_count) == (JOBS + 1, JOBS // 2 + 1)
    assert report.event_count == 3 * JOBS
