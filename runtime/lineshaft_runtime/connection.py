"""What both ends of a connection agree on: limits, the connection itself, and who listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from lineshaft_protocol.values import value

if TYPE_CHECKING:
    from lineshaft_runtime.frames import Buffer


@value(kw_only=True)
class Limits:
    """What one connection may cost."""

    text_bytes: int = 4 * 1024 * 1024
    """Longest text message accepted; a longer one closes the connection with 1009."""
    binary_bytes: int = 64 * 1024 * 1024
    """Longest binary message accepted; a longer one closes the connection with 1009."""
    frame_bytes: int = 1 << 62
    """Longest frame sent; a longer message goes in several."""
    write_high_bytes: int = 1024 * 1024
    """`is_writable` turns false when more than this waits to be sent."""
    write_low_bytes: int = 256 * 1024
    """`is_writable` turns true again, and `on_writable` is called, at this."""
    buffered_bytes: int = 256 * 1024 * 1024
    """Who sends on without looking at `is_writable` loses the connection here."""
    ping_interval_s: float | None = None
    """Ask a silent peer for a sign of life after this time; `None`: never."""
    ping_timeout_s: float = 20.0
    """Give up on the peer when no sign of life follows the question in this time."""
    close_timeout_s: float = 5.0
    """Longest time from a close to the end of the socket."""


@value(kw_only=True)
class UpgradeRequest:
    """What a client asked for when it opened the connection."""

    path: str
    peer: str
    """`host:port` of the other end of the socket, or `unix`."""
    query: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The last value of each parameter; hidden from `repr`, as it may hold a token."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """By lower-case name; hidden from `repr`, as it may hold a token."""

    @property
    def token(self) -> str | None:
        """What it brought to be let in; see `token_of`."""
        return token_of(self.headers, self.query)

    @property
    def origin(self) -> str | None:
        """The web page that opened the connection; `None` if it was no browser."""
        return self.headers.get("origin")

    @property
    def host(self) -> str | None:
        """The name by which the client knows the server."""
        return self.headers.get("host")


def token_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The bearer token of a request's header, else the query's `token`: browsers send no header.

    Args:
        headers: By lower-case name.
        query: The last value of each parameter.
    """
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return query.get("token")


class Connection(Protocol):
    """What a listener may do with its connection. Sending on a closed one does nothing."""

    @property
    def request(self) -> UpgradeRequest:
        """How the connection was opened."""
        ...

    @property
    def peer(self) -> str:
        """`host:port` of the other end, or `unix`."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether what is sent now has a chance to arrive."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether the peer keeps up; if not, wait for `on_writable` with what can wait."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """How much waits on this side to be sent."""
        ...

    def send_text(self, data: bytes | str) -> None:
        """Send one text message; bytes must be UTF-8."""
        ...

    def send_binary(self, data: Buffer | Sequence[Buffer]) -> None:
        """Send one binary message, from one buffer or from several put one after the other.

        Buffers may be sent later and without a copy: never change them afterwards.
        """
        ...

    def pause_reading(self) -> None:
        """Take nothing more from the socket, so that the peer has to wait.

        What was read already still arrives. The peer's end is noticed only after the pause.
        """
        ...

    def resume_reading(self) -> None:
        """Go on after a pause."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; what was sent before still leaves. Nothing but `on_close` follows."""
        ...

    def abort(self) -> None:
        """Drop the connection without a word; `on_close` follows."""
        ...


class Listener(Protocol):
    """Hears what happens on one connection, synchronously, in order. Must not block."""

    def on_open(self, connection: Connection) -> None:
        """The handshake is done."""
        ...

    def on_text(self, connection: Connection, data: bytes) -> None:
        """A text message arrived; it is known to be UTF-8."""
        ...

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """A binary message arrived; the listener owns the buffer."""
        ...

    def on_writable(self, connection: Connection) -> None:
        """The peer caught up after `is_writable` was false."""
        ...

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """The connection is gone.

        Args:
            connection: For telling apart; nothing can be sent on it any more.
            code: Of the first close frame, ours or the peer's; `None`: it broke without one.
            reason: Text of that frame, or how it broke; may be empty.
        """
        ...


@value()
class Admitted:
    """A server's decision for one connection that may cost something else than the others."""

    listener: Listener
    limits: Limits


@value()
class Opened:
    """The handshake succeeded."""

    listener: Listener
    request: UpgradeRequest
    reply: bytes = b""
    """What to send to the peer before anything else."""
    rest: bytes = b""
    """What the peer sent behind the handshake: frames."""
    limits: Limits | None = None
    """What this connection may cost, if not what all may."""


@value()
class Refused:
    """The handshake failed."""

    reply: bytes = b""
    """What to send to the peer before the socket is closed."""


class Handshake(Protocol):
    """Brings one connection from connected to open; one object for each connection."""

    @property
    def is_client(self) -> bool:
        """Which side we are on."""
        ...

    def begin(self, peer: str) -> bytes:
        """Give what to send first."""
        ...

    def receive(self, data: bytes) -> Opened | Refused | None:
        """Take in what arrived; `None`: more is needed."""
        ...

    def lost(self, error: Exception | None) -> None:
        """The socket was gone before the handshake was done."""
        ...
