"""What came just now is given on from memory, once, and not for long."""

import hashlib
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import until

from lineshaft_coordinator.data.blob_files import blob_path
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.recent import ALL_BYTES_MAX, ONE_BYTES_MAX, RecentBlobs
from lineshaft_coordinator.data.transfers import SMALL_BYTES, Transfers
from lineshaft_protocol.blob_messages import BlobOffer, BlobStatus, FetchBlob
from lineshaft_protocol.frames import BlobChunk, decode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.wire import Wire

CONTENT = hashlib.shake_128(b"large").digest(SMALL_BYTES * 3)
BLOB_ID = BlobId(hashlib.sha256(CONTENT).hexdigest())


class Peer:
    """Remembers what it is told and sent."""

    def __init__(self, store: BlobStore) -> None:
        self.told: list[Wire] = []
        self.chunks: list[BlobChunk] = []
        self.is_writable = True
        self.transfers = Transfers(store, self)

    def send(self, message: Wire) -> None:
        self.told.append(message)

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        self.chunks.append(decode_chunk(b"".join(buffers)))

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    async def upload(self, *cuts: int) -> None:
        self.transfers.on_message(BlobOffer(blob_id=BLOB_ID, size_bytes=len(CONTENT)))
        for begin, end in zip((0, *cuts), (*cuts, len(CONTENT)), strict=True):
            self.transfers.on_chunk(BlobChunk(BLOB_ID, begin, CONTENT[begin:end]))
        complete = BlobStatus(blob_id=BLOB_ID, received_bytes=len(CONTENT), is_complete=True)
        await until(lambda: complete in self.told)

    async def download(self) -> bytes:
        self.chunks.clear()
        self.transfers.on_message(FetchBlob(blob_id=BLOB_ID))
        await until(lambda: self.chunks)
        return b"".join(chunk.data for chunk in self.chunks)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(
        tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 21, free_bytes_min=1
    )


async def test_what_came_in_one_piece_is_given_on_at_once_and_then_read(store: BlobStore) -> None:
    sender, reader = Peer(store), Peer(store)
    await sender.upload()

    reader.transfers.on_message(FetchBlob(blob_id=BLOB_ID))
    given = [chunk.data for chunk in reader.chunks]

    assert given == [CONTENT]
    assert store.recent.take(BLOB_ID) is None
    assert await reader.download() == CONTENT


async def test_the_file_is_there_before_it_is_given_on(store: BlobStore, tmp_path: Path) -> None:
    await Peer(store).upload()

    assert store.recent.take(BLOB_ID) == CONTENT
    assert blob_path(tmp_path / "blobs", BLOB_ID).read_bytes() == CONTENT


async def test_what_came_in_pieces_or_is_wanted_from_the_middle_is_read(store: BlobStore) -> None:
    await Peer(store).upload(len(CONTENT) // 2)
    assert store.recent.take(BLOB_ID) is None
    store.recent.put(BLOB_ID, b"never sent")
    reader = Peer(store)

    reader.transfers.on_message(FetchBlob(blob_id=BLOB_ID, offset=5))

    await until(lambda: reader.chunks)
    assert [(each.offset, each.data) for each in reader.chunks] == [(5, CONTENT[5:])]


async def test_a_blob_that_is_no_longer_stored_is_not_given_from_memory(store: BlobStore) -> None:
    await Peer(store).upload()
    store.collect(frozenset(), older_than_s=-1.0, now=2**33)
    reader = Peer(store)

    reader.transfers.on_message(FetchBlob(blob_id=BLOB_ID))

    assert not reader.chunks
    assert [type(each).__name__ for each in reader.told] == ["BlobMissing"]


async def test_little_is_kept_and_the_oldest_goes_first() -> None:
    recent, half = RecentBlobs(), bytes(ONE_BYTES_MAX // 2)
    names = [f"{number:064x}" for number in range(2 * ALL_BYTES_MAX // ONE_BYTES_MAX + 1)]

    for name in names:
        recent.put(name, half)
    recent.put("long", bytes(ONE_BYTES_MAX + 1))

    assert recent.take("long") is None
    assert recent.take(names[0]) is None
    assert [recent.take(name) for name in names[1:]] == [half] * (len(names) - 1)


async def test_what_nobody_asks_for_is_let_go_of() -> None:
    recent = RecentBlobs()
    recent.put("a", b"a")
    recent.age()
    recent.put("b", b"b")

    recent.age()

    assert recent.take("a") is None
    assert recent.take("b") == b"b"
