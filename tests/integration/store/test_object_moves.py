"""Blobs that move between the coordinator's disk and an object store, which is a folder here."""

import asyncio
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.farm import DEADLINE_S
from tests.integration.gateway.seed_bench import until
from tests.integration.store.moving_bench import LARGE, NAME, Bench

from lineshaft_coordinator.data import stored_objects
from lineshaft_coordinator.data.blob_errors import (
    BlobElsewhereError,
    BlobLostError,
    BlobStoreFullError,
)
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.handover import Porch
from lineshaft_coordinator.data.store_note import (
    ObjectStoreSettingError,
    note_for,
    read_note,
)
from lineshaft_coordinator.data.stored_objects import INDEX
from lineshaft_coordinator.data.transfers import Transfers
from lineshaft_coordinator.server.blob_room import moving, open_blobs
from lineshaft_coordinator.settings import CoordinatorSettings
from lineshaft_protocol.blob_messages import BlobHere, FetchBlob, SameHost, SameHostFolder
from lineshaft_protocol.wire import Wire
from lineshaft_runtime.object_errors import ObjectStoreTakenError, ObjectStoreUnreachableError
from lineshaft_runtime.object_store import MARKER, ObjectStore
from lineshaft_runtime.same_host import SECRET_FILE, boot_id


async def test_what_is_large_moves_and_what_is_small_stays(bench: Bench) -> None:
    small = bench.blobs.put_bytes(b"small" * 10)
    assert bench.blobs.put_bytes(LARGE) == NAME

    await bench.moved()

    assert bench.object().read_bytes() == LARGE
    assert bench.stored.names() == [NAME]
    assert bench.blobs.is_here(small)
    assert set(bench.blobs.names()) == {small, NAME}


async def test_what_is_only_in_the_store_is_complete_and_can_be_read(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()

    bench.blobs.drop_copies([NAME])

    assert not bench.blobs.is_here(NAME)
    assert bench.blobs.total_bytes == 0
    assert bench.blobs.is_complete(NAME)
    assert bench.blobs.refer(NAME)
    assert bench.blobs.begin(NAME, len(LARGE)) == len(LARGE)
    assert bench.blobs.size_of(NAME) == len(LARGE)
    assert bench.blobs.read(NAME, 10, 20) == LARGE[10:30]
    assert bench.blobs.total_bytes == len(LARGE)


async def test_what_is_nowhere_else_is_never_dropped_as_a_copy(bench: Bench) -> None:
    shutil.move(bench.store, bench.store.with_name("away"))
    bench.blobs.put_bytes(LARGE)

    bench.blobs.drop_copies([NAME])

    assert bench.blobs.read(NAME, 0, 1 << 20) == LARGE


async def test_copies_that_are_too_many_go_and_come_back(tmp_path: Path) -> None:
    async with Bench.running(tmp_path, copies_bytes_max=0) as bench:
        bench.blobs.put_bytes(LARGE)
        await until(lambda: not bench.blobs.is_here(NAME))

        assert bench.mover.is_away(NAME)
        assert bench.blobs.read(NAME, 0, 1 << 20) == LARGE


async def test_copies_give_way_to_what_is_nowhere_else(tmp_path: Path) -> None:
    async with Bench.running(tmp_path, total_bytes_max=400_000) as bench:
        bench.blobs.put_bytes(LARGE)
        await bench.moved()

        other = bench.blobs.put_bytes(LARGE[::-1])

        assert not bench.blobs.is_here(NAME)
        assert bench.blobs.is_complete(other)
        assert bench.blobs.total_bytes == len(LARGE)


async def test_while_the_store_is_away_blobs_are_taken_and_room_runs_out(bench: Bench) -> None:
    away = bench.store.with_name("away")
    bench.store.rename(away)

    bench.blobs.put_bytes(LARGE)
    await until(lambda: bench.mover.problem)

    assert "no folder" in str(bench.mover.problem)
    assert bench.blobs.read(NAME, 0, 10) == LARGE[:10]
    bench.blobs._uploads._limits = replace(bench.blobs._uploads._limits, total_bytes_max=400_000)
    with pytest.raises(BlobStoreFullError):
        bench.blobs.put_bytes(LARGE[::-1])

    away.rename(bench.store)
    await bench.moved()
    assert bench.object().read_bytes() == LARGE


async def test_what_cannot_be_had_now_is_told_apart_from_what_is_lost(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    away = bench.store.with_name("away")

    bench.store.rename(away)
    with pytest.raises(BlobElsewhereError, match="try again later"):
        bench.blobs.read(NAME, 0, 1)
    with pytest.raises(BlobElsewhereError):
        await bench.mover.bring(NAME)
    away.rename(bench.store)
    bench.object().unlink()
    with pytest.raises(BlobLostError, match="is lost"):
        await bench.mover.bring(NAME)

    assert list((bench.data / "blobs" / "partial").iterdir()) == []
    assert bench.blobs.total_bytes == 0


async def test_an_object_of_a_worker_counts_once_it_was_looked_at(bench: Bench) -> None:
    source = bench.data / "source"
    source.write_bytes(LARGE)

    assert not await bench.mover.look(NAME, len(LARGE))
    bench.stored.store.put(NAME, source)
    assert not await bench.mover.look(NAME, len(LARGE) - 1)
    assert not bench.blobs.is_complete(NAME)
    assert await bench.mover.look(NAME, len(LARGE))

    assert bench.blobs.is_complete(NAME)
    assert bench.mover.is_away(NAME)


async def test_the_next_start_knows_what_lies_in_the_store(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])

    bench.open()

    assert bench.blobs.is_complete(NAME)
    assert bench.blobs.read(NAME, 0, 1 << 20) == LARGE


async def test_blobs_from_before_there_was_a_store_move_to_it(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    BlobStore(
        tmp_path / "data" / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 30
    ).put_bytes(LARGE)
    bench = Bench(tmp_path / "data", tmp_path / "store")
    await bench.mover.claim()

    async with moving(bench.mover):
        await bench.moved()

    assert bench.object().read_bytes() == LARGE


async def test_what_nobody_needs_is_collected_from_the_store(bench: Bench) -> None:
    needed = bench.blobs.put_bytes(LARGE[::-1])
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    await bench.moved(needed)
    bench.blobs.drop_copies([NAME])

    young = bench.blobs.collect({needed}, older_than_s=3600, now=time.time())
    collected = bench.blobs.collect({needed}, older_than_s=3600, now=time.time() + 7200)
    await until(lambda: not bench.object().exists())

    assert young.count == 0
    assert (collected.count, collected.size_bytes) == (1, len(LARGE))
    assert not bench.blobs.is_complete(NAME)
    assert bench.object(needed).exists()
    await until(lambda: not bench.stored.struck())
    bench.open()
    assert bench.blobs.names() == [needed]
    assert bench.stored.struck() == []


async def test_a_removal_that_was_cut_off_is_gone_on_with(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    away = bench.store.with_name("away")
    bench.store.rename(away)
    bench.blobs.collect(set(), older_than_s=-10, now=time.time())
    # What is struck cannot be entered again: its object is about to go.
    assert not bench.stored.enter(NAME, len(LARGE))

    bench.open()

    assert not bench.blobs.is_complete(NAME)
    assert bench.stored.struck() == [NAME]
    away.rename(bench.store)
    await bench.mover.claim()
    async with moving(bench.mover):
        await until(lambda: not bench.object().exists())


async def test_objects_and_drafts_that_nobody_told_us_of_are_swept(bench: Bench) -> None:
    source = bench.data / "source"
    source.write_bytes(LARGE)
    bench.stored.store.put(NAME, source)
    known = bench.blobs.put_bytes(LARGE[::-1])
    await bench.moved(known)
    (bench.store / "partial" / "half").write_bytes(b"half")

    assert await bench.mover.sweep(older_than_s=3600) == 0
    assert await bench.mover.sweep(older_than_s=-3600) == 2

    assert not bench.object().exists()
    assert bench.object(known).exists()
    assert list((bench.store / "partial").iterdir()) == []


async def test_a_removal_that_comes_twice_leaves_what_was_put_there_since(bench: Bench) -> None:
    source = bench.data / "source"
    source.write_bytes(LARGE)
    bench.stored.on_waiting = lambda: None  # The mover sleeps: it is us who remove.
    bench.stored.store.put(NAME, source)
    assert await bench.mover.look(NAME, len(LARGE))
    bench.blobs.collect(set(), older_than_s=-10, now=time.time())
    first = second = bench.stored.struck()
    assert first == [NAME]

    bench.stored.remove(first[0])
    bench.stored.store.put(NAME, source)
    assert await bench.mover.look(NAME, len(LARGE))
    bench.stored.remove(second[0])

    assert bench.blobs.read(NAME, 0, 1 << 20) == LARGE


async def test_what_was_entered_after_a_strike_outlives_a_restart(bench: Bench) -> None:
    source = bench.data / "source"
    source.write_bytes(LARGE)
    bench.stored.store.put(NAME, source)
    assert await bench.mover.look(NAME, len(LARGE))
    (entry,) = (bench.data / "blobs" / INDEX / NAME[:2]).iterdir()
    entry.with_name(f"{entry.name}.gone").touch()  # Which could not be removed, perhaps.

    bench.open()

    assert bench.stored.struck() == []
    assert bench.stored.names() == [NAME]


async def test_nothing_is_swept_in_a_place_that_has_become_another_ones(bench: Bench) -> None:
    bench.store.rename(bench.store.with_name("ours"))
    bench.store.mkdir()
    other = ObjectStore(f"file://{bench.store}")
    other.claim("of somebody else", is_new=True)
    source = bench.data / "source"
    source.write_bytes(LARGE)
    other.put(NAME, source)

    with pytest.raises(ObjectStoreTakenError):
        await bench.mover.sweep(older_than_s=-3600)

    assert bench.object().exists()


@pytest.mark.parametrize("was_away", [True, False])
async def test_a_place_that_has_become_another_ones_is_not_used(
    bench: Bench, was_away: bool
) -> None:
    bench.store.rename(bench.store.with_name("ours"))
    if was_away:
        bench.blobs.put_bytes(LARGE)
        await until(lambda: bench.mover.problem)
    bench.store.mkdir()
    ObjectStore(f"file://{bench.store}").claim("of somebody else", is_new=True)
    bench.blobs.put_bytes(LARGE)

    await until(lambda: "another coordinator" in str(bench.mover.problem))

    assert not bench.object().exists()
    assert bench.blobs.is_here(NAME)


async def test_what_somebody_looks_for_is_no_stray_and_what_goes_is_not_entered(
    bench: Bench,
) -> None:
    source = bench.data / "source"
    source.write_bytes(LARGE)
    bench.stored.on_waiting = lambda: None
    bench.stored.store.put(NAME, source)

    with bench.stored.expected(NAME) as is_free:
        assert is_free
        assert await bench.mover.sweep(older_than_s=-3600) == 0
        assert bench.stored.enter(NAME, len(LARGE))
    bench.stored.strike(NAME)

    assert not await bench.mover.look(NAME, len(LARGE))
    assert bench.object().exists()
    bench.stored.remove(NAME)
    assert not bench.object().exists()


async def test_nobody_waits_for_the_disk_to_enter_another_object(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    are_free: list[bool] = []

    def sync(_: Path) -> None:
        asking = threading.Thread(target=bench.stored.make_young, args=(NAME,), daemon=True)
        asking.start()
        asking.join(DEADLINE_S)
        are_free.append(not asking.is_alive())

    monkeypatch.setattr(stored_objects, "sync_path", sync)

    await asyncio.to_thread(bench.stored.enter, f"{0:064d}", 1)

    assert are_free == [True, True], "for its folder, and for its name"


async def test_an_object_that_cannot_be_entered_is_answered_for(bench: Bench) -> None:
    source = bench.data / "source"
    source.write_bytes(LARGE)
    bench.stored.store.put(NAME, source)
    shard = bench.data / "blobs" / INDEX / NAME[:2]
    shard.write_bytes(b"in the way")

    assert not await bench.mover.look(NAME, len(LARGE))

    shard.unlink()
    assert await bench.mover.look(NAME, len(LARGE))


async def test_a_blob_that_cannot_be_moved_does_not_hold_up_others(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "data").mkdir()
    bench = Bench(tmp_path / "data", tmp_path / "store")
    await bench.mover.claim()
    bad = [bench.blobs.put_bytes(LARGE + bytes([number])) for number in range(2)]
    for each in bad:
        bench.blobs.open(each).path.unlink()  # Somebody was there before us.
    bench.blobs.put_bytes(LARGE)

    async with moving(bench.mover):
        await bench.moved()

    assert bench.object().read_bytes() == LARGE
    assert set(bench.stored.waiting(10)) == set(bad)


async def test_a_copy_that_is_read_stays_though_it_is_too_large(tmp_path: Path) -> None:
    async with Bench.running(tmp_path, copies_bytes_max=1) as bench:
        bench.blobs.put_bytes(LARGE)
        await until(lambda: bench.mover.is_away(NAME))

        with bench.mover.holding(NAME):
            await bench.mover.bring(NAME)
            other = bench.blobs.put_bytes(LARGE[::-1])
            await until(lambda: bench.mover.is_away(other))
            assert bench.blobs.is_here(NAME)
        await bench.mover.bring(other)

        assert bench.blobs.is_here(other)
        assert not bench.blobs.is_here(NAME)


async def test_a_copy_that_is_read_stays_though_others_need_room(tmp_path: Path) -> None:
    async with Bench.running(tmp_path, total_bytes_max=400_000) as bench:
        bench.blobs.put_bytes(LARGE)
        await bench.moved()

        with bench.mover.holding(NAME), pytest.raises(BlobStoreFullError):
            bench.blobs.put_bytes(LARGE[::-1])

        assert bench.blobs.is_here(NAME)
        bench.blobs.put_bytes(LARGE[::-1])
        assert not bench.blobs.is_here(NAME)


async def test_a_store_of_another_coordinator_is_not_used(bench: Bench, tmp_path: Path) -> None:
    settings = CoordinatorSettings(
        data=tmp_path / "other", home=tmp_path, blob_store=f"file://{bench.store}"
    )
    settings.data.mkdir()

    with pytest.raises(ObjectStoreTakenError):
        await open_blobs(settings)


async def test_a_store_must_be_there_when_it_is_first_used_and_not_later(tmp_path: Path) -> None:
    settings = CoordinatorSettings(
        data=tmp_path / "data", home=tmp_path, blob_store=f"file://{tmp_path / 'store'}"
    )
    settings.data.mkdir()

    with pytest.raises(ObjectStoreUnreachableError):
        await open_blobs(settings)
    (tmp_path / "store").mkdir()
    await open_blobs(settings)
    (tmp_path / "store").rename(tmp_path / "away")
    _, mover = await open_blobs(settings)

    assert mover is not None


async def test_a_data_folder_does_not_start_without_its_store(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()

    with pytest.raises(ObjectStoreSettingError, match=f"--blob-store file://{bench.store}"):
        note_for(bench.data, None)


async def test_a_store_may_be_moved_with_its_marker(bench: Bench, tmp_path: Path) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    moved = tmp_path / "moved"
    shutil.copytree(bench.store, moved)
    settings = CoordinatorSettings(data=bench.data, home=tmp_path, blob_store=f"file://{moved}")

    blobs, _ = await open_blobs(settings)

    assert await asyncio.to_thread(blobs.read, NAME, 0, 1 << 20) == LARGE
    note = read_note(bench.data)
    assert note is not None
    assert note.url == f"file://{moved}"
    assert (moved / MARKER).exists()


class Peer:
    """Remembers what it is told; it is on the coordinator's machine."""

    def __init__(self, bench: Bench) -> None:
        self.told: list[Wire] = []
        self.is_writable = True
        porch = Porch(bench.data / "blobs" / "porch")
        self.transfers = Transfers(bench.blobs, self, porch, bench.mover)
        self.transfers.on_message(SameHost(boot_id=boot_id()))
        (answer,) = self.told
        assert isinstance(answer, SameHostFolder)
        assert answer.folder is not None
        secret = (Path(answer.folder) / SECRET_FILE).read_text()
        self.transfers.on_message(SameHost(boot_id=boot_id(), secret=secret))
        self.told.clear()

    def send(self, message: Wire) -> None:
        self.told.append(message)

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        raise AssertionError(f"{len(buffers)} buffers for who takes files")

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


async def test_who_takes_files_is_not_told_that_a_blob_in_the_store_is_missing(
    bench: Bench,
) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    peer = Peer(bench)

    peer.transfers.on_message(FetchBlob(blob_id=NAME, as_file=True))
    await until(lambda: peer.told)

    (here,) = peer.told
    assert isinstance(here, BlobHere)
    assert here.size_bytes == len(LARGE)
    assert bench.blobs.open(NAME).path.samefile(here.path)
