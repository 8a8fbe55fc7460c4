"""Blobs between a peer and a coordinator that is a dictionary."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
)
from lineshaft_protocol.frames import CHUNK_BYTES, WINDOW_BYTES, BlobChunk, decode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_runtime.transfers import (
    ACK_BYTES,
    ACTIVE_MAX,
    BlobDamagedError,
    BlobMissingError,
    BlobRefusedError,
    BlobTransfers,
    ToCoordinator,
)


class Shop:
    """A coordinator that keeps what it is sent, and an end of the wire that remembers."""

    def __init__(self) -> None:
        self.transfers = BlobTransfers(self._take, self._take_frame, self._is_writable)
        self.is_writable = True
        self.chunk_count_max = 1_000_000
        self.sent: list[ToCoordinator] = []
        self.chunks: list[BlobChunk] = []
        self.stored: dict[str, bytes] = {}

    def _is_writable(self) -> bool:
        return self.is_writable and len(self.chunks) < self.chunk_count_max

    def _take(self, message: ToCoordinator) -> None:
        self.sent.append(message)

    def _take_frame(self, buffers: list[bytes | memoryview]) -> None:
        chunk = decode_chunk(b"".join(buffers))
        self.chunks.append(chunk)
        before = self.stored.get(chunk.blob_id, b"")
        assert chunk.offset == len(before)
        self.stored[chunk.blob_id] = before + chunk.data

    def tell_status(self, blob_id: str, *, is_complete: bool = False) -> None:
        received_bytes = len(self.stored.get(blob_id, b""))
        self.transfers.on_message(
            BlobStatus(blob_id=blob_id, received_bytes=received_bytes, is_complete=is_complete)
        )

    def give(self, content: bytes, begin: int, end: int) -> None:
        self.transfers.on_chunk(BlobChunk(id_of(content), begin, content[begin:end]))


@pytest.fixture
async def shop() -> Shop:
    return Shop()


def id_of(content: bytes) -> BlobId:
    return BlobId(hashlib.sha256(content).hexdigest())


def reader(content: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size_bytes: content[offset : offset + size_bytes]


def sink_into(received: bytearray) -> Callable[[int, bytes], None]:
    def sink(offset: int, data: bytes) -> None:
        assert offset == len(received)
        received.extend(data)

    return sink


def pattern(size_bytes: int) -> bytes:
    return hashlib.shake_128(b"x").digest(size_bytes)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def upload(shop: Shop, content: bytes) -> asyncio.Task[None]:
    return asyncio.create_task(shop.transfers.upload(id_of(content), len(content), reader(content)))


def download(
    shop: Shop, content: bytes, *, with_size: bool = True
) -> tuple[asyncio.Task[None], bytearray]:
    received = bytearray()
    size_bytes = len(content) if with_size else None
    work = shop.transfers.download(id_of(content), sink_into(received), size_bytes)
    return asyncio.create_task(work), received


async def test_an_upload_is_offered_then_sent_and_ends_once_it_is_stored(shop: Shop) -> None:
    content = pattern(2 * CHUNK_BYTES + 5)
    shop.transfers.on_connected()

    task = upload(shop, content)
    await turns()
    assert shop.sent == [BlobOffer(blob_id=id_of(content), size_bytes=len(content))]
    shop.tell_status(id_of(content))
    await turns()

    assert not task.done()
    assert shop.stored[id_of(content)] == content
    shop.tell_status(id_of(content), is_complete=True)
    await task
    assert [len(chunk.data) for chunk in shop.chunks] == [CHUNK_BYTES, CHUNK_BYTES + 5]


async def test_a_blob_that_is_there_already_is_not_sent(shop: Shop) -> None:
    content = pattern(10)
    shop.transfers.on_connected()
    task = upload(shop, content)
    await turns()

    shop.tell_status(id_of(content), is_complete=True)
    await task

    assert shop.chunks == []


async def test_an_upload_keeps_within_its_window(shop: Shop) -> None:
    content = pattern(WINDOW_BYTES + 3 * CHUNK_BYTES)
    blob_id = id_of(content)
    shop.transfers.on_connected()
    task = upload(shop, content)
    await turns()

    shop.tell_status(blob_id)
    assert len(shop.stored[blob_id]) == WINDOW_BYTES
    shop.transfers.on_message(BlobAck(blob_id=blob_id, received_bytes=2 * CHUNK_BYTES))
    assert len(shop.stored[blob_id]) == WINDOW_BYTES + 2 * CHUNK_BYTES
    shop.transfers.on_message(BlobAck(blob_id=blob_id, received_bytes=WINDOW_BYTES))

    assert shop.stored[blob_id] == content
    shop.tell_status(blob_id, is_complete=True)
    await task


async def test_an_upload_waits_while_the_connection_is_full(shop: Shop) -> None:
    content = pattern(3 * CHUNK_BYTES)
    shop.transfers.on_connected()
    task = upload(shop, content)
    await turns()
    shop.is_writable = False

    shop.tell_status(id_of(content))
    assert shop.chunks == []
    shop.is_writable = True
    shop.transfers.on_writable()

    assert shop.stored[id_of(content)] == content
    shop.tell_status(id_of(content), is_complete=True)
    await task


async def test_an_upload_goes_on_after_a_cut_from_what_had_arrived(shop: Shop) -> None:
    content = pattern(8 * CHUNK_BYTES)
    blob_id = id_of(content)
    shop.transfers.on_connected()
    task = upload(shop, content)
    await turns()
    shop.chunk_count_max = 5
    shop.tell_status(blob_id)
    shop.stored[blob_id] = content[: 3 * CHUNK_BYTES]  # The rest was lost with the connection.

    shop.transfers.on_disconnected()
    shop.transfers.on_connected()
    assert shop.sent == [BlobOffer(blob_id=blob_id, size_bytes=len(content))] * 2
    shop.chunk_count_max = 100
    shop.transfers.on_writable()
    assert len(shop.chunks) == 5  # Nobody has said yet where to go on.
    shop.tell_status(blob_id)

    assert shop.stored[blob_id] == content
    shop.tell_status(blob_id, is_complete=True)
    await task


async def test_nothing_is_sent_before_there_is_a_connection(shop: Shop) -> None:
    content = pattern(10)
    task = upload(shop, content)
    await turns()
    assert shop.sent == []

    shop.transfers.on_connected()

    assert shop.sent == [BlobOffer(blob_id=id_of(content), size_bytes=10)]
    shop.tell_status(id_of(content), is_complete=True)
    await task


async def test_a_refused_upload_says_why(shop: Shop) -> None:
    content = pattern(10)
    shop.transfers.on_connected()
    task = upload(shop, content)
    await turns()

    shop.transfers.on_message(BlobRefused(blob_id=id_of(content), message="the disk is full"))

    with pytest.raises(BlobRefusedError, match="the disk is full"):
        await task


async def test_what_reading_raises_reaches_who_uploads(shop: Shop) -> None:
    def read(offset: int, size_bytes: int) -> bytes:
        raise FileNotFoundError(offset, size_bytes)

    shop.transfers.on_connected()
    task = asyncio.create_task(shop.transfers.upload(id_of(b"x"), 1, read))
    await turns()

    shop.tell_status(id_of(b"x"))

    with pytest.raises(FileNotFoundError):
        await task


async def test_two_who_upload_one_blob_share_the_transfer(shop: Shop) -> None:
    content = pattern(10)
    shop.transfers.on_connected()
    first, second = upload(shop, content), upload(shop, content)
    await turns()
    first.cancel()
    await turns()
    shop.tell_status(id_of(content))
    shop.tell_status(id_of(content), is_complete=True)

    await second

    assert len(shop.sent) == 1
    assert len(shop.chunks) == 1
    assert first.cancelled()


async def test_only_so_many_uploads_are_under_way_at_a_time(shop: Shop) -> None:
    shop.transfers.on_connected()
    contents = [bytes([number]) for number in range(ACTIVE_MAX + 2)]
    tasks = [upload(shop, content) for content in contents]
    await turns()
    assert len(shop.sent) == ACTIVE_MAX
    tasks[-1].cancel()  # One that waits for its turn.
    tasks[0].cancel()  # One that has it.
    await turns()
    assert [message.blob_id for message in shop.sent[ACTIVE_MAX:]] == [id_of(contents[ACTIVE_MAX])]

    for content in contents:
        shop.tell_status(id_of(content), is_complete=True)

    await asyncio.gather(*tasks[1:-1])

    # Those who gave up have left no gap behind.
    shop.sent.clear()
    more = [upload(shop, bytes([100 + number])) for number in range(ACTIVE_MAX)]
    await turns()
    assert len(shop.sent) == ACTIVE_MAX
    for number in range(ACTIVE_MAX):
        shop.tell_status(id_of(bytes([100 + number])), is_complete=True)
    await asyncio.gather(*more)


async def test_a_download_arrives_whole_and_is_acknowledged_on_the_way(shop: Shop) -> None:
    content = pattern(ACK_BYTES + 100)
    shop.transfers.on_connected()
    task, received = download(shop, content)
    await turns()
    assert shop.sent == [FetchBlob(blob_id=id_of(content))]

    shop.give(content, 0, ACK_BYTES)
    shop.give(content, ACK_BYTES, len(content))
    await task

    assert received == content
    # Of the end nobody has to hear.
    assert shop.sent[1:] == [BlobAck(blob_id=id_of(content), received_bytes=ACK_BYTES)]


async def test_a_download_of_unknown_length_ends_when_the_hash_is_right(shop: Shop) -> None:
    content = pattern(1000)
    shop.transfers.on_connected()
    task, received = download(shop, content, with_size=False)
    await turns()

    shop.give(content, 0, 400)
    await turns()
    assert not task.done()
    shop.give(content, 400, 1000)

    await task
    assert received == content


async def test_a_download_goes_on_after_a_cut_from_where_it_was(shop: Shop) -> None:
    content = pattern(1000)
    shop.transfers.on_connected()
    task, received = download(shop, content)
    await turns()
    shop.give(content, 0, 400)

    shop.transfers.on_disconnected()
    shop.transfers.on_connected()
    assert shop.sent[-1] == FetchBlob(blob_id=id_of(content), offset=400)
    shop.give(content, 400, 1000)

    await task
    assert received == content


async def test_pieces_of_an_earlier_fetch_do_no_harm(shop: Shop) -> None:
    content = pattern(1000)
    shop.transfers.on_connected()
    task, received = download(shop, content)
    await turns()

    shop.give(content, 600, 800)  # Too far ahead.
    shop.give(content, 0, 400)
    shop.give(content, 0, 400)  # Again.
    shop.give(content, 200, 700)  # In part.
    shop.give(content, 700, 1000)

    await task
    assert received == content


async def test_a_damaged_download_is_an_error(shop: Shop) -> None:
    content = pattern(1000)
    shop.transfers.on_connected()
    task, _ = download(shop, content)
    await turns()

    shop.transfers.on_chunk(BlobChunk(id_of(content), 0, bytes(1000)))

    with pytest.raises(BlobDamagedError):
        await task


async def test_a_blob_that_is_not_there_is_an_error(shop: Shop) -> None:
    shop.transfers.on_connected()
    task, _ = download(shop, b"x")
    await turns()

    shop.transfers.on_message(BlobMissing(blob_id=id_of(b"x")))

    with pytest.raises(BlobMissingError):
        await task


async def test_who_comes_late_to_a_download_gets_all_of_it_too(shop: Shop) -> None:
    content = pattern(1000)
    shop.transfers.on_connected()
    first, first_received = download(shop, content)
    await turns()
    shop.give(content, 0, 400)
    second, second_received = download(shop, content)
    await turns()
    shop.give(content, 400, 1000)
    await first
    await turns()

    shop.give(content, 0, 1000)
    await second

    assert first_received == content
    assert second_received == content


async def test_what_nobody_waits_for_is_ignored(shop: Shop) -> None:
    shop.transfers.on_connected()

    shop.give(b"abc", 0, 3)
    shop.tell_status(id_of(b"abc"))
    shop.transfers.on_message(BlobMissing(blob_id=id_of(b"abc")))

    assert shop.sent == []


async def test_all_who_wait_are_told_when_there_will_be_no_connection(shop: Shop) -> None:
    up = upload(shop, b"up")
    down, _ = download(shop, b"down")
    await turns()

    shop.transfers.abandon(ConnectionError("closed"))

    for task in (up, down):
        with pytest.raises(ConnectionError):
            await task
