"""The way to the coordinator: one connection after another, and what goes over it."""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence

from lineshaft.errors import (
    AccessDeniedError,
    IncompatibleVersionError,
    LineshaftError,
    ProtocolError,
    WrongCertificateError,
)
from lineshaft.locating import CLIENT_PATH
from lineshaft_protocol.blob_messages import (
    BlobAck,
    BlobHere,
    BlobMissing,
    BlobRefused,
    BlobStatus,
    SameHostFolder,
)
from lineshaft_protocol.client_messages import FromClient, ToClient, Welcome
from lineshaft_protocol.codec import TO_CLIENT, Codec
from lineshaft_protocol.frames import decode_chunk
from lineshaft_protocol.ids import Session
from lineshaft_protocol.stream_frames import is_stream_frame
from lineshaft_protocol.values import value
from lineshaft_runtime.backoff import Backoff
from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.connection_errors import RefusedError
from lineshaft_runtime.fair_queue import FairQueue
from lineshaft_runtime.locating import Whereabouts
from lineshaft_runtime.same_host import SameHostFiles
from lineshaft_runtime.transfers import BlobTransfers

logger = logging.getLogger(__name__)

DIAL_S = 8.0
"""Longest time to open one connection."""
CLOSE_S = 1.0
"""Longest wait for the coordinator's goodbye."""
ENCODED_MAX = 512
"""Messages encoded at a time; the others wait as they are, which takes less memory."""

_NORMAL, _PROTOCOL_FAULT, _POLICY = 1000, 1002, 1008


@value()
class LinkEvents:
    """Who is told what happens."""

    on_open: Callable[[Session], None]
    on_gone: Callable[[Session | None, str], None]
    on_message: Callable[[Session, ToClient], None]
    on_all: Callable[[], None]
    """All messages that came together were told."""
    on_stream: Callable[[bytes | bytearray], None]
    """A frame of a stream. Raises ProtocolError."""


class Link:
    """Dials when told to, sends in order, and hands on what arrives.

    Args:
        where: Where the coordinator is.
        events: Who is told.
        rng: Source of the jitter before dialling again.
    """

    def __init__(self, where: Whereabouts, events: LinkEvents, rng: random.Random) -> None:
        self._where, self._events = where, events
        self._backoff = Backoff(0.05, 2.0, 2.0, rng)
        self._session = Session(0)
        self._connection: Connection | None = None
        self._unclosed: dict[Session, Connection] = {}
        self._all_closed = asyncio.Event()
        self._is_welcome = False
        self._dialling: asyncio.Task[None] | None = None
        self._outbox: deque[FromClient] = deque()
        self.streams = FairQueue(self._send_binary, self._is_writable)
        self.transfers = BlobTransfers(self._send_now, self._send_binary, self._is_writable)
        self.files = SameHostFiles(self._send_now)
        self.problem: LineshaftError | OSError | None = None
        """Why there is no connection, as far as we know."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection on which the coordinator has accepted us."""
        return self._connection is not None and self._is_welcome

    @property
    def is_hopeless(self) -> bool:
        """Whether the problem will not go away by itself."""
        return isinstance(
            self.problem, AccessDeniedError | WrongCertificateError | IncompatibleVersionError
        )

    def dial(self) -> None:
        """Open a connection, instead of any that is being opened."""
        if self._dialling is not None:
            self._dialling.cancel()
        self._dialling = asyncio.create_task(self._dial())

    def welcomed(self) -> None:
        """The coordinator has accepted us: blobs may be moved."""
        self._backoff.reset()
        self._is_welcome, self.problem = True, None
        self.transfers.on_connected()

    def send(self, session: Session, message: FromClient) -> None:
        """Put a message in the outbox; `flush` sends it. Dropped if the session is gone."""
        if session == self._session and self._connection is not None:
            self._outbox.append(message)

    def flush(self) -> None:
        """Send what is in the outbox, as far as the connection takes it."""
        connection, outbox = self._connection, self._outbox
        while outbox and connection is not None and connection.is_writable:
            count = min(ENCODED_MAX, len(outbox))
            encoded = [Codec.encode(outbox.popleft()) for _ in range(count)]
            for frame in Codec.encode_batches(encoded):
                connection.send_text(frame)

    def end(self, session: Session, reason: str) -> None:
        """End a session; what is in its outbox still leaves, if the coordinator takes it."""
        if session != self._session or self._connection is None:
            return
        self.flush()
        connection = self._forget()
        connection.close(_NORMAL, reason[:100])

    async def close(self) -> None:
        """End it all."""
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        self.end(self._session, "the client is done")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._unclosed:
                    self._all_closed.clear()
                    await self._all_closed.wait()
        for connection in self._unclosed.values():
            connection.abort()

    # --- inside ---

    async def _dial(self) -> None:
        if self.problem is not None:
            await asyncio.sleep(self._backoff.next_s())
        # Nothing that a program which has not connected yet should load.
        from lineshaft_runtime.dialing import dial  # noqa: PLC0415

        self._session = Session(self._session + 1)
        listener = _Listener(self, self._session)
        try:
            await dial(
                f"{self._where.url}{CLIENT_PATH}",
                listener,
                token=self._where.secret,
                ssl=await self._where.trust(),
                open_timeout_s=DIAL_S,
                limits=Limits(ping_interval_s=None),
            )
        except RefusedError as error:
            self.problem = error
            if error.status in (401, 403):
                self.problem = AccessDeniedError(self._where.url, error.text.strip())
        except (LineshaftError, OSError) as error:
            self.problem = error
        else:
            return
        logger.debug("cannot connect", extra={"url": self._where.url, "why": str(self.problem)})
        self._events.on_gone(None, str(self.problem))

    def _forget(self) -> Connection:
        connection, self._connection = self._connection, None
        assert connection is not None, "only what was opened is forgotten"
        self._is_welcome = False
        self._outbox.clear()
        self.files.on_disconnected()
        self.transfers.on_disconnected()
        self.streams.clear()
        return connection

    def _send_now(self, message: FromClient) -> None:
        self.send(self._session, message)
        self.flush()

    def _send_binary(self, buffers: Sequence[bytes | bytearray | memoryview]) -> None:
        if self._connection is not None:
            self._connection.send_binary(buffers)

    def _is_writable(self) -> bool:
        return self._connection is not None and self._connection.is_writable

    # --- for the listener ---

    def opened(self, session: Session, connection: Connection) -> None:
        """A connection is open."""
        self._unclosed[session] = connection
        if session != self._session:
            connection.abort()
            return
        self._connection = connection
        self._events.on_open(session)

    def text(self, session: Session, connection: Connection, data: bytes) -> None:
        """Control messages arrived."""
        if session != self._session:
            return
        try:
            messages = TO_CLIENT.decode(data)
        except ProtocolError as error:
            self._fault(connection, error)
            return
        for message in messages:
            match message:
                case SameHostFolder() | BlobHere():
                    self.files.on_message(message)
                case BlobAck():
                    self.transfers.on_message(message)
                case BlobStatus() | BlobRefused() | BlobMissing():
                    self.files.on_message(message)
                    self.transfers.on_message(message)
                case _:
                    self._events.on_message(session, message)
                    if isinstance(message, Welcome):
                        self.files.on_connected(message.features)
        self._events.on_all()

    def binary(self, session: Session, connection: Connection, data: bytes | bytearray) -> None:
        """A piece of a blob, or a frame of a stream, arrived."""
        if session != self._session:
            return
        try:
            if is_stream_frame(data):
                self._events.on_stream(data)
                return
            self.transfers.on_chunk(decode_chunk(data))
        except ProtocolError as error:
            self._fault(connection, error)

    def writable(self, session: Session) -> None:
        """The connection takes more."""
        if session == self._session:
            self.flush()
            self.streams.flush()
            self.transfers.on_writable()

    def closed(self, session: Session, code: int | None, reason: str) -> None:
        """A connection is gone."""
        self._unclosed.pop(session, None)
        self._all_closed.set()
        if session != self._session or self._connection is None:
            return
        text = reason or "the connection broke"
        if not self._is_welcome and code in (_PROTOCOL_FAULT, _POLICY):
            self.problem = IncompatibleVersionError(self._where.url, text)
        else:
            self.problem = ProtocolError(text)
        self._forget()
        logger.info("connection lost", extra={"url": self._where.url, "code": code, "why": text})
        self._events.on_gone(session, text)

    @staticmethod
    def _fault(connection: Connection, error: ProtocolError) -> None:
        logger.warning("the coordinator broke the protocol", extra={"why": error.reason})
        connection.close(_PROTOCOL_FAULT, error.reason[:100])


class _Listener:
    """Hears one connection."""

    def __init__(self, link: Link, session: Session) -> None:
        self._link, self._session = link, session

    def on_open(self, connection: Connection) -> None:
        self._link.opened(self._session, connection)

    def on_text(self, connection: Connection, data: bytes) -> None:
        self._link.text(self._session, connection, data)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        self._link.binary(self._session, connection, data)

    def on_writable(self, connection: Connection) -> None:
        del connection
        self._link.writable(self._session)

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        del connection
        self._link.closed(self._session, code, reason)
