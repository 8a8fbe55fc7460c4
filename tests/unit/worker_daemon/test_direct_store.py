"""A worker's way past the coordinator, and when it is not taken."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import until

from lineshaft_protocol.blob_messages import (
    BlobInStore,
    BlobOffer,
    BlobStoreNotice,
    FetchBlob,
)
from lineshaft_protocol.ids import BlobId
from lineshaft_runtime.object_store import ObjectStore, object_name
from lineshaft_worker.daemon.direct_store import DirectStore

DATA = os.urandom(300_000)
NAME = BlobId(hashlib.sha256(DATA).hexdigest())
OFFER = BlobOffer(blob_id=NAME, size_bytes=len(DATA), is_in_store=True)
FETCH = FetchBlob(blob_id=NAME, in_store=True)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder / "store", list[BlobOffer | FetchBlob]()
        self.folder.mkdir()
        self.objects = ObjectStore(f"file://{self.folder}")
        self.objects.claim("ours", is_new=True)
        self.direct = DirectStore(self.said.append)
        self.source, self.draft = folder / "source", folder / "draft"
        self.source.write_bytes(DATA)

    def notice(self, store_id: str = "ours") -> BlobStoreNotice:
        return BlobStoreNotice(url=f"file://{self.folder}", store_id=store_id, bytes_min=1000)

    async def give(self) -> bool:
        async with asyncio.timeout(60):
            return await self.direct.give(NAME, self.source, len(DATA))

    async def fetch(self) -> bool:
        async with asyncio.timeout(60):
            return await self.direct.fetch(NAME, self.draft)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_object_counts_once_the_coordinator_has_found_it(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice())

    giving = asyncio.create_task(bench.give())
    await until(lambda: bench.said)

    assert bench.said == [OFFER]
    assert (bench.folder / object_name(NAME)).read_bytes() == DATA
    assert not giving.done()
    bench.direct.on_message(BlobInStore(blob_id=NAME, size_bytes=len(DATA)))
    assert await giving


async def test_what_the_coordinator_does_not_find_goes_by_it(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice())
    giving = asyncio.create_task(bench.give())
    await until(lambda: bench.said)

    bench.direct.on_message(BlobInStore(blob_id=NAME))

    assert not await giving


async def test_a_blob_that_is_in_the_store_is_read_there(bench: Bench) -> None:
    bench.objects.put(NAME, bench.source)
    bench.direct.on_registered(bench.notice())
    fetching = asyncio.create_task(bench.fetch())
    await until(lambda: bench.said)

    bench.direct.on_message(BlobInStore(blob_id=NAME, size_bytes=len(DATA)))

    assert await fetching
    assert bench.said == [FETCH]
    assert bench.draft.read_bytes() == DATA


async def test_a_damaged_object_is_not_taken(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.objects.put(NAME, bench.source)
    (bench.folder / object_name(NAME)).write_bytes(DATA[::-1])
    bench.direct.on_registered(bench.notice())
    fetching = asyncio.create_task(bench.fetch())
    await until(lambda: bench.said)

    bench.direct.on_message(BlobInStore(blob_id=NAME, size_bytes=len(DATA)))

    assert not await fetching
    assert "comes by the coordinator" in caplog.text


async def test_another_folder_of_the_same_name_is_noticed(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice("theirs"))

    assert not await bench.give()
    assert not await bench.fetch()

    assert bench.said == []
    assert list(bench.folder.glob("??")) == []
    bench.direct.close()


async def test_a_coordinator_without_a_store_is_asked_nothing(bench: Bench) -> None:
    bench.direct.on_registered(None)

    assert not await bench.give()
    assert not await bench.fetch()

    assert bench.said == []


async def test_what_is_short_goes_by_the_coordinator(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice())

    assert not await bench.direct.give(NAME, bench.source, 999)

    assert bench.said == []


async def test_a_store_that_went_away_is_gone_around(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice())
    fetching = asyncio.create_task(bench.fetch())
    await until(lambda: bench.said)
    bench.direct.on_message(BlobInStore(blob_id=NAME))
    assert not await fetching

    bench.folder.rename(bench.folder.with_name("away"))

    assert not await bench.give()
    assert bench.said == [FETCH]


async def test_after_a_cut_what_was_asked_is_asked_again(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice())
    giving = asyncio.create_task(bench.give())
    await until(lambda: bench.said)

    bench.direct.on_registered(bench.notice())

    assert bench.said == [OFFER, OFFER]
    bench.direct.on_message(BlobInStore(blob_id=NAME, size_bytes=len(DATA)))
    assert await giving


async def test_a_coordinator_that_gave_its_store_up_leaves_nobody_waiting(bench: Bench) -> None:
    bench.direct.on_registered(bench.notice())
    giving = asyncio.create_task(bench.give())
    await until(lambda: bench.said)

    bench.direct.on_registered(None)

    assert not await giving
