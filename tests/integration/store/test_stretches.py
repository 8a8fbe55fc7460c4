"""Neighbouring events share a row, and are told and kept one by one all the same."""

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from tests.integration.store.samples import event, finished, row, submitted

from lineshaft_coordinator.store import queries
from lineshaft_coordinator.store.check import check_store
from lineshaft_coordinator.store.errors import StoreDamagedError
from lineshaft_coordinator.store.files import StoreFiles
from lineshaft_coordinator.store.interface import Batch, EventRow
from lineshaft_coordinator.store.schema import MIGRATIONS, migrate
from lineshaft_coordinator.store.sqlite import SqliteStore
from lineshaft_coordinator.store.stretches import (
    BYTES_MAX,
    COUNT_MAX,
    Stretch,
    cells_of_stretch,
    neighbours,
    read_stretch,
)

ATTEMPTS = 2
EVENTS = 60


def told(seq: int, attempt: int = 1) -> EventRow:
    return event("j1", seq, attempt=attempt, body=b'{"n":%d,"x":"%s"}' % (seq, b"," * (seq % 5)))


async def opened(folder: Path) -> SqliteStore:
    store = SqliteStore(folder)
    await store.open()
    return store


def rows_in(folder: Path) -> int:
    with closing(sqlite3.connect(StoreFiles(folder).database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    return int(count)


@pytest.mark.parametrize("count", [1, 2, 3, COUNT_MAX])
def test_a_stretch_is_read_as_it_was_written(count: int) -> None:
    events = [told(seq) for seq in range(7, 7 + count)]

    stretch = read_stretch(cells_of_stretch(events))

    assert (stretch.first, stretch.events()) == (7, events)
    assert stretch.behind((1, 6)) == stretch.behind((0, 99)) == stretch
    assert stretch.behind((1, 7)).events() == events[1:]


def test_a_stretch_has_no_gap_and_an_end() -> None:
    small = [told(seq) for seq in range(1, COUNT_MAX + 3)]
    large = [event("j2", seq, body=b"x" * BYTES_MAX) for seq in (1, 2)]
    apart = [told(1, attempt=3), told(3, attempt=3), told(2, attempt=3), event("j3", 3)]

    together = list(neighbours([*small, *large, *apart]))

    assert together == [small[:COUNT_MAX], small[COUNT_MAX:], *([each] for each in large + apart)]


async def test_what_comes_together_lies_together(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.append(submitted("j1"))
    await store.append(Batch(events=[told(seq) for seq in range(1, 101)]))
    await store.append(Batch(events=[told(seq) for seq in range(101, 151)]))

    everything = await store.events_of("j1")
    middle = await store.events_of("j1", after=(1, 42), limit=100)
    backwards = await store.last_events_of("j1", before=(1, 120), limit=100, bytes_max=1 << 20)
    await store.close()

    assert rows_in(tmp_path) == 2
    assert everything == [told(seq) for seq in range(1, 151)]
    assert middle == [told(seq) for seq in range(43, 143)]
    assert backwards == [told(seq) for seq in range(119, 19, -1)]
    assert check_store(tmp_path).event_count == 150


async def test_who_follows_reads_from_the_middle_of_a_stretch(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.append(submitted("j1"))
    await store.append(Batch(events=[told(seq) for seq in range(1, 11)]))
    await store.append(Batch(events=[told(seq, 2) for seq in range(1, 4)]))
    await store.close()

    with closing(sqlite3.connect(StoreFiles(tmp_path).database)) as connection:
        found = queries.stretches_of(connection, "j1", (1, 4), 1000, 1 << 20)
        first = queries.stretches_of(connection, "j1", (0, 0), 1, 1 << 20)

    assert [(each.attempt, each.first, len(each.ats)) for each in found] == [(1, 5, 6), (2, 1, 3)]
    assert [each for stretch in first for each in stretch.events()] == [
        told(seq) for seq in range(1, 11)
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_said_again_with_other_neighbours_is_kept_once(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    store = await opened(tmp_path)
    await store.append(submitted("j1"))
    kept: dict[tuple[int, int], EventRow] = {}
    heard = dict.fromkeys(range(1, ATTEMPTS + 1), 0)

    while min(heard.values()) < EVENTS:
        batch: list[EventRow] = []
        for _ in range(dice.randint(1, 3)):
            attempt = dice.randint(1, ATTEMPTS)
            # What was not acknowledged comes again; now and then some of it never comes.
            first = max(1, heard[attempt] + dice.randint(-8, 2))
            seqs = range(first, first + dice.randint(1, 12))
            batch += [told(seq, attempt) for seq in seqs]
            heard[attempt] = max(heard[attempt], seqs[-1])
        for each in batch:
            kept.setdefault((each.attempt, each.seq), each)
        # What was there first stays.
        again = [replace(each, body=b"again") for each in batch if dice.random() < 0.3]
        await store.append(Batch(events=[*batch, *again]))
        if dice.random() < 0.2:
            await store.close()
            store = await opened(tmp_path)
    expected = [kept[place] for place in sorted(kept)]

    everything = await store.events_of("j1")
    await store.append(finished("j1", at=9.0))
    await store.append(Batch(events=[replace(each, body=b"late") for each in expected[:5]]))
    pages = await paged(store, dice)
    backwards = await store.last_events_of("j1", before=(9, 0), limit=9999, bytes_max=1 << 30)
    await store.close()

    assert everything == pages == expected
    assert backwards == expected[::-1]
    assert rows_in(tmp_path) < len(expected)
    assert check_store(tmp_path).event_count == len(expected)


async def paged(store: SqliteStore, dice: random.Random) -> list[EventRow]:
    found: list[EventRow] = []
    after = (-1, -1)
    while page := await store.events_of("j1", after=after, limit=dice.randint(1, 9)):
        found += page
        after = page[-1].attempt, page[-1].seq
    return found


async def test_events_of_a_store_without_stretches_are_kept(tmp_path: Path) -> None:
    old = [told(seq) for seq in range(1, 6)]
    second_version(tmp_path, old)

    store = await opened(tmp_path)
    await store.append(Batch(events=[told(seq) for seq in range(4, 9)]))
    everything = await store.events_of("j1")
    await store.close()

    assert everything == [told(seq) for seq in range(1, 9)]
    assert rows_in(tmp_path) == 6
    report = check_store(tmp_path)
    assert (report.problems, report.schema_version, report.event_count) == ((), 3, 8)


def second_version(folder: Path, events: Sequence[EventRow]) -> None:
    """Make a store as it was at schema version 2, with one live job that said this."""
    folder.mkdir(parents=True, exist_ok=True)
    path = StoreFiles(folder).database
    cells = ("j1", 1, "queued", "train", "plan", "c1", 1.0, None, None, 0, "", None)
    crc = crc32("\0".join(map(str, cells)).encode())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, migrations=MIGRATIONS[:2], keep_copy=lambda _: None)
        marks = ", ".join("?" * 14)
        connection.execute(f"INSERT INTO jobs VALUES ({marks})", (*cells, crc, ""))
        for each in events:
            *single, count = cells_of_stretch([each])
            assert count == 1
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", single)


@pytest.mark.parametrize("change", ["count = count - 1", "count = 1", "seq = seq + 1"])
async def test_a_stretch_that_changed_is_refused(tmp_path: Path, change: str) -> None:
    store = await opened(tmp_path)
    await store.append(Batch(rows=[row("j1")], events=[told(seq) for seq in range(1, 11)]))
    await store.close()
    with closing(sqlite3.connect(StoreFiles(tmp_path).database)) as connection:
        connection.execute(f"UPDATE events SET {change}")
        connection.commit()

    store = SqliteStore(tmp_path)
    await store.open()
    with pytest.raises(StoreDamagedError, match="of attempt 1 of job j1"):
        await store.events_of("j1")
    await store.close()


def test_the_part_behind_a_place_may_be_empty() -> None:
    stretch = Stretch("j1", 1, 3, (1.0, 2.0), (b"a", b"b"))

    assert stretch.behind((1, 4)).events() == []
