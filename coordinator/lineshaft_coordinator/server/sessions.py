"""Sessions: what arrives on a connection goes to the core, what the core says goes out."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lineshaft_coordinator.core.io import (
    POLICY,
    PROTOCOL_FAULT,
    Connected,
    Disconnected,
    Event,
    Received,
)
from lineshaft_coordinator.data.stream_relay import StreamRelay
from lineshaft_coordinator.data.transfers import Transfers
from lineshaft_protocol.blob_messages import BlobAck, BlobOffer, FetchBlob, SameHost
from lineshaft_protocol.client_messages import (
    Accepted,
    Events,
    FromClient,
    KeepSecret,
    Query,
    Retry,
    Submit,
)
from lineshaft_protocol.codec import FROM_CLIENT, FROM_WORKER, Codec
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.frames import decode_chunk
from lineshaft_protocol.ids import Session
from lineshaft_protocol.stream_frames import BytesLike, is_stream_frame
from lineshaft_protocol.wire import Wire
from lineshaft_protocol.worker_messages import Ended, FromWorker, Settled, SpawnChild
from lineshaft_runtime.connection import Connection
from lineshaft_runtime.fair_queue import FairQueue

logger = logging.getLogger(__name__)

Role = Literal["client", "worker"]

WAITING_MAX = 100_000
"""Messages waiting for the core at which a session that sends more is dropped."""

URGENT: frozenset[Role] = frozenset({"worker"})
"""Whose events do not wait for all that others have said before: behind ten thousand submits a
worker would wait a second for its next jobs, and save ends that nobody takes."""

RECEIPTS = (Accepted, Settled)
"""What nobody waits for: it lets the peer forget something."""
RECEIPT_S = 0.002
"""How long a receipt waits for a message that takes it along, in seconds: alone it would wake its
reader for nothing, which costs a brief job a quarter of its time."""


class Desk(Protocol):
    """What a session needs of the daemon."""

    def post(self, event: Event, *, is_urgent: bool = False) -> None:
        """Give the core an event; an urgent one overtakes those that are not."""
        ...

    def waiting(self) -> int:
        """How many events the core has not seen yet."""
        ...

    def ask(self, session: Session, query: Query, asker: str | None) -> None:
        """Answer a question of who has the token of this id, some time."""
        ...

    def keep_secret(self, session: Session, message: KeepSecret) -> None:
        """Keep or forget a secret, some time."""
        ...

    def retry(self, session: Session, message: Retry, owner: str | None) -> None:
        """Do an ended job again, for the token of this id, some time."""
        ...

    def told_by_worker(self, session: Session, message: Ended | SpawnChild) -> None:
        """Give the core what a worker says, once the blobs that it names were looked for."""
        ...

    def submit(self, session: Session, submit: Submit) -> None:
        """Give the core a job, unless a blob that it needs is missing."""
        ...


class LocalClient(Protocol):
    """A client inside this process: the same messages, without a connection."""

    def on_messages(self, messages: list[Wire]) -> None:
        """The core told it something. Must not block; it is let go if it raises."""
        ...

    def on_closed(self, reason: str) -> None:
        """The core ended the session."""
        ...


@dataclass(slots=True)
class _Link:
    connection: Connection
    role: Role
    transfers: Transfers
    outlet: "Outlet"
    owner: str | None
    """Id of its token; the core knows it only once it has heard of the session."""
    receipts: list[Wire] = field(default_factory=list[Wire])
    """Said, but not sent yet; they leave before anything that is said later."""


class Sessions:
    """All open sessions, and the way out to each."""

    def __init__(
        self, desk: Desk, make_transfers: Callable[["Outlet"], Transfers], streams: StreamRelay
    ) -> None:
        self._desk, self._make_transfers = desk, make_transfers
        self.streams = streams
        self._numbers = itertools.count(1)
        self._links: dict[Session, _Link] = {}
        self._locals: dict[Session, LocalClient] = {}
        self._holding: dict[Session, None] = {}
        """Sessions that may have receipts; a timer runs while there are any."""

    def __len__(self) -> int:
        return len(self._links)

    def host_of(self, session: Session) -> str | None:
        """From which host a session was opened; None if it is over, or inside this process."""
        link = self._links.get(session)
        return link.connection.peer.rpartition(":")[0] if link is not None else None

    def listener(self, role: Role, owner: str | None = None) -> "SessionListener":
        """Who hears a new connection of this role, by a token of this id."""
        return SessionListener(self, Session(next(self._numbers)), role, owner)

    def send(self, session: Session, messages: list[Wire]) -> None:
        """Send messages in order, in as few frames as their sizes allow; mere receipts soon."""
        if (link := self._links.get(session)) is not None:
            if all(type(message) in RECEIPTS for message in messages):
                self._hold(session, link, messages)
            else:
                self._flush(link, messages)
        elif (local := self._locals.get(session)) is not None:
            self._tell_local(session, local, messages)

    def _tell_local(self, session: Session, local: "LocalClient", messages: list[Wire]) -> None:
        try:
            local.on_messages(messages)
        except Exception:
            # What one of us makes of a job's words must not end the pump, and all jobs with it.
            logger.exception("a client inside the coordinator failed", extra={"session": session})
            self.close_local(session)
            local.on_closed("an error inside the coordinator")

    def close(self, session: Session, code: int, reason: str) -> None:
        """End a session; what was sent before still leaves."""
        if (link := self._links.get(session)) is not None:
            self._flush(link)
            link.connection.close(code, reason)
        elif (local := self._locals.pop(session, None)) is not None:
            local.on_closed(reason)

    def _hold(self, session: Session, link: _Link, receipts: list[Wire]) -> None:
        link.receipts += receipts
        if not self._holding:
            asyncio.get_running_loop().call_later(RECEIPT_S, self._release)
        self._holding[session] = None

    def _release(self) -> None:
        holding, self._holding = self._holding, {}
        for session in holding:
            if (link := self._links.get(session)) is not None:
                self._flush(link)

    @staticmethod
    def _flush(link: _Link, messages: Sequence[Wire] = ()) -> None:
        if link.receipts:
            messages, link.receipts = [*link.receipts, *messages], []
        if not link.connection.is_writable:
            messages = list(map(_unless_slow, messages))
        messages = link.transfers.with_paths(messages)
        for frame in Codec.encode_batches(map(Codec.encode, messages)):
            link.connection.send_text(frame)

    # --- for clients inside this process ---

    def open_local(self, client: LocalClient, owner: str | None = None) -> Session:
        """Open a session for a client inside this process; its first word is ClientHello.

        Args:
            client: Hears what the core says.
            owner: Id of the token on whose behalf it submits jobs; None if of nobody's.
        """
        session = Session(next(self._numbers))
        self._locals[session] = client
        self._desk.post(Connected(session, "client", owner))
        return session

    def speak(self, session: Session, message: FromClient) -> None:
        """Say something on a local session. The blobs it names must be stored already."""
        if session in self._locals:
            self._desk.post(Received(session, message))

    def close_local(self, session: Session) -> None:
        """End a local session; its jobs go on."""
        if self._locals.pop(session, None) is not None:
            self._desk.post(Disconnected(session))

    # --- for the listeners ---

    def opened(
        self, session: Session, role: Role, connection: Connection, owner: str | None = None
    ) -> None:
        """A connection is open."""
        outlet = Outlet(connection)
        self._links[session] = _Link(connection, role, self._make_transfers(outlet), outlet, owner)
        self._desk.post(Connected(session, role, owner), is_urgent=role in URGENT)

    def closed(self, session: Session) -> None:
        """A connection is gone."""
        link = self._links.pop(session, None)
        if link is not None:
            link.transfers.close()
            self.streams.gone(link.outlet)
            self._desk.post(Disconnected(session), is_urgent=link.role in URGENT)

    def text(self, session: Session, data: bytes) -> None:
        """A frame of control messages arrived."""
        link = self._links.get(session)
        if link is None:
            return
        try:
            codec: Codec[FromClient] | Codec[FromWorker]
            codec = FROM_CLIENT if link.role == "client" else FROM_WORKER
            messages = codec.decode(data)
        except ProtocolError as error:
            self._fault(session, link, error)
            return
        if self._desk.waiting() > WAITING_MAX:
            link.connection.close(POLICY, "the coordinator is overloaded; slow down")
            return
        desk = self._desk
        for message in messages:
            # Those two first, and by type: there is one of each for every job.
            if type(message) is Submit:
                desk.submit(session, message)
            elif type(message) is Ended:
                desk.told_by_worker(session, message)
            else:
                self._route(session, link, message)

    def _route(self, session: Session, link: _Link, message: FromClient | FromWorker) -> None:
        match message:
            case SpawnChild():
                self._desk.told_by_worker(session, message)
            case BlobOffer() | FetchBlob() | BlobAck() | SameHost():
                link.transfers.on_message(message)
            case Query():
                self._desk.ask(session, message, link.owner)
            case Retry():
                self._desk.retry(session, message, link.owner)
            case KeepSecret():
                self._desk.keep_secret(session, message)
            case _:
                self._desk.post(Received(session, message), is_urgent=link.role in URGENT)

    def binary(self, session: Session, data: bytes | bytearray) -> None:
        """A frame of bulk data arrived."""
        link = self._links.get(session)
        if link is None:
            return
        try:
            if is_stream_frame(data):
                self.streams.receive(session, link.role, link.outlet, data)
            else:
                link.transfers.on_chunk(decode_chunk(data))
        except ProtocolError as error:
            self._fault(session, link, error)

    def writable(self, session: Session) -> None:
        """The peer caught up."""
        if (link := self._links.get(session)) is not None:
            link.outlet.flush()
            link.transfers.on_writable()

    def _fault(self, session: Session, link: _Link, error: ProtocolError) -> None:
        fields = {"session": session, "peer": link.connection.peer, "reason": error.reason}
        logger.warning("a peer broke the protocol", extra=fields)
        link.connection.close(PROTOCOL_FAULT, error.reason[:100])


def _unless_slow(message: Wire) -> Wire:
    """Leave out what a slow viewer can ask for again, lest all of it wait in our memory."""
    if isinstance(message, Events) and message.events:
        return Events(events=(), left_out=message.events[-1].job_id)
    return message


class SessionListener:
    """Hears one connection."""

    def __init__(self, sessions: Sessions, session: Session, role: Role, owner: str | None) -> None:
        self._sessions, self._session, self._owner = sessions, session, owner
        self._role: Role = role

    def on_open(self, connection: Connection) -> None:
        """The handshake is done."""
        self._sessions.opened(self._session, self._role, connection, self._owner)

    def on_text(self, connection: Connection, data: bytes) -> None:
        """Control messages."""
        del connection
        self._sessions.text(self._session, data)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """Bulk data."""
        del connection
        self._sessions.binary(self._session, data)

    def on_writable(self, connection: Connection) -> None:
        """There is room to send again."""
        del connection
        self._sessions.writable(self._session)

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """The connection is gone."""
        fields = {"session": self._session, "peer": connection.peer, "code": code, "why": reason}
        logger.debug("session closed", extra=fields)
        self._sessions.closed(self._session)


class Outlet:
    """What transfers and streams may do with their connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue = FairQueue(connection.send_binary, lambda: connection.is_writable)

    def send_frame(self, stream_id: str, buffers: Sequence[BytesLike]) -> bool:
        """Send a stream's frame, now or in its turn; False if too much of it waits."""
        return self._queue.put(stream_id, buffers)

    def flush(self) -> None:
        """The peer caught up: send what waits of streams."""
        self._queue.flush()

    def send(self, message: Wire) -> None:
        """Send one control message."""
        self._connection.send_text(Codec.encode(message))

    def send_binary(self, buffers: list[bytes | memoryview]) -> None:
        """Send one frame."""
        self._connection.send_binary(buffers)

    def close(self, reason: str) -> None:
        """End the session: the peer broke a rule."""
        self._connection.close(PROTOCOL_FAULT, reason)

    @property
    def is_writable(self) -> bool:
        """Whether the peer keeps up."""
        return self._connection.is_writable
