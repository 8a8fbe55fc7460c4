"""The peer's side of moving blobs to and from the coordinator.

Theory. An upload is *offered*; the coordinator's answer says where to go on, and chunks follow, at
most a window beyond what it acknowledged. A download is *fetched* from an offset on; what arrives
is hashed and acknowledged. Both live longer than a connection: on the next one an upload is
offered again, and a download is fetched from where it stopped. Who gave up waiting is forgotten;
what still arrives for them is ignored.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobMissing,
    BlobOffer,
    BlobRefused,
    BlobStatus,
    FetchBlob,
)
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.frames import WINDOW_BYTES, BlobChunk, chunk_length, encode_chunk
from lineshaft_protocol.ids import BlobId

ACK_BYTES = 1024 * 1024
"""How much arrives between two acknowledgements, in bytes."""

ACTIVE_MAX = 8
"""Uploads, and downloads, under way at a time; the others wait for their turn."""

ToCoordinator = BlobOffer | FetchBlob | BlobAck
FromCoordinator = BlobStatus | BlobAck | BlobRefused | BlobMissing
Read = Callable[[int, int], bytes | memoryview]
Sink = Callable[[int, bytes | memoryview], None]


class BlobRefusedError(LineshaftError):
    """The coordinator cannot store a blob."""

    def __init__(self, blob_id: BlobId, message: str) -> None:
        super().__init__(f"the coordinator refused blob {blob_id[:12]}: {message}")
        self.blob_id, self.message = blob_id, message


class BlobMissingError(LineshaftError):
    """The coordinator has no such blob, or no longer, or cannot get it now."""

    def __init__(self, blob_id: BlobId, reason: str | None = None) -> None:
        super().__init__(
            f"the coordinator has no blob {blob_id}; it may have been pruned with its job"
            if reason is None
            else f"the coordinator cannot give it: {reason}"
        )
        self.blob_id, self.reason = blob_id, reason


class BlobDamagedError(LineshaftError):
    """What arrived under the name of a blob is something else."""

    def __init__(self, blob_id: BlobId, size_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes arrived for blob {blob_id}, but they hash to another")
        self.blob_id, self.size_bytes = blob_id, size_bytes


class BlobTransfers:
    """All transfers between this process and the coordinator, over as many connections as it takes.

    Used from one event loop only. Nothing is sent before `on_connected`.

    Args:
        send: Sends a control message on the current connection.
        send_binary: Sends one binary frame of several buffers.
        is_writable: Whether the connection keeps up; `on_writable` tells when it does again.
    """

    def __init__(
        self,
        send: Callable[[ToCoordinator], None],
        send_binary: Callable[[list[bytes | memoryview]], None],
        is_writable: Callable[[], bool],
    ) -> None:
        self._send, self._send_binary, self._is_writable = send, send_binary, is_writable
        self._is_connected = False
        self._uploads: dict[BlobId, _Upload] = {}
        self._downloads: dict[BlobId, _Download] = {}
        self._upload_turns = _Turns(ACTIVE_MAX)
        self._download_turns = _Turns(ACTIVE_MAX)

    async def upload(self, blob_id: BlobId, size_bytes: int, read: Read) -> None:
        """Bring a blob to the coordinator; returns once it is stored and verified there.

        Args:
            blob_id: SHA-256 of the content.
            size_bytes: Its length.
            read: Returns up to so many bytes (second) from an offset (first) on; must not change
                until this returns. Called on the event loop.

        Raises:
            BlobRefusedError: It cannot be stored there.
            Exception: Whatever `read` raised.
        """
        upload = self._uploads.get(blob_id)
        if upload is None:
            upload = self._uploads[blob_id] = _Upload(blob_id, size_bytes, read)
            self._upload_turns.enter(upload.turn)
            upload.turn.add_done_callback(lambda _: self._offer(upload))
        await self._wait(upload, self._uploads, self._upload_turns)

    async def download(
        self,
        blob_id: BlobId,
        sink: Sink,
        size_bytes: int | None = None,
        *,
        begun: "tuple[int, Digest] | None" = None,
    ) -> None:
        """Bring a blob here; returns once all of it was given to the sink and verified.

        Args:
            blob_id: SHA-256 of the content.
            sink: Takes bytes (second) that belong at an offset (first), in order from 0 on. Called
                on the event loop. Must copy what it wants to keep of a view.
            size_bytes: Its length, if known.
            begun: How many bytes are here from before, and the hash object that has seen them; the
                sink gets the rest.

        Raises:
            BlobMissingError: The coordinator does not have it.
            BlobDamagedError: What arrived does not hash to its name.
            Exception: Whatever `sink` raised.
        """
        received_bytes, digest = begun if begun is not None else (0, hashlib.sha256())
        while (download := self._downloads.get(blob_id)) and (
            download.received_bytes or received_bytes
        ):
            # It has seen bytes that this sink has not: go after it, alone.
            await asyncio.wait([download.done])
        if download is None:
            download = self._downloads[blob_id] = _Download(blob_id, size_bytes)
            download.received_bytes, download.digest = received_bytes, digest
            if received_bytes:
                download.take(b"")
                if download.done.done():
                    del self._downloads[blob_id]
                    if download.error is not None:
                        raise download.error
                    return
            self._download_turns.enter(download.turn)
            download.turn.add_done_callback(lambda _: self._fetch(download))
        download.sinks.append(sink)
        try:
            await self._wait(download, self._downloads, self._download_turns)
        finally:
            download.sinks.remove(sink)

    def abandon(self, error: Exception) -> None:
        """There will be no other connection: all who wait get the error."""
        for upload in self._uploads.values():
            upload.fail(error)
        for download in self._downloads.values():
            download.fail(error)

    # --- the connection ---

    def on_connected(self) -> None:
        """Messages can be sent: go on with what is under way."""
        self._is_connected = True
        for upload in tuple(self._uploads.values()):
            self._offer(upload)
        for download in tuple(self._downloads.values()):
            self._fetch(download)

    def on_disconnected(self) -> None:
        """Nothing can be sent until `on_connected`."""
        self._is_connected = False
        for upload in self._uploads.values():
            upload.next_offset = None

    def on_writable(self) -> None:
        """The connection keeps up again."""
        for upload in tuple(self._uploads.values()):
            self._push(upload)

    def on_message(self, message: FromCoordinator) -> None:
        """Take in what the coordinator said of a blob; of one nobody waits for, ignore it."""
        blob_id = BlobId(message.blob_id)
        match message:
            case BlobMissing(reason=reason):
                if download := self._downloads.get(blob_id):
                    download.fail(BlobMissingError(blob_id, reason))
                return
            case _:
                upload = self._uploads.get(blob_id)
        if upload is None or upload.done.done():
            return
        match message:
            case BlobRefused(message=text):
                upload.fail(BlobRefusedError(blob_id, text))
            case BlobStatus(is_complete=True):
                upload.done.set_result(None)
            case BlobStatus(received_bytes=received_bytes):
                upload.next_offset = upload.acked_bytes = received_bytes
                self._push(upload)
            case BlobAck(received_bytes=received_bytes):
                upload.acked_bytes = max(upload.acked_bytes, received_bytes)
                self._push(upload)

    def on_chunk(self, chunk: BlobChunk) -> None:
        """Take in a piece of a blob; of one nobody waits for, ignore it."""
        download = self._downloads.get(chunk.blob_id)
        if download is None or download.done.done():
            return
        # Pieces of an earlier fetch that was given up may still arrive, before or behind ours.
        known_bytes = download.received_bytes - chunk.offset
        if known_bytes < 0 or (known_bytes and known_bytes >= len(chunk.data)):
            return
        data = chunk.data[known_bytes:] if known_bytes else chunk.data
        try:
            for sink in tuple(download.sinks):
                sink(download.received_bytes, data)
        except Exception as error:  # noqa: BLE001 - it is the waiting caller's, and raised there
            download.fail(error)
            return
        download.take(data)
        # Who has sent all of it waits for no word.
        if not download.done.done() and download.received_bytes - download.acked_bytes >= ACK_BYTES:
            download.acked_bytes = download.received_bytes
            self._send(BlobAck(blob_id=chunk.blob_id, received_bytes=download.received_bytes))

    # --- inside ---

    def _offer(self, upload: "_Upload") -> None:
        if self._is_connected and upload.may_begin:
            self._send(BlobOffer(blob_id=upload.blob_id, size_bytes=upload.size_bytes))

    def _fetch(self, download: "_Download") -> None:
        if self._is_connected and download.may_begin:
            offset = download.acked_bytes = download.received_bytes
            self._send(FetchBlob(blob_id=download.blob_id, offset=offset))

    def _push(self, upload: "_Upload") -> None:
        """Send chunks until the window, the connection or the blob is full."""
        while (
            self._is_connected
            and not upload.done.done()
            and upload.next_offset is not None
            and upload.next_offset < min(upload.size_bytes, upload.acked_bytes + WINDOW_BYTES)
            and self._is_writable()
        ):
            offset = upload.next_offset
            try:
                data = upload.read(offset, chunk_length(upload.size_bytes - offset))
            except Exception as error:  # noqa: BLE001 - it is the waiting caller's, and raised there
                upload.fail(error)
                return
            upload.next_offset = offset + len(data)
            self._send_binary(encode_chunk(upload.blob_id, offset, data))

    @staticmethod
    async def _wait(
        transfer: "_Upload | _Download",
        table: "dict[BlobId, _Upload] | dict[BlobId, _Download]",
        turns: "_Turns",
    ) -> None:
        transfer.waiting += 1
        try:
            # Another one may wait for the same transfer when this one is cancelled.
            await asyncio.wait([transfer.done])
        finally:
            transfer.waiting -= 1
            if not transfer.waiting or transfer.done.done():
                if table.get(transfer.blob_id) is transfer:
                    del table[transfer.blob_id]
                    turns.leave(transfer.turn)
                transfer.done.cancel()
        if transfer.error is not None:
            raise transfer.error


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class _Upload:
    blob_id: BlobId
    size_bytes: int
    read: Read
    next_offset: int | None = None
    """What to send next; None until the coordinator has said where to begin."""
    acked_bytes: int = 0
    waiting: int = 0
    error: Exception | None = None
    turn: asyncio.Future[None] = field(default_factory=_future)
    done: asyncio.Future[None] = field(default_factory=_future)

    @property
    def may_begin(self) -> bool:
        """Whether it is its turn."""
        return self.turn.done() and not self.done.done()

    def fail(self, error: Exception) -> None:
        """End it; who waits raises the error, and nobody complains if nobody waits."""
        if not self.done.done():
            self.error = error
            self.done.set_result(None)


class Digest(Protocol):
    """What computes a hash piece by piece."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next piece in."""
        ...

    def hexdigest(self) -> str:
        """Return the hash of what came so far."""
        ...


@dataclass(slots=True)
class _Download:
    blob_id: BlobId
    size_bytes: int | None
    sinks: list[Sink] = field(default_factory=list[Sink])
    received_bytes: int = 0
    acked_bytes: int = 0
    waiting: int = 0
    error: Exception | None = None
    digest: Digest = field(default_factory=hashlib.sha256)
    turn: asyncio.Future[None] = field(default_factory=_future)
    done: asyncio.Future[None] = field(default_factory=_future)

    @property
    def may_begin(self) -> bool:
        """Whether it is its turn."""
        return self.turn.done() and not self.done.done()

    def take(self, data: bytes | memoryview) -> None:
        """Count a piece, and find out whether it was the last one."""
        self.digest.update(data)
        self.received_bytes += len(data)
        if self.size_bytes is not None and self.received_bytes < self.size_bytes:
            return
        # Without a size, the hash tells that all is here: no beginning of it has the same.
        if self.digest.hexdigest() == self.blob_id:
            self.done.set_result(None)
        elif self.size_bytes is not None:
            self.fail(BlobDamagedError(self.blob_id, self.received_bytes))

    def fail(self, error: Exception) -> None:
        """End it; who waits raises the error, and nobody complains if nobody waits."""
        if not self.done.done():
            self.error = error
            self.done.set_result(None)


class _Turns:
    """Lets so many at a time begin, in order."""

    def __init__(self, active_max: int) -> None:
        self._free = active_max
        self._line: deque[asyncio.Future[None]] = deque()

    def enter(self, turn: asyncio.Future[None]) -> None:
        self._line.append(turn)
        self._admit()

    def leave(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._free += 1
        else:
            self._line.remove(turn)
            turn.cancel()
        self._admit()

    def _admit(self) -> None:
        while self._free and self._line:
            self._free -= 1
            self._line.popleft().set_result(None)
