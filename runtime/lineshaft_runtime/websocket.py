"""One WebSocket connection, for both sides: callbacks in, direct writes out.

No task and no queue per connection: what arrives is handed to the listener in the same call
in which it was read, and what is sent goes to the socket in the same call, too.

A connection is *opening* until the handshake is done, *open* until either side says close or
something breaks, *closing* until the socket is gone, then *closed*. The listener hears
`on_open` once, then messages while open, then `on_close` once. Every state but *open* ends by
a timer at the latest: who began the handshake limits *opening*, `close_timeout_s` *closing*.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from typing import cast

from typing_extensions import override

from lineshaft_runtime.connection import (
    Handshake,
    Limits,
    Listener,
    Opened,
    Refused,
    UpgradeRequest,
)
from lineshaft_runtime.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Buffer,
    FrameError,
    FrameReader,
    FrameWriter,
    close_payload,
    flat,
    parse_close,
)
from lineshaft_runtime.peer_names import peer_name

# From here on a payload is handed to the socket alone; below, copying it beside its header
# is cheaper than a second system call.
_JOIN_BYTES_MAX = 64 * 1024
_LINGER_S = 1.0


class _State(enum.Enum):
    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class WebSocketProtocol(asyncio.BufferedProtocol):
    """The asyncio protocol of one connection; it is the `Connection` of its listener, too.

    Args:
        handshake: Decides whether and for which listener the connection opens.
        limits: What it may cost.
        scratch: Memory for reading, see `FrameReader`; all connections of a loop may share it.
        on_lost: Called last, when the socket is gone.
    """

    def __init__(
        self,
        handshake: Handshake,
        *,
        limits: Limits,
        scratch: bytearray,
        on_lost: Callable[["WebSocketProtocol"], None] | None = None,
    ) -> None:
        self._handshake = handshake
        self._limits = limits
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._state = _State.OPENING
        self._reader = FrameReader(
            self,
            is_masked=not handshake.is_client,
            text_bytes_max=limits.text_bytes,
            binary_bytes_max=limits.binary_bytes,
            scratch=scratch,
        )
        self._writer = FrameWriter(is_masking=handshake.is_client)
        self._transport: asyncio.Transport
        self._listener: Listener  # set when opened
        self._was_opened = False
        self.request: UpgradeRequest
        self._is_connected = self._is_gathering = False
        self.peer = ""
        self.is_writable = True
        self._is_deaf = False  # after the peer's last frame, or its first wrong one
        self._heard_anything = False
        self._corked: list[Buffer] = []
        self._corked_bytes = 0
        self._is_corked = False
        self._close_code: int | None = None
        self._close_reason = ""
        self._close_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None

    # Sending.

    @property
    def is_open(self) -> bool:
        """Whether what is sent now has a chance to arrive."""
        return self._state is _State.OPEN

    @property
    def buffered_bytes(self) -> int:
        """How much waits on this side to be sent."""
        waiting = self._transport.get_write_buffer_size() if self._is_connected else 0
        return self._corked_bytes + waiting

    def send_text(self, data: bytes | str) -> None:
        """Send one text message; bytes must be UTF-8."""
        if self._state is _State.OPEN:
            self._send(TEXT, data.encode() if isinstance(data, str) else data)

    def send_binary(self, data: Buffer | Sequence[Buffer]) -> None:
        """Send one binary message, see `Connection.send_binary`."""
        if self._state is not _State.OPEN:
            return
        if isinstance(data, bytes | bytearray | memoryview):
            # To pyright a memoryview may be a sequence of buffers, too.
            self._send(BINARY, flat(data))  # pyright: ignore[reportArgumentType]
            return
        parts = [flat(part) for part in data]
        size = sum(map(len, parts))
        if size < _JOIN_BYTES_MAX or size > self._limits.frame_bytes:
            self._send(BINARY, b"".join(parts))
            return
        self._flush()
        if self._handshake.is_client:
            for part in self._writer.masked_parts(BINARY, parts):
                self._transport.write(part)
        else:
            # Without masking nothing must touch the payload, so the parts stay where they are.
            self._transport.write(self._writer.head(BINARY, size))
            for part in parts:
                self._transport.write(memoryview(part))
        self._check_buffered()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; what was sent before still leaves. Nothing but `on_close` follows."""
        if self._state is not _State.OPEN:
            return
        self._say_close(code, reason, frame=close_payload(code, reason))

    def abort(self) -> None:
        """Drop the connection without a word; `on_close` follows."""
        if self._is_connected:
            self._state = _State.CLOSING
            self._is_deaf = True
            self._transport.abort()

    def _send(self, opcode: int, payload: Buffer) -> None:
        if len(payload) >= _JOIN_BYTES_MAX:
            self._flush()
            for head, piece in self._writer.frames(opcode, payload, self._limits.frame_bytes):
                self._transport.write(head)
                # A view, because the transport slices off what did not fit into the socket.
                self._transport.write(memoryview(piece))
            self._check_buffered()
            return
        head, payload = self._writer.frame(opcode, payload)
        if self._is_corked:
            self._corked += (head, payload)
            self._corked_bytes += len(head) + len(payload)
            if self._corked_bytes >= _JOIN_BYTES_MAX:
                self._flush()
            return
        # The first message of a turn leaves at once, those that follow in it share one system
        # call at its end. uvloop does so for all of them by itself, without a turn for nothing.
        self._transport.write(head + payload)
        if not self._is_gathering:
            self._is_corked = True
            self._loop.call_soon(self._uncork)
        if not self.is_writable:
            self._check_buffered()

    def _uncork(self) -> None:
        self._is_corked = False
        self._flush()

    def _flush(self) -> None:
        if corked := self._corked:
            self._corked, self._corked_bytes = [], 0
            self._transport.write(b"".join(corked))
            if not self.is_writable:
                self._check_buffered()

    def _check_buffered(self) -> None:
        size = self._transport.get_write_buffer_size()
        if size > self._limits.buffered_bytes:
            self._close_reason = f"the peer reads too slowly: {size} bytes wait to be sent"
            self.abort()

    # Receiving: the pause, then what the frame reader calls.

    def pause_reading(self) -> None:
        """Take nothing more from the socket, see `Connection.pause_reading`."""
        if self._is_connected:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after a pause."""
        if self._is_connected:
            self._transport.resume_reading()

    def text_arrived(self, data: bytes) -> None:
        """Hand on one text message."""
        if self._state is _State.OPEN:
            self._listener.on_text(self, data)

    def binary_arrived(self, data: bytes | bytearray) -> None:
        """Hand on one binary message."""
        if self._state is _State.OPEN:
            self._listener.on_binary(self, data)

    def control_arrived(self, opcode: int, data: bytes) -> None:
        """Answer a ping, or a goodbye; any frame at all is a sign of life."""
        if self._is_deaf:
            return
        if opcode == CLOSE:
            self._answer_close(data)
        elif opcode == PING and self._state is _State.OPEN and self.is_writable:
            # A peer that pings but does not read gets no pile of pongs.
            self._send(PONG, data)
        elif opcode == PONG and self._ping_timer is not None:
            self._ping_timer.cancel()
            self._plan_ping()

    # The socket: called by asyncio.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        # asyncio promises a base transport only; stream sockets come with a full one. Not
        # checked, because uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._is_gathering = type(transport).__module__.startswith("uvloop.")
        self._is_connected = True
        limits = self._limits
        self._transport.set_write_buffer_limits(limits.write_high_bytes, limits.write_low_bytes)
        self.peer = peer_name(self._transport)
        if greeting := self._handshake.begin(self.peer):
            self._transport.write(greeting)

    def data_received(self, data: bytes) -> None:
        """Take in what somebody else read from the socket during the handshake."""
        match self._handshake.receive(data):
            case None:
                pass
            case Refused(reply):
                self._state = _State.CLOSING
                self._is_deaf = True
                self._transport.write(reply)
                self._transport.close()
                self._limit_closing(self._limits.close_timeout_s)
            case Opened() as opened:
                self._open(opened)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        """Give asyncio the memory to read into."""
        return self._reader.buffer()

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Take in what asyncio read."""
        self._heard_anything = True
        if self._is_deaf:
            return
        if self._state is _State.OPENING:
            self.data_received(bytes(self._reader.buffer()[:nbytes]))
            return
        # Answers given while reading share one system call, at the end of this call.
        self._is_corked = True
        try:
            self._reader.advance(nbytes)
        except FrameError as error:
            self._fail(error)
        self._uncork()

    @override
    def eof_received(self) -> None:
        """Close: a peer that says no more, and did not say goodbye, is as good as gone."""
        self._is_deaf = True
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
        self._limit_closing(self._limits.close_timeout_s)

    @override
    def pause_writing(self) -> None:
        """Note that the peer is slower than we are."""
        self.is_writable = False

    @override
    def resume_writing(self) -> None:
        """Tell the listener that the peer caught up."""
        self.is_writable = True
        if self._state is _State.OPEN:
            self._listener.on_writable(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody concerned."""
        self._state = _State.CLOSED
        self._is_connected = False
        for timer in (self._close_timer, self._ping_timer):
            if timer is not None:
                timer.cancel()
        if not self._was_opened:
            self._handshake.lost(exc)
        else:
            reason = self._close_reason or (str(exc) if exc else "")
            self._listener.on_close(self, self._close_code, reason)
        if self._on_lost is not None:
            self._on_lost(self)

    # Opening and closing.

    def _open(self, opened: Opened) -> None:
        self._state = _State.OPEN
        self._listener, self.request = opened.listener, opened.request
        self._was_opened = True
        if (limits := opened.limits) is not None:
            self._limits = limits
            text_bytes, binary_bytes = limits.text_bytes, limits.binary_bytes
            self._reader.limit(text_bytes_max=text_bytes, binary_bytes_max=binary_bytes)
            self._transport.set_write_buffer_limits(limits.write_high_bytes, limits.write_low_bytes)
        self._transport.write(opened.reply)
        self._plan_ping()
        self._is_corked = True
        self._listener.on_open(self)
        try:
            self._reader.feed(opened.rest)
        except FrameError as error:
            self._fail(error)
        self._uncork()

    def _answer_close(self, data: bytes) -> None:
        code, reason = parse_close(data)
        self._is_deaf = True
        if self._state is _State.OPEN:
            self._say_close(code, reason, frame=data)
        # The server ends the socket, so that TIME_WAIT does not wear out a client's ports.
        if not self._handshake.is_client:
            self._transport.close()

    def _say_close(self, code: int, reason: str, *, frame: bytes) -> None:
        self._flush()
        self._state = _State.CLOSING
        self._close_code, self._close_reason = code, reason
        head, payload = self._writer.frame(CLOSE, frame)
        self._transport.write(head + payload)
        self._limit_closing(self._limits.close_timeout_s)

    def _fail(self, error: FrameError) -> None:
        if self._is_deaf:
            return
        self._is_deaf = True
        if self._state is _State.OPEN:
            self._say_close(error.code, error.reason, frame=close_payload(error.code, error.reason))
        # Closing the socket while the peer still sends makes the kernel answer with a reset,
        # which can overtake our close frame. So only our direction ends; what comes is read
        # and dropped until the peer is done, too.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._limit_closing(min(_LINGER_S, self._limits.close_timeout_s))

    def _limit_closing(self, timeout_s: float) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._close_timer = self._loop.call_later(timeout_s, self._transport.abort)

    # Signs of life.

    def _plan_ping(self) -> None:
        interval_s = self._limits.ping_interval_s
        if interval_s is not None and self._state is _State.OPEN:
            self._heard_anything = False
            self._ping_timer = self._loop.call_later(interval_s, self._ping_if_silent)

    def _ping_if_silent(self) -> None:
        if self._heard_anything or self._state is not _State.OPEN:
            self._plan_ping()
            return
        self._send(PING, b"")
        self._ping_timer = self._loop.call_later(self._limits.ping_timeout_s, self._drop_if_silent)

    def _drop_if_silent(self) -> None:
        if self._heard_anything or self._state is not _State.OPEN:
            self._plan_ping()
            return
        self._close_reason = f"no answer to a ping within {self._limits.ping_timeout_s:g} s"
        self.abort()
