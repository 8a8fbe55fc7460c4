"""Objects that somebody else removed or changed, and stores that hang or go away meanwhile."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import until
from tests.integration.store.moving_bench import LARGE, NAME, Bench

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobLostError
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.server.blob_room import moving
from lineshaft_runtime.object_store import MARKER, ObjectStore


async def test_an_object_that_was_changed_is_never_passed_on(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    bench.object().write_bytes(LARGE[::-1])

    with pytest.raises(BlobLostError, match="damaged"):
        bench.blobs.read(NAME, 0, 1)

    assert not bench.blobs.is_here(NAME)


@pytest.mark.parametrize("damage", ["removed", "changed", "cut off"])
async def test_what_somebody_else_spoilt_in_the_store_is_sent_again_and_is_whole_then(
    bench: Bench, damage: str
) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    if damage == "removed":
        bench.object().unlink()
    else:
        bench.object().write_bytes(LARGE[::-1] if damage == "changed" else LARGE[:-1])

    # Nobody knows until somebody reads it.
    assert bench.blobs.begin(NAME, len(LARGE)) == len(LARGE)
    with pytest.raises(BlobLostError, match="send it again, or do again what made it"):
        await bench.mover.bring(NAME)
    forgotten = not bench.blobs.is_complete(NAME), not bench.blobs.refer(NAME)
    offered_from = bench.blobs.begin(NAME, len(LARGE))
    # A worker took what lies there for whole; it has to send it to us.
    is_taken = damage == "changed" and await bench.mover.look(NAME, len(LARGE))
    bench.blobs.write(NAME, 0, LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])

    assert forgotten == (True, True)
    assert offered_from == 0
    assert not is_taken
    assert bench.object().read_bytes() == LARGE
    assert bench.blobs.read(NAME, 0, 1 << 20) == LARGE


async def test_what_was_forgotten_is_not_there_after_a_restart_either(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    bench.object().unlink()
    with pytest.raises(BlobLostError):
        await bench.mover.bring(NAME)

    bench.open()

    assert bench.blobs.names() == []


async def test_what_was_damaged_is_replaced_by_the_coordinator_after_us_too(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    bench.object().write_bytes(LARGE[::-1])
    with pytest.raises(BlobLostError):
        await bench.mover.bring(NAME)

    bench.open()
    # A worker took what lies there for whole, for it is as long.
    is_taken = await bench.mover.look(NAME, len(LARGE))
    assert not is_taken
    assert bench.blobs.begin(NAME, len(LARGE)) == 0
    await bench.mover.claim()
    async with moving(bench.mover):
        bench.blobs.write(NAME, 0, LARGE)
        await bench.moved()

    assert bench.object().read_bytes() == LARGE
    bench.open()
    assert not bench.stored.is_distrusted(NAME)
    assert NAME in bench.stored
    assert [*bench.data.rglob("*.bad")] == []


@pytest.mark.parametrize("is_empty", [True, False])
async def test_a_store_that_is_not_ours_now_has_lost_nothing(bench: Bench, is_empty: bool) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    ours = bench.store.with_name("ours")
    bench.store.rename(ours)
    bench.store.mkdir()
    if not is_empty:
        ObjectStore(f"file://{bench.store}").claim("of somebody else", is_new=True)

    with pytest.raises(BlobElsewhereError):
        await bench.mover.bring(NAME)

    shutil.rmtree(bench.store)
    ours.rename(bench.store)
    await bench.mover.bring(NAME)
    assert bench.blobs.read(NAME, 0, 1 << 20) == LARGE


async def test_what_is_being_put_there_is_not_forgotten(bench: Bench) -> None:
    bench.blobs.put_bytes(LARGE)
    await bench.moved()
    bench.blobs.drop_copies([NAME])
    bench.object().unlink()

    with bench.stored.expected(NAME), pytest.raises(BlobLostError):
        await bench.mover.bring(NAME)

    assert NAME in bench.stored


async def test_a_store_that_hangs_costs_one_wait_and_not_one_for_each_blob(bench: Bench) -> None:
    names = [bench.blobs.put_bytes(LARGE[number:]) for number in range(6)]
    for name in names:
        await bench.moved(name)
    bench.blobs.drop_copies(names)
    bench.mover = ObjectMover(bench.blobs, bench.stored, bench.note, doubt_s=0.1)
    await bench.mover.claim()
    marker = (bench.store / MARKER).read_bytes()
    hung = [bench.store / MARKER, *map(bench.object, names)]
    whole = {path: path.read_bytes() for path in hung}
    for path in hung:
        path.unlink()
        os.mkfifo(path)  # Who opens it waits until somebody writes.

    ends = await asyncio.gather(*map(bench.mover.bring, names), return_exceptions=True)

    assert [type(end) for end in ends] == [BlobElsewhereError] * len(names)
    assert "not answered" in str(bench.mover.problem)
    with pytest.raises(BlobElsewhereError, match="not answered"):
        await bench.mover.bring(names[0])
    for path, data in whole.items():  # The server is back, and all that hung goes on.
        writing = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        path.unlink()
        path.write_bytes(data)
        if path.name == MARKER:
            os.write(writing, marker)
        os.close(writing)
    await until(lambda: bench.mover.problem is None)
    await bench.mover.bring(names[0])
    assert bench.blobs.read(names[0], 0, 1 << 20) == LARGE


async def test_a_store_that_goes_away_is_noticed_though_nobody_asks_for_anything(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "data").mkdir()
    bench = Bench(tmp_path / "data", tmp_path / "store")
    mover = ObjectMover(bench.blobs, bench.stored, bench.note, look_every_s=0.01)
    await mover.claim()
    async with moving(mover):
        well = mover.problem

        bench.store.rename(tmp_path / "away")
        await until(lambda: mover.problem)
        problem = str(mover.problem)
        (tmp_path / "away").rename(bench.store)
        await until(lambda: mover.problem is None)

    assert well is None
    assert "no folder" in problem
