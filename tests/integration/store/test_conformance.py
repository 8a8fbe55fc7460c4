"""What every engine of the store must do."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.store.samples import event, finished, row, submitted

from lineshaft_coordinator.store.errors import BackupExistsError, StoreClosedError, StoreLockedError
from lineshaft_coordinator.store.interface import Batch, Sought, Store
from lineshaft_coordinator.store.sqlite import SqliteStore


async def test_each_opening_begins_a_higher_epoch(opener: Callable[[], Store]) -> None:
    epochs: list[int] = []
    for _ in range(3):
        store = opener()
        epochs.append(await store.open())
        await store.close()

    assert epochs == sorted(set(epochs))
    assert epochs[0] > 0


async def test_records_of_live_jobs_come_back_in_order_after_a_restart(
    opener: Callable[[], Store],
) -> None:
    store = opener()
    await store.open()
    for number in range(600):
        await store.append(submitted(f"j{number % 300}", b"record %d" % number))
    await store.append(finished("j7", at=9.0))
    await store.close()

    store = opener()
    await store.open()
    replayed = list(store.live_records())
    await store.close()

    assert replayed == [b"record %d" % number for number in range(600) if number % 300 != 7]


async def test_a_finished_job_keeps_its_story(store: Store) -> None:
    await store.append(submitted("j1", b"one", at=1.0))
    await store.append(submitted("j2", b"other", at=1.5))
    await store.append(finished("j1", at=2.0, record=b"two"))

    story = await store.records_of("j1")

    assert [(at, record) for _, at, record in story] == [(1.0, b"one"), (2.0, b"two")]
    assert list(store.live_records()) == [b"other"]


async def test_a_late_record_of_a_finished_job_joins_its_story_only(store: Store) -> None:
    await store.append(submitted("j1", b"one"))
    await store.append(finished("j1", at=2.0, record=b"two"))

    await store.append(Batch(records=[("j1", 3.0, b"superseded")]))

    assert [record for *_, record in await store.records_of("j1")] == [
        b"one",
        b"two",
        b"superseded",
    ]
    assert list(store.live_records()) == []


async def test_a_record_of_a_job_without_a_row_is_our_bug(store: Store) -> None:
    with pytest.raises(AssertionError, match="without a row"):
        await store.append(Batch(records=[("j1", 1.0, b"lost at the next start")]))

    assert await store.records_of("j1") == []


async def test_concurrent_appends_keep_their_order(store: Store) -> None:
    await store.append(Batch(rows=[row("j1")]))

    batches = [Batch(records=[("j1", 1.0, b"%d" % number)]) for number in range(500)]
    await asyncio.gather(*(store.append(batch) for batch in batches))

    assert [record for *_, record in await store.records_of("j1")] == [
        b"%d" % number for number in range(500)
    ]


async def test_an_append_goes_on_when_its_asker_is_cancelled(store: Store) -> None:
    asker = asyncio.create_task(store.append(submitted("j1")))
    await asyncio.sleep(0)
    asker.cancel()

    await store.append(submitted("j2"))

    assert await store.row_of("j1") == row("j1")


async def test_the_last_row_of_a_batch_wins_and_none_leaves_what_was_there(store: Store) -> None:
    await store.append(Batch(rows=[row("j1", submitted_at=1.0)]))

    await store.append(
        Batch(
            rows=[
                row("j1", status="running", worker_id="w1", attempt=1, submitted_at=99.0),
                row("j1", status="running", error="first"),
                row("j1", status="stopping", attempt=1),
            ]
        )
    )

    assert await store.row_of("j1") == row(
        "j1", status="stopping", worker_id="w1", attempt=1, error="first", submitted_at=1.0
    )


async def test_an_empty_text_clears_worker_and_error(store: Store) -> None:
    await store.append(Batch(rows=[row("j1", worker_id="w1", error="lost")]))

    await store.append(Batch(rows=[row("j1", worker_id="", error="")]))

    assert await store.row_of("j1") == row("j1")


async def test_a_finished_job_keeps_its_end_until_it_lives_again(store: Store) -> None:
    await store.append(submitted("j1"))
    await store.append(finished("j1", at=7.0))
    await store.append(Batch(rows=[row("j1", is_live=False, status="failed")]))

    ended = await store.row_of("j1")
    await store.append(Batch(rows=[row("j1")]))
    revived = await store.row_of("j1")

    assert ended is not None
    assert (ended.status, ended.finished_at) == ("failed", 7.0)
    assert revived == row("j1")
    assert list(store.live_records()) == [b"submitted", b"finished"]


async def test_rows_are_listed_newest_first_page_by_page(store: Store) -> None:
    await store.append(Batch(rows=[row(f"j{n}", submitted_at=float(n // 2)) for n in range(10)]))

    pages: list[list[str]] = []
    before: tuple[float, str] | None = None
    while page := await store.rows(limit=4, before=before):
        pages.append([found.job_id for found in page])
        before = (page[-1].submitted_at, page[-1].job_id)

    assert pages == [["j9", "j8", "j7", "j6"], ["j5", "j4", "j3", "j2"], ["j1", "j0"]]


async def test_rows_are_filtered_by_every_column_asked_for(store: Store) -> None:
    await store.append(
        Batch(
            rows=[
                row("j1", status="queued", client_id="c1", submitted_at=1.0),
                row("j2", status="failed", client_id="c2", submitted_at=2.0),
                row("j3", status="failed", is_live=False, name="score", submitted_at=3.0),
                row("j4", status="running", worker_id="w1", submitted_at=4.0),
            ]
        )
    )

    async def listed(**wanted: str | bool | Sought) -> list[str]:
        return [found.job_id for found in await store.rows(limit=9, **wanted)]  # type: ignore[arg-type]

    assert await listed(status="failed") == ["j3", "j2"]
    assert await listed(status="failed", is_live=True) == ["j2"]
    assert await listed(client_id="c2") == ["j2"]
    assert await listed(worker_id="w1") == ["j4"]
    assert await listed(kind="pipeline") == []
    assert await listed(is_live=True) == ["j4", "j2", "j1"]


async def test_rows_are_found_by_parts_of_texts_by_tags_and_by_time(store: Store) -> None:
    await store.append(
        Batch(
            rows=[
                replace(row("j1", name="Train ÄÖ_1%", submitted_at=1.0), tags="gpu,night"),
                replace(row("j2", name="score", submitted_at=2.0), tags="gpus"),
                replace(
                    row("j3", status="failed", is_live=False, name="trainer", submitted_at=3.0),
                    tags="",
                ),
            ]
        )
    )

    async def listed(status: str | None = None, **sought: str | float) -> list[str]:
        found = await store.rows(limit=9, status=status, sought=Sought(**sought))  # type: ignore[arg-type]
        return [each.job_id for each in found]

    assert await listed(name="TRAIN") == ["j3", "j1"]
    assert await listed(name="TRAIN", status="failed") == ["j3"]
    assert await listed(name="ÄÖ_1%") == ["j1"]
    assert await listed(name="_2%") == []
    assert (
        await listed(find="J2") == await listed(find="gpus") == await listed(find="cor") == ["j2"]
    )
    assert await listed(find="gpu") == ["j2", "j1"]
    assert await listed(tag="gpu") == ["j1"]
    assert await listed(tag="gp") == []
    assert await listed(since=2.0) == ["j3", "j2"]
    assert await listed(since=2.0, find="train") == ["j3"]


async def test_jobs_are_counted_by_status(store: Store) -> None:
    await store.append(Batch(rows=[row(f"j{n}") for n in range(5)]))
    await store.append(Batch(rows=[row("j0", status="running"), row("j1", status="failed")]))
    await store.append(Batch(rows=[row("j9", status="failed", is_live=False, finished_at=1.0)]))

    assert await store.counts() == {"queued": 3, "running": 1, "failed": 2}


async def test_events_are_kept_once_and_read_from_any_seq(store: Store) -> None:
    await store.append(Batch(rows=[row("j1")], events=[event("j1", seq) for seq in range(100)]))
    await store.append(
        Batch(events=[event("j1", 99, body=b"again"), event("j1", 0, attempt=2, body=b"new")])
    )

    first = await store.events_of("j1", after=(1, 96), limit=3)
    everything = await store.events_of("j1")

    assert first == [event("j1", 97), event("j1", 98), event("j1", 99)]
    assert everything == [
        *(event("j1", seq) for seq in range(100)),
        event("j1", 0, attempt=2, body=b"new"),
    ]
    assert await store.events_of("j1", limit=1) == [event("j1", 0)]


async def test_events_are_read_backwards_and_no_more_than_asked_for(store: Store) -> None:
    events = [event("j1", seq, body=b"x" * 10) for seq in range(5)]
    later = event("j1", 0, attempt=2, body=b"y" * 10)
    await store.append(Batch(rows=[row("j1")], events=[*events, later]))

    assert await store.events_of("j1", bytes_max=11) == events[:2]
    assert await store.events_of("j1", after=(1, 3)) == [events[4], later]
    last = await store.last_events_of("j1", before=(9, 0), limit=9, bytes_max=30)
    assert last == [later, events[4], events[3]]
    assert await store.last_events_of("j1", before=(1, 3), limit=2, bytes_max=99) == [
        events[2],
        events[1],
    ]


async def test_pruning_forgets_the_longest_finished_jobs_whole(store: Store) -> None:
    for number in range(200):
        await store.append(submitted(f"j{number}"))
        await store.append(Batch(events=[event(f"j{number}", 0)]))
    await asyncio.gather(*(store.append(finished(f"j{n}", at=float(n))) for n in range(1, 200)))

    counts = [await store.prune(finished_before=180.0, limit=100) for _ in range(3)]

    assert counts == [100, 79, 0]
    assert await store.row_of("j179") is None
    assert await store.records_of("j179") == []
    assert await store.events_of("j179") == []
    assert len(await store.records_of("j180")) == 2
    assert list(store.live_records()) == [b"submitted"]


async def test_positions_in_the_journal_are_never_given_twice(opener: Callable[[], Store]) -> None:
    store = opener()
    await store.open()
    await store.append(submitted("j1"))
    await store.append(finished("j1", at=2.0))
    ((_, *_), (last, *_)) = await store.records_of("j1")
    await store.prune(finished_before=3.0, limit=1)
    await store.close()

    store = opener()
    await store.open()
    await store.append(submitted("j2"))
    ((first, *_),) = await store.records_of("j2")
    await store.close()

    assert first > last


async def test_a_second_opening_is_refused_until_the_first_closes(
    store: Store, opener: Callable[[], Store]
) -> None:
    second = opener()
    with pytest.raises(StoreLockedError):
        await second.open()

    await store.close()
    third = opener()
    await third.open()
    await third.close()


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    await store.close()

    with pytest.raises(StoreClosedError):
        await store.append(submitted("j1"))
    with pytest.raises(StoreClosedError):
        await store.counts()


async def test_closing_finishes_what_was_asked_before(opener: Callable[[], Store]) -> None:
    store = opener()
    await store.open()
    appends = [asyncio.create_task(store.append(submitted(f"j{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*appends)

    store = opener()
    await store.open()
    assert len(list(store.live_records())) == 50
    await store.close()


async def test_a_backup_made_under_load_is_whole_and_its_epochs_are_ahead(
    store: Store, tmp_path: Path
) -> None:
    restored = tmp_path / "restored"
    restored.mkdir()
    for number in range(300):
        await store.append(submitted(f"j{number}"))

    load = [asyncio.create_task(store.append(submitted(f"k{n}"))) for n in range(300)]
    await store.backup(restored / "lineshaft.sqlite")
    await asyncio.gather(*load)

    copy = SqliteStore(restored)
    assert await copy.open() > 1_000
    assert len(list(copy.live_records())) >= 300
    await copy.close()


async def test_a_backup_never_replaces_a_file(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "kept"
    target.write_text("mine")

    with pytest.raises(BackupExistsError):
        await store.backup(target)

    assert target.read_text() == "mine"


async def test_rows_whose_ids_begin_alike_are_read_in_order(store: Store) -> None:
    for job_id in ("a.2", "a.10", "a", "ab.1", "a.1", "b.1"):
        await store.append(submitted(job_id, b"one"))

    first = await store.rows_beginning("a.", limit=2)
    rest = await store.rows_beginning("a.", after=first[-1].job_id, limit=9)

    assert [[row.job_id for row in rows] for rows in (first, rest)] == [["a.1", "a.10"], ["a.2"]]


async def test_records_that_begin_alike_are_read_behind_a_position(store: Store) -> None:
    empty: list[bytes] = []
    assert await store.scan_beginning(b"kept", 0, empty.append) == 0
    await store.append(submitted("j1"))
    for number in range(600):  # More than one read's worth.
        kind = b"kept" if number % 2 else b"unkept"
        await store.append(Batch(records=[("j1", 1.0, kind + b" %d" % number)]))
    shown: list[bytes] = []
    end = await store.scan_beginning(b"kept", None, shown.append)
    assert shown == []

    assert await store.scan_beginning(b"kept", end - 10, shown.append) == end
    everything: list[bytes] = []
    await store.scan_beginning(b"kept", 0, everything.append)

    assert shown == [b"kept %d" % number for number in range(591, 600, 2)]
    assert everything == [b"kept %d" % number for number in range(1, 600, 2)]
