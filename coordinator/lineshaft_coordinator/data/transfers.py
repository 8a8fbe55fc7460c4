"""The coordinator's end of blob transfers: one session's uploads and downloads.

Both ends bound what is on its way by a window; disk work is done in threads, one piece after
another for each blob, so that a large blob delays nobody's control messages.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Protocol

from lineshaft_coordinator.data.blob_errors import BlobError, BlobNotFoundError, BlobOffsetError
from lineshaft_coordinator.data.blob_files import read_cached
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.handover import Handover, Porch, named_by
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.data.object_desk import ObjectDesk
from lineshaft_coordinator.data.under_way import DownloadUnderWay, UploadUnderWay
from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobHere,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
    SameHost,
)
from lineshaft_protocol.frames import WINDOW_BYTES, BlobChunk, chunk_length, encode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.wire import Wire
from lineshaft_runtime.same_host import FILE_BYTES_MIN

logger = logging.getLogger(__name__)

SMALL_BYTES = 64 * 1024
"""A blob up to this length is stored at once, without a thread."""
TRANSFERS_MAX = 64
"""Most blobs on their way on one session; downloads beyond that wait for their turn."""
WAITING_MAX = 100_000
"""Downloads that may wait on one session."""
FILES_MAX = 1024
"""Most files that one session may have offered and not been answered for."""
ACK_BYTES = 1024 * 1024


class Outlet(Protocol):
    """The way to the peer."""

    def send(self, message: Wire) -> None:
        """Send one control message."""
        ...

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        """Send one frame."""
        ...

    def close(self, reason: str) -> None:
        """End the session: the peer broke a rule."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether the peer keeps up."""
        ...


class Transfers:
    """Blobs going to and coming from one peer."""

    def __init__(
        self,
        store: BlobStore,
        outlet: Outlet,
        porch: Porch | None = None,
        mover: ObjectMover | None = None,
    ) -> None:
        self._store, self._outlet = store, outlet
        self._desk = ObjectDesk(mover, outlet.send)
        self._handover = Handover(store, porch)
        self._adoptions: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._beginning: dict[asyncio.Task[None], None] = {}
        self._uploads: dict[BlobId, UploadUnderWay] = {}
        self._downloads: dict[BlobId, DownloadUnderWay] = {}
        self._waiting: dict[BlobId, int] = {}
        """From where on to send what is wanted, too, in the order in which it was asked for."""

    def close(self) -> None:
        """The session is gone; partial uploads stay for the next one, until room is needed."""
        self._is_closed = True
        self._store.leave(self)
        tasks = [upload.task for upload in self._uploads.values()]
        tasks += [download.task for download in self._downloads.values()]
        for task in tasks:
            if task is not None:
                task.cancel()
        self._uploads.clear()
        self._downloads.clear()
        self._waiting.clear()
        if not self._adoptions:
            self._handover.close()

    def on_message(self, message: BlobOffer | FetchBlob | BlobAck | SameHost) -> None:
        """The peer wants to give or to have a blob, or has taken some of one."""
        match message:
            case SameHost():
                self._outlet.send(self._handover.answer(message))
            case BlobOffer(is_in_store=True):
                self._desk.on_offer(message)
            case FetchBlob(in_store=True):
                self._desk.on_fetch(message)
            case BlobOffer(file=str(name)):
                self._on_file(message, name)
            case BlobOffer():
                self._on_offer(message)
            case FetchBlob(blob_id=blob_id, as_file=True) if self._handover.is_proven:
                self._desk.once_here(BlobId(blob_id), self._tell_path)
            case FetchBlob(blob_id=blob_id, offset=offset):
                self._on_fetch(BlobId(blob_id), offset)
            case BlobAck(blob_id=blob_id, received_bytes=received_bytes):
                download = self._downloads.get(BlobId(blob_id))
                if download is not None:
                    download.acked_bytes = max(download.acked_bytes, received_bytes)
                    download.moved.set()

    def on_writable(self) -> None:
        """The peer caught up."""
        for download in self._downloads.values():
            download.moved.set()

    # --- files of this machine ---

    def _on_file(self, offer: BlobOffer, name: str) -> None:
        if len(self._adoptions) >= FILES_MAX:
            self._refuse(BlobId(offer.blob_id), f"{FILES_MAX} files wait on this connection")
            return
        try:
            under_way = self._handover.adopt(offer.blob_id, name, offer.size_bytes)
        except BlobError as error:
            self._refuse(BlobId(offer.blob_id), str(error))
            return
        if under_way is None:
            self._tell_stored(offer)
            return
        task = asyncio.create_task(self._adopt(offer, under_way))
        self._adoptions.add(task)
        task.add_done_callback(self._adopted)

    async def _adopt(self, offer: BlobOffer, under_way: Coroutine[None, None, None]) -> None:
        try:
            await under_way
        except BlobError as error:
            self._refuse(BlobId(offer.blob_id), str(error))
        else:
            self._tell_stored(offer)

    def _tell_stored(self, offer: BlobOffer) -> None:
        size_bytes = offer.size_bytes
        self._outlet.send(
            BlobStatus(blob_id=offer.blob_id, received_bytes=size_bytes, is_complete=True)
        )

    def _adopted(self, task: asyncio.Task[None]) -> None:
        self._adoptions.discard(task)
        if self._is_closed and not self._adoptions:
            self._handover.close()

    def _tell_path(self, blob_id: BlobId) -> None:
        here = self._where(blob_id)
        self._outlet.send(BlobMissing(blob_id=blob_id) if here is None else here)

    def _where(self, blob_id: BlobId) -> BlobHere | None:
        try:
            blob = self._store.open(blob_id)
        except BlobError:
            return None
        path = str(blob.path.absolute())
        return BlobHere(blob_id=blob_id, size_bytes=blob.size_bytes, path=path)

    def with_paths(self, messages: Sequence[Wire]) -> Sequence[Wire]:
        """Put before each message where the blob lies that it makes the peer ask for next."""
        if not self._handover.is_proven:
            return messages
        names = list(map(named_by, messages))
        if not any(names):
            return messages
        told: list[Wire] = []
        for message, blob_id in zip(messages, names, strict=True):
            here = None if blob_id is None else self._where(blob_id)
            if here is not None and here.size_bytes >= FILE_BYTES_MIN:
                told.append(here)
            told.append(message)
        return told

    # --- uploads ---

    def _on_offer(self, offer: BlobOffer) -> None:
        blob_id = BlobId(offer.blob_id)
        under_way = len(self._uploads) + len(self._beginning)
        if blob_id not in self._uploads and under_way >= TRANSFERS_MAX:
            self._refuse(blob_id, f"{TRANSFERS_MAX} uploads are under way on this connection")
            return
        if offer.size_bytes > SMALL_BYTES and not self._store.is_quick(blob_id, offer.size_bytes):
            # It may wait for another session's bytes, or read again all that a restart left of it.
            task = asyncio.create_task(self._begin_in_thread(offer))
            self._beginning[task] = None
            task.add_done_callback(self._beginning.pop)
            return
        try:
            received = self._store.begin(blob_id, offer.size_bytes, self)
        except BlobError as error:
            self._refuse(blob_id, str(error))
        else:
            self._begun(offer, received)

    async def _begin_in_thread(self, offer: BlobOffer) -> None:
        try:
            received = await asyncio.to_thread(
                self._store.begin, offer.blob_id, offer.size_bytes, self
            )
        except BlobError as error:
            self._refuse(BlobId(offer.blob_id), str(error))
        else:
            if self._is_closed:
                self._store.leave(self)
            else:
                self._begun(offer, received)

    def _begun(self, offer: BlobOffer, received: int) -> None:
        blob_id = BlobId(offer.blob_id)
        is_complete = self._store.is_complete(blob_id)
        if not is_complete:
            self._uploads[blob_id] = UploadUnderWay(offer.size_bytes, received, received)
        self._outlet.send(
            BlobStatus(blob_id=blob_id, received_bytes=received, is_complete=is_complete)
        )

    def on_chunk(self, chunk: BlobChunk) -> None:
        """A piece of an upload arrived."""
        upload = self._uploads.get(chunk.blob_id)
        if upload is None:
            # Pieces that were on their way when the blob was refused.
            return
        upload.queued_bytes += len(chunk.data)
        if upload.queued_bytes > 2 * WINDOW_BYTES:
            self._outlet.close("more of a blob is on its way than the window allows")
            return
        upload.pieces.append(chunk)
        if upload.task is not None:
            return
        if upload.size_bytes <= SMALL_BYTES:
            upload.queued_bytes -= self._write_pieces(chunk.blob_id, upload)
            self._after_write(chunk.blob_id, upload)
        elif self._is_for_loop(chunk, upload):
            with self._store.quick_disk.on_loop():
                upload.queued_bytes -= self._write_pieces(chunk.blob_id, upload)
            self._after_write(chunk.blob_id, upload)
        else:
            upload.task = asyncio.create_task(self._write_in_thread(chunk.blob_id, upload))

    def _is_for_loop(self, chunk: BlobChunk, upload: UploadUnderWay) -> bool:
        # Of a blob of several pieces more come at once, so a thread has something to do meanwhile.
        is_alone = self._store.quick_disk.is_for_loop(upload.size_bytes)
        is_whole = len(chunk.data) == upload.size_bytes
        return is_alone and is_whole and self._store.is_free(chunk.blob_id)

    async def _write_in_thread(self, blob_id: BlobId, upload: UploadUnderWay) -> None:
        while upload.pieces:
            with self._store.quick_disk.in_thread():
                written = await asyncio.to_thread(self._write_pieces, blob_id, upload)
            # Only here: counted in the thread, a chunk that comes meanwhile would spoil the sum.
            upload.queued_bytes -= written
            self._after_write(blob_id, upload)
        upload.task = None

    def _write_pieces(self, blob_id: BlobId, upload: UploadUnderWay) -> int:
        """Write what waits; returns how many bytes no longer do."""
        taken_bytes = 0
        try:
            while upload.pieces:
                piece = upload.pieces.popleft()
                taken_bytes += len(piece.data)
                upload.received_bytes = self._store.write(blob_id, piece.offset, piece.data)
                upload.whole = piece.data if len(piece.data) == upload.size_bytes else None
        except BlobOffsetError as error:
            upload.is_overtaken = error.expected > error.offset
            upload.failure = None if upload.is_overtaken else str(error)
        except BlobError as error:
            upload.failure = str(error)
        return taken_bytes

    def _after_write(self, blob_id: BlobId, upload: UploadUnderWay) -> None:
        if self._uploads.get(blob_id) is not upload:
            return
        if upload.failure is not None:
            del self._uploads[blob_id]
            logger.warning("upload refused", extra={"blob_id": blob_id, "why": upload.failure})
            self._refuse(blob_id, upload.failure)
        elif upload.is_overtaken and not self._store.is_complete(blob_id):
            del self._uploads[blob_id]
            self._on_offer(BlobOffer(blob_id=blob_id, size_bytes=upload.size_bytes))
        elif self._store.is_complete(blob_id):
            del self._uploads[blob_id]
            if upload.whole is not None:
                self._store.recent.put(blob_id, upload.whole)
            status = BlobStatus(blob_id=blob_id, received_bytes=upload.size_bytes, is_complete=True)
            self._outlet.send(status)
        elif upload.received_bytes - upload.acked_bytes >= ACK_BYTES:
            upload.acked_bytes = upload.received_bytes
            self._outlet.send(BlobAck(blob_id=blob_id, received_bytes=upload.received_bytes))

    def _refuse(self, blob_id: BlobId, message: str) -> None:
        self._outlet.send(BlobRefused(blob_id=blob_id, message=message))

    # --- downloads ---

    def _on_fetch(self, blob_id: BlobId, offset: int) -> None:
        earlier = self._downloads.pop(blob_id, None)
        self._waiting.pop(blob_id, None)
        if earlier is not None and earlier.task is not None:
            earlier.task.cancel()
        if len(self._downloads) < TRANSFERS_MAX:
            self._begin_download(blob_id, offset)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[blob_id] = offset
        else:
            self._outlet.close(f"{WAITING_MAX} downloads wait on this connection")

    def _begin_download(self, blob_id: BlobId, offset: int) -> None:
        size_bytes = self._store.size_of(blob_id)
        if size_bytes is None or offset > size_bytes:
            self._outlet.send(BlobMissing(blob_id=blob_id))
            return
        if not offset and self._outlet.is_writable:
            whole = self._store.recent.take(blob_id)
            if whole is not None:
                self._outlet.send_binary(encode_chunk(blob_id, 0, whole))
                return
        download = self._downloads[blob_id] = DownloadUnderWay(size_bytes, offset, offset)
        if size_bytes <= SMALL_BYTES and not self._desk.is_away(blob_id):
            del self._downloads[blob_id]
            try:
                data = self._store.read(blob_id, offset, size_bytes - offset)
            except BlobError as error:
                self._cannot_send(blob_id, error)
            else:
                self._outlet.send_binary(encode_chunk(blob_id, offset, data))
        else:
            download.task = asyncio.create_task(self._send_pieces(blob_id, download))

    async def _send_pieces(self, blob_id: BlobId, download: DownloadUnderWay) -> None:
        try:
            with self._desk.holding(blob_id):
                while download.sent_bytes < download.size_bytes:
                    await self._room(download)
                    await self._desk.bring(blob_id)  # Again, if its copy had to give way.
                    length = chunk_length(download.size_bytes - download.sent_bytes)
                    place = blob_id, download.sent_bytes, length
                    # What was just stored is in memory: to read it there is cheaper than a thread.
                    data: bytes | memoryview | None = self._read_cached(*place)
                    if data is None:
                        data = await asyncio.to_thread(self._store.read, *place)
                    self._outlet.send_binary(encode_chunk(blob_id, download.sent_bytes, data))
                    download.sent_bytes += len(data)
                    if download.sent_bytes < download.size_bytes:
                        await asyncio.sleep(0)  # Others have their turn between two pieces.
        except BlobError as error:
            self._cannot_send(blob_id, error)
        finally:
            if self._downloads.get(blob_id) is download:
                del self._downloads[blob_id]
            while self._waiting and len(self._downloads) < TRANSFERS_MAX:
                blob_id, offset = next(iter(self._waiting.items()))
                del self._waiting[blob_id]
                self._begin_download(blob_id, offset)

    def _cannot_send(self, blob_id: BlobId, error: BlobError) -> None:
        if not isinstance(error, BlobNotFoundError):
            logger.error("a blob cannot be read", extra={"blob_id": blob_id, "why": str(error)})
        # Else the peer would wait for ever.
        self._outlet.send(BlobMissing(blob_id=blob_id, reason=error.for_peers))

    def _read_cached(self, blob_id: BlobId, offset: int, length: int) -> memoryview | None:
        try:
            path = self._store.open(blob_id).path
        except BlobError:  # Its copy gave way just now.
            return None
        data = read_cached(path, offset, length)
        return None if data is None else memoryview(data)

    async def _room(self, download: DownloadUnderWay) -> None:
        while (
            not self._outlet.is_writable
            or download.sent_bytes - download.acked_bytes >= WINDOW_BYTES
        ):
            download.moved.clear()
            await download.moved.wait()
