"""Who commits what: the caller a little at once, the thread the rest, never both."""

import asyncio
from pathlib import Path

import pytest
from tests.integration.store.samples import row, submitted

from lineshaft_coordinator.store import disk_pace
from lineshaft_coordinator.store.interface import Batch, Store
from lineshaft_coordinator.store.sqlite import SqliteStore

MANY = 64


def many(first: int) -> Batch:
    job_ids = [f"m{first + i}" for i in range(MANY)]
    records = [(job_id, 1.0, b"submitted") for job_id in job_ids]
    return Batch(records=records, rows=[row(job_id) for job_id in job_ids])


def is_done_at_once(store: Store, batch: Batch) -> bool:
    """Tell whether appending needs no turn of the loop."""
    append = store.append(batch)
    try:
        append.send(None)  # type: ignore[attr-defined]  # a coroutine, which the interface hides
    except StopIteration:
        return True
    append.close()  # type: ignore[attr-defined]  # as above
    return False


async def test_a_small_batch_is_on_disk_before_its_caller_yields(store: Store) -> None:
    assert is_done_at_once(store, submitted("j1"))

    assert [record for _, _, record in await store.records_of("j1")] == [b"submitted"]


async def test_a_large_batch_leaves_the_loop_free(store: Store) -> None:
    assert not is_done_at_once(store, many(0))


async def test_a_small_batch_waits_for_a_large_one_before_it(store: Store) -> None:
    large = asyncio.ensure_future(store.append(many(0)))
    await asyncio.sleep(0)

    assert not is_done_at_once(store, submitted("j1"))
    await large
    await store.append(submitted("j2"))

    (first, *_), *_ = await store.records_of("m0")
    (second, *_), *_ = await store.records_of("j1")
    (third, *_), *_ = await store.records_of("j2")
    assert first < second < third


@pytest.mark.parametrize(("limit", "most"), [("QUICK_S_MAX", disk_pace.SLOW_MAX), ("STALL_S", 1)])
async def test_on_a_slow_disk_the_loop_commits_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(disk_pace, limit, 0.0)  # Now every disk is slow, or stands still.
    store = SqliteStore(tmp_path / "data")
    await store.open()

    at_once = [is_done_at_once(store, submitted(f"j{i}")) for i in range(most + 1)]

    assert at_once == [True] * most + [False]
    await store.close()
