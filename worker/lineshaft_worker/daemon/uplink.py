"""The connection to the coordinator: at most one that counts, and the way out through it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path

from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobHere,
    BlobInStore,
    BlobMissing,
    BlobRefused,
    BlobStatus,
    SameHostFolder,
)
from lineshaft_protocol.codec import TO_WORKER, Codec
from lineshaft_protocol.errors import LineshaftError, ProtocolError
from lineshaft_protocol.frames import decode_chunk
from lineshaft_protocol.ids import Session
from lineshaft_protocol.stream_frames import is_stream_frame
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Assign, Registered, Settled, ToWorker
from lineshaft_runtime.connection import Connection
from lineshaft_runtime.same_host import SameHostFiles
from lineshaft_runtime.transfers import BlobTransfers
from lineshaft_worker.core import io
from lineshaft_worker.daemon.direct_store import DirectStore
from lineshaft_worker.daemon.stream_pipes import StreamPipes
from lineshaft_worker.runner.files import tell_runners

logger = logging.getLogger(__name__)

_OF_ATTEMPTS = (Assign, Settled)
"""There is one of each for every attempt; the others are few."""

PROTOCOL_FAULT = 1002
GOING_AWAY = 1001

Dial = Callable[["Link"], Coroutine[None, None, Connection]]


class Uplink:
    """Opens connections when told, and numbers them.

    Args:
        dial: Opens a connection to the coordinator with this listener.
        post: Gives the core an event.
        execution: Folder of the execution layer, whose runners are told how results leave.
    """

    def __init__(self, dial: Dial, post: Callable[[io.Event], None], execution: Path) -> None:
        self._dial, self._post = dial, post
        self._links: dict[Session, Connection] = {}
        self._session_count = 0
        self._dialing: asyncio.Task[None] | None = None
        self.transfers = BlobTransfers(self._send_now, self.send_binary, self.is_writable)
        self.files = SameHostFiles(
            self._send_now, lambda is_open: tell_runners(execution, are_handed_over=is_open)
        )
        self.direct = DirectStore(self._send_now)
        self.streams: StreamPipes | None = None
        """Those that runners here serve, once there are runners."""

    def connect(self) -> None:
        """Open a connection, instead of any that is being opened."""
        if self._dialing is not None:
            self._dialing.cancel()
        self._dialing = asyncio.create_task(self._dial_once())

    async def _dial_once(self) -> None:
        self._session_count += 1
        session = Session(self._session_count)
        try:
            await self._dial(Link(self, session))
        except (LineshaftError, OSError) as error:
            logger.warning("cannot connect", extra={"why": str(error)})
            self._post(io.Disconnected(None))

    def send(self, outgoing: Mapping[Session, Sequence[Wire]]) -> None:
        """Send messages in order, in as few frames as their sizes allow."""
        for session, messages in outgoing.items():
            if (connection := self._links.get(session)) is not None:
                for frame in Codec.encode_batches(map(Codec.encode, messages)):
                    connection.send_text(frame)

    def hang_up(self, session: Session, reason: str) -> None:
        """End a session."""
        logger.warning("connection given up", extra={"why": reason})
        if (connection := self._links.pop(session, None)) is not None:
            connection.close(GOING_AWAY, reason)

    def close(self) -> None:
        """End all sessions: the worker stops."""
        if self._dialing is not None:
            self._dialing.cancel()
        self.direct.close()
        for connection in tuple(self._links.values()):
            connection.close(GOING_AWAY, "the worker stops")

    # --- for the listeners ---

    def opened(self, session: Session, connection: Connection) -> None:
        """A connection is open."""
        self._links[session] = connection
        self.transfers.on_connected()
        self._post(io.Connected(session))

    def closed(self, session: Session, code: int | None, reason: str) -> None:
        """A connection is gone."""
        if self._links.pop(session, None) is not None and not self._links:
            self.files.on_disconnected()
            self.transfers.on_disconnected()
            if self.streams is not None:
                self.streams.cut()
        logger.info("disconnected", extra={"code": code, "why": reason})
        self._post(io.Disconnected(session))

    def text(self, session: Session, connection: Connection, data: bytes) -> None:
        """A frame of control messages arrived."""
        try:
            messages = TO_WORKER.decode(data)
        except ProtocolError as error:
            logger.warning("the coordinator broke the protocol", extra={"why": error.reason})
            connection.close(PROTOCOL_FAULT, error.reason[:100])
            return
        for message in messages:
            is_of_attempt = isinstance(message, _OF_ATTEMPTS)
            if is_of_attempt or not self._take_blob_message(message):
                self._post(io.Received(session, message))
            if isinstance(message, Registered):
                fields = {"worker": message.worker_id, "epoch": message.epoch}
                logger.info("connected to the coordinator", extra=fields)
                self.files.on_connected(message.features)
                self.direct.on_registered(message.blob_store)
                if self.streams is not None:
                    self.streams.joined()

    def _take_blob_message(self, message: ToWorker) -> bool:
        match message:
            case SameHostFolder() | BlobHere():
                self.files.on_message(message)
            case BlobInStore():
                self.direct.on_message(message)
            case BlobAck():
                self.transfers.on_message(message)
            case BlobStatus() | BlobRefused() | BlobMissing():
                self.files.on_message(message)
                self.transfers.on_message(message)
            case _:
                return False
        return True

    def binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """A frame of bulk data arrived."""
        try:
            if not is_stream_frame(data):
                self.transfers.on_chunk(decode_chunk(data))
            elif self.streams is not None:
                self.streams.deliver(data)
        except ProtocolError as error:
            connection.close(PROTOCOL_FAULT, error.reason[:100])

    def writable(self) -> None:
        """There is room to send again."""
        if self.streams is not None:
            self.streams.flush()
        self.transfers.on_writable()

    @property
    def _current(self) -> Connection | None:
        return self._links[max(self._links)] if self._links else None

    def send_binary(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        """Send one frame; nothing happens without a connection."""
        if (connection := self._current) is not None:
            connection.send_binary(buffers)

    def is_writable(self) -> bool:
        """Whether there is a connection, and it takes more."""
        connection = self._current
        return connection is not None and connection.is_writable

    def _send_now(self, message: Wire) -> None:
        if (connection := self._current) is not None:
            connection.send_text(Codec.encode(message))


class Link:
    """Hears one connection to the coordinator."""

    def __init__(self, uplink: Uplink, session: Session) -> None:
        self._uplink, self._session = uplink, session

    def on_open(self, connection: Connection) -> None:
        """The handshake is done."""
        self._uplink.opened(self._session, connection)

    def on_text(self, connection: Connection, data: bytes) -> None:
        """Control messages."""
        self._uplink.text(self._session, connection, data)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """Bulk data."""
        self._uplink.binary(connection, data)

    def on_writable(self, connection: Connection) -> None:
        """There is room to send again."""
        del connection
        self._uplink.writable()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """The connection is gone."""
        del connection
        self._uplink.closed(self._session, code, reason)
