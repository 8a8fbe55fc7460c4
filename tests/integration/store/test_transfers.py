"""The coordinator's end of transfers, over a real folder of blobs."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.gateway.seed_bench import until
from typing_extensions import override

from lineshaft_coordinator.data.blob_files import blob_path
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.transfers import SMALL_BYTES, TRANSFERS_MAX, Transfers
from lineshaft_protocol.blob_messages import BlobMissing, BlobOffer, BlobStatus, FetchBlob
from lineshaft_protocol.frames import BlobChunk, decode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.wire import Wire

CONTENT = hashlib.shake_128(b"large").digest(SMALL_BYTES * 3)
BLOB_ID = BlobId(hashlib.sha256(CONTENT).hexdigest())
OFFER = BlobOffer(blob_id=BLOB_ID, size_bytes=len(CONTENT))


class Peer:
    """Remembers what it is told."""

    def __init__(self, store: BlobStore) -> None:
        self.told: list[Wire] = []
        self.transfers = Transfers(store, self)
        self.is_writable = True

    def send(self, message: Wire) -> None:
        self.told.append(message)

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        raise AssertionError(f"{len(buffers)} buffers of a blob that cannot be read")

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(
        tmp_path / "blobs", blob_bytes_max=1 << 20, total_bytes_max=1 << 21, free_bytes_min=1
    )


@pytest.mark.parametrize("content", [CONTENT, b"short"])
async def test_who_fetches_a_blob_that_the_disk_lost_is_told_so(
    store: BlobStore, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    blob_id = BlobId(store.put_bytes(content))
    blob_path(tmp_path / "blobs", blob_id).write_bytes(content[:1])
    peer = Peer(store)

    peer.transfers.on_message(FetchBlob(blob_id=blob_id))

    await until(lambda: peer.told)
    assert peer.told == [BlobMissing(blob_id=blob_id)]
    assert "a blob cannot be read" in caplog.text


async def test_an_offer_does_not_wait_for_the_disk_of_another_session(store: BlobStore) -> None:
    store.begin(BLOB_ID, len(CONTENT))
    lock = store._uploads.table[BLOB_ID].lock
    has_it, may_go = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with lock:
            has_it.set()
            may_go.wait(5)

    writing = threading.Thread(target=write_slowly)
    writing.start()
    has_it.wait()
    peer = Peer(store)

    peer.transfers.on_message(OFFER)

    assert writing.is_alive(), "the loop went on"
    assert peer.told == []
    may_go.set()
    await until(lambda: peer.told)
    writing.join()
    assert peer.told == [BlobStatus(blob_id=BLOB_ID, received_bytes=0, is_complete=False)]


async def test_a_session_that_ends_takes_no_room_for_what_it_never_sent(store: BlobStore) -> None:
    peer = Peer(store)
    peer.transfers.on_message(OFFER)
    await until(lambda: peer.told)
    assert store.total_bytes == len(CONTENT)

    peer.transfers.close()

    assert store.total_bytes == 0


async def test_a_session_that_ends_while_its_offer_is_looked_at_takes_no_room(
    store: BlobStore,
) -> None:
    store.begin(BLOB_ID, len(CONTENT), holder := object())
    store.write(BLOB_ID, 0, CONTENT[:10])
    store.leave(holder)
    peer = Peer(store)
    peer.transfers.on_message(OFFER)
    assert peer.transfers._beginning, "it may take a while to look at what is there"

    peer.transfers.close()

    await until(lambda: not peer.transfers._beginning)
    assert store.total_bytes == 10
    assert peer.told == []


async def test_what_nobody_has_begun_is_answered_at_once(store: BlobStore) -> None:
    peer = Peer(store)

    peer.transfers.on_message(OFFER)

    assert peer.told == [BlobStatus(blob_id=BLOB_ID, received_bytes=0, is_complete=False)]


async def test_an_upload_left_before_its_first_byte_leaves_nothing(store: BlobStore) -> None:
    peer = Peer(store)
    peer.transfers.on_message(OFFER)
    assert list(store._uploads.table) == [BLOB_ID]

    peer.transfers.close()

    assert not store._uploads.table


class Measured(bytes):
    """A chunk that tells when its length is first asked for, on the loop or in a thread."""

    on_loop: Callable[[], None] | None = None
    in_thread: Callable[[], None] | None = None

    @override
    def __len__(self) -> int:
        if threading.current_thread() is threading.main_thread():
            tell, self.on_loop = self.on_loop, None
        else:
            tell, self.in_thread = self.in_thread, None
        if tell is not None:
            tell()
        return super().__len__()


async def test_chunks_that_come_while_others_are_written_are_counted_once(store: BlobStore) -> None:
    peer = Peer(store)
    peer.transfers.on_message(OFFER)
    await until(lambda: peer.told)
    upload = peer.transfers._uploads[BLOB_ID]
    half = len(CONTENT) // 2
    first, later = Measured(CONTENT[:half]), Measured(CONTENT[half:-1])
    later_is_counted = threading.Event()

    def count_later() -> None:
        later_is_counted.set()
        _wait_until(lambda: upload.received_bytes == half)

    first.in_thread, later.on_loop = lambda: _assert(later_is_counted.wait(10)), count_later

    peer.transfers.on_chunk(BlobChunk(BLOB_ID, 0, first))
    await asyncio.sleep(0)  # The thread begins.
    peer.transfers.on_chunk(BlobChunk(BLOB_ID, half, later))

    await until(lambda: upload.task is None)
    assert upload.received_bytes == len(CONTENT) - 1
    assert upload.queued_bytes == 0


def _assert(is_true: bool) -> None:
    assert is_true, "not within 10 s"


def _wait_until(condition: Callable[[], bool]) -> None:
    ready = threading.Event()
    for _ in range(1000):
        if condition():
            return
        ready.wait(0.01)
    raise AssertionError("not within 10 s")


class Taker(Peer):
    """Takes whole blobs, once it has room."""

    def __init__(self, store: BlobStore) -> None:
        super().__init__(store)
        self.taken: list[BlobId] = []

    @override
    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        self.taken.append(decode_chunk(b"".join(buffers)).blob_id)


async def test_more_downloads_than_are_sent_at_a_time_wait_and_none_is_called_missing(
    tmp_path: Path,
) -> None:
    store = BlobStore(tmp_path, blob_bytes_max=1 << 20, total_bytes_max=1 << 28, free_bytes_min=1)
    sizes = [*(SMALL_BYTES + 1 + number for number in range(TRANSFERS_MAX + 10)), 5, 6]
    wanted = [BlobId(store.put_bytes(bytes(size))) for size in sizes]
    peer = Taker(store)
    peer.is_writable = False

    for blob_id in wanted:
        peer.transfers.on_message(FetchBlob(blob_id=blob_id))
    peer.is_writable = True
    peer.transfers.on_writable()
    await until(lambda: len(peer.taken) >= len(wanted))

    assert peer.told == []
    assert sorted(peer.taken) == sorted(wanted)


async def test_a_download_that_waits_and_is_asked_for_again_is_sent_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, blob_bytes_max=1 << 20, total_bytes_max=1 << 28, free_bytes_min=1)
    sizes = [SMALL_BYTES + 1 + number for number in range(TRANSFERS_MAX + 1)]
    *others, last = [BlobId(store.put_bytes(bytes(size))) for size in sizes]
    peer = Taker(store)
    peer.is_writable = False

    for blob_id in (*others, last, last):
        peer.transfers.on_message(FetchBlob(blob_id=blob_id))
    peer.transfers.on_message(FetchBlob(blob_id=others[0]))
    peer.is_writable = True
    peer.transfers.on_writable()
    await until(lambda: len(peer.taken) >= len(sizes))

    assert peer.told == []
    assert sorted(peer.taken) == sorted((*others, last))
