"""A small blob that comes alone over the connection is written by the loop, others by threads."""

import hashlib
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import until

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.quick_disk import QuickDisk
from lineshaft_coordinator.data.transfers import SMALL_BYTES, Transfers
from lineshaft_protocol.blob_messages import BlobOffer, BlobRefused, BlobStatus
from lineshaft_protocol.frames import BlobChunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.wire import Wire

SIZE = 3 * SMALL_BYTES


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Peer:
    """Remembers what it is told."""

    def __init__(self, store: BlobStore) -> None:
        self.told: list[Wire] = []
        self.is_writable = True
        self.transfers = Transfers(store, self)

    def send(self, message: Wire) -> None:
        self.told.append(message)

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        raise AssertionError(f"{len(buffers)} buffers of what nobody asked for")

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    def give(self, content: bytes) -> Wire:
        """Send a blob in one piece; returns what tells that it is stored."""
        blob_id = BlobId(hashlib.sha256(content).hexdigest())
        self.transfers.on_message(BlobOffer(blob_id=blob_id, size_bytes=len(content)))
        self.transfers.on_chunk(BlobChunk(blob_id, 0, content))
        return BlobStatus(blob_id=blob_id, received_bytes=len(content), is_complete=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> BlobStore:
    made = BlobStore(
        tmp_path / "blobs", blob_bytes_max=8 << 20, total_bytes_max=1 << 28, free_bytes_min=1
    )
    made.put_bytes(b"the first, for which folders are made")
    made.quick_disk = QuickDisk(clock)
    return made


def content_of(number: int, size_bytes: int = SIZE) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(size_bytes)


async def test_what_comes_alone_is_stored_before_the_next_turn(
    store: BlobStore, clock: Clock
) -> None:
    peer = Peer(store)

    for number in range(3):
        clock.now += 1.0
        stored = peer.give(content_of(number))
        assert peer.told[-1] == stored


async def test_what_comes_in_numbers_goes_to_threads(store: BlobStore) -> None:
    peer = Peer(store)

    first, second = peer.give(content_of(1)), peer.give(content_of(2))

    assert first in peer.told
    assert second not in peer.told
    await until(lambda: second in peer.told)


async def test_a_long_blob_goes_to_a_thread(store: BlobStore) -> None:
    peer = Peer(store)

    stored = peer.give(content_of(1, 3 << 20))

    assert stored not in peer.told
    await until(lambda: stored in peer.told)


async def test_the_loop_leaves_a_slow_disk_to_threads(store: BlobStore, clock: Clock) -> None:
    with store.quick_disk.on_loop():
        clock.now += 0.2
    clock.now += 1.0
    peer = Peer(store)

    stored = peer.give(content_of(1))

    assert stored not in peer.told
    await until(lambda: stored in peer.told)


async def test_the_loop_does_not_wait_for_who_writes_the_same_blob(store: BlobStore) -> None:
    content = content_of(1)
    blob_id = BlobId(hashlib.sha256(content).hexdigest())
    peer = Peer(store)
    peer.transfers.on_message(BlobOffer(blob_id=blob_id, size_bytes=len(content)))
    stored = BlobStatus(blob_id=blob_id, received_bytes=len(content), is_complete=True)

    with store._uploads.table[blob_id].lock:
        peer.transfers.on_chunk(BlobChunk(blob_id, 0, content))
        assert stored not in peer.told

    await until(lambda: stored in peer.told)


async def test_damage_is_found_by_the_loop_as_well(store: BlobStore) -> None:
    content = content_of(1)
    blob_id = BlobId(hashlib.sha256(content).hexdigest())
    peer = Peer(store)
    before_bytes = store.total_bytes
    peer.transfers.on_message(BlobOffer(blob_id=blob_id, size_bytes=len(content)))

    peer.transfers.on_chunk(BlobChunk(blob_id, 0, content[:-1] + b"\0"))

    assert isinstance(peer.told[-1], BlobRefused)
    assert not store.is_complete(blob_id)
    assert store.total_bytes == before_bytes
