"""The server's side: one port for HTTP and WebSocket.

Plain HTTP is uvicorn's business, with an ASGI application of the caller. An upgrade request
is handed on to our own protocol by way of uvicorn's hook for WebSocket implementations.
"""

import asyncio
import errno
import logging
import math
import ssl as ssl_module
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import h11
import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lineshaft_runtime.connection import Admitted, Limits, Listener, UpgradeRequest
from lineshaft_runtime.connection_errors import AddressInUseError
from lineshaft_runtime.frames import SCRATCH_BYTES
from lineshaft_runtime.opening import Rejection, ServerHandshake
from lineshaft_runtime.peer_names import peer_name
from lineshaft_runtime.websocket import WebSocketProtocol

__all__ = ["Address", "Rejection", "Server", "ServerLimits", "let_in"]

logger = logging.getLogger(__name__)

AsgiApp = Callable[..., Awaitable[None]]
Accept = Callable[[UpgradeRequest], Listener | Admitted | Rejection]

_LET_IN = "lineshaft_let_in"
_HEAD_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What strangers and friends may cost a server."""

    connections: int = 4096
    """Most sockets at a time, of any kind; more are answered with 503."""
    unaccepted_per_host: int = 256
    """Most sockets of one host of which nothing was accepted yet: no WebSocket, no request."""
    handshake_timeout_s: float = 10.0
    """Longest time for TLS, and again for the head of each HTTP request."""
    keep_alive_timeout_s: float = 30.0
    """Longest silence between two HTTP requests on one socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes any free one; `Server.port` tells which."""
    unix_path: Path | None = None
    """Listen on this Unix socket instead of host and port."""
    ssl: ssl_module.SSLContext | None = None
    """Speak TLS with this certificate."""

    @override
    def __str__(self) -> str:
        """Name it for messages."""
        return str(self.unix_path) if self.unix_path else f"{self.host}:{self.port}"


class Server:
    """Listens on one port, answers HTTP by an ASGI application, and opens WebSockets.

    Args:
        app: Answers plain HTTP. Its lifespan is not run: whoever starts the server owns that.
        accept: Decides about each WebSocket before the upgrade is answered.
        address: Where to listen.
        limits: What all connections together may cost.
        connection_limits: What one WebSocket may cost.
    """

    def __init__(
        self,
        app: AsgiApp,
        accept: Accept,
        *,
        address: Address,
        limits: ServerLimits | None = None,
        connection_limits: Limits | None = None,
    ) -> None:
        self._accept = accept
        self._address = address
        self._limits = limits or ServerLimits()
        self._connection_limits = connection_limits or Limits()
        self._config = uvicorn.Config(
            app,
            http=H11Protocol,
            # Each door sets its own; but without any, uvicorn does not upgrade.
            ws=asyncio.Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=math.ceil(self._limits.keep_alive_timeout_s),
            h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
        )
        self._state = ServerState()
        self._scratch = bytearray(SCRATCH_BYTES)
        self._census = _Census(self._limits)
        self._listening: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 with a Unix socket."""
        assert self._listening is not None, "start the server before asking for its port"
        name: object = self._listening.sockets[0].getsockname()
        return cast("tuple[str, int]", name)[1] if isinstance(name, tuple) else 0

    @property
    def connection_count(self) -> int:
        """Sockets open now, of any kind."""
        return self._census.count

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            AddressInUseError: Another process listens there.
            OSError: The address is not ours, or we may not use it.
        """
        self._config.load()
        loop = asyncio.get_running_loop()
        address = self._address
        tls_timeout_s = self._limits.handshake_timeout_s if address.ssl else None
        try:
            if address.unix_path is not None:
                self._listening = await loop.create_unix_server(
                    self._make_door,
                    address.unix_path,
                    ssl=address.ssl,
                    ssl_handshake_timeout=tls_timeout_s,
                )
            else:
                self._listening = await loop.create_server(
                    self._make_door,
                    address.host,
                    address.port,
                    ssl=address.ssl,
                    ssl_handshake_timeout=tls_timeout_s,
                    backlog=1024,
                )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(str(address)) from error
            raise

    async def close(self, reason: str = "the server stops", *, grace_s: float = 5.0) -> None:
        """Stop listening, say 1001 to all WebSockets, and wait until all sockets are gone.

        Args:
            reason: Told to the peers.
            grace_s: Longest wait; what is open then is dropped.
        """
        if self._listening is None:
            return
        self._listening.close()
        census = self._census
        for websocket in tuple(census.websockets):
            websocket.close(1001, reason)
        for door in tuple(census.doors):
            door.shut()
        try:
            async with asyncio.timeout(grace_s):
                await census.until_empty()
        except TimeoutError:
            logger.warning("dropping connections", extra={"connections": census.count})
        for task in tuple(self._state.tasks):
            task.cancel()
        for websocket in tuple(census.websockets):
            websocket.abort()
        for door in tuple(census.doors):
            door.drop()
        await census.until_empty()
        if self._address.unix_path is not None:
            self._address.unix_path.unlink(missing_ok=True)

    def _make_door(self) -> "_Door":
        return _Door(self._config, self._state, self._census, self._make_websocket)

    def _make_websocket(self) -> WebSocketProtocol:
        websocket = WebSocketProtocol(
            ServerHandshake(self._accept),
            limits=self._connection_limits,
            scratch=self._scratch,
            on_lost=self._census.websocket_left,
        )
        self._census.websockets.add(websocket)
        return websocket


def let_in(scope: Mapping[str, Any]) -> None:
    """Say that whoever sent this HTTP request may come in: its socket is no stranger's any more.

    Args:
        scope: The request's, as ASGI has it; one that no `Server` made is left alone.
    """
    if (tell := scope.get("state", {}).get(_LET_IN)) is not None:
        tell()


class _Census:
    """Knows every socket of a server, and whom to turn away."""

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self.doors: set[_Door] = set()
        self.websockets: set[WebSocketProtocol] = set()
        self._strangers: dict[_Door, str] = {}
        self._strangers_by_host: Counter[str] = Counter()
        self._emptied: asyncio.Future[None] | None = None

    @property
    def count(self) -> int:
        return len(self.doors) + len(self.websockets)

    def admit(self, door: "_Door", host: str) -> bool:
        if self.count >= self.limits.connections:
            return False
        if self._strangers_by_host[host] >= self.limits.unaccepted_per_host:
            return False
        self.doors.add(door)
        self._strangers[door] = host
        self._strangers_by_host[host] += 1
        return True

    def let_in(self, door: "_Door") -> None:
        """Count a socket no longer among the strangers of its host, whatever it asks for next."""
        host = self._strangers.pop(door, None)
        if host is None:
            return
        self._strangers_by_host[host] -= 1
        if not self._strangers_by_host[host]:
            del self._strangers_by_host[host]

    def door_left(self, door: "_Door") -> None:
        self.let_in(door)
        if door in self.doors:
            self.doors.remove(door)
            self._tell_if_empty()

    def websocket_left(self, websocket: WebSocketProtocol) -> None:
        self.websockets.discard(websocket)
        self._tell_if_empty()

    async def until_empty(self) -> None:
        if self.count:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def _tell_if_empty(self) -> None:
        if not self.count and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)


class _Door(asyncio.Protocol):
    """The first protocol of each socket: guards uvicorn's, until a WebSocket takes over.

    uvicorn limits the silence between requests, but neither how long the head of one may
    take nor how many sockets one host may open.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        census: _Census,
        make_websocket: Callable[[], WebSocketProtocol],
    ) -> None:
        self._census = census
        self._make_websocket = make_websocket
        self._websocket: WebSocketProtocol | None = None
        # What each request of this socket finds as its "state"; see `let_in`.
        app_state = {_LET_IN: partial(census.let_in, self)}
        self._http = H11Protocol(config=config, server_state=state, app_state=app_state)
        # uvicorn calls it as it would call a class, then connection_made, data_received with
        # the request, and makes the result the protocol of the socket.
        self._http.ws_protocol_class = cast("type[asyncio.Protocol]", self._upgrade)
        self._transport: asyncio.Transport
        self._host = ""
        self._is_admitted = False
        self._head_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # See WebSocketProtocol.connection_made.
        self._transport = cast("asyncio.Transport", transport)
        self._host = peer_name(transport).rpartition(":")[0]
        self._is_admitted = self._census.admit(self, self._host)
        if not self._is_admitted:
            logger.warning("turned a connection away", extra={"host": self._host})
            self._refuse("503 Service Unavailable")
            return
        self._http.connection_made(self._transport)
        self._limit_head()

    @override
    def data_received(self, data: bytes) -> None:
        if not self._is_admitted:
            return
        self._http.data_received(data)
        if self._websocket is None:
            self._limit_head()

    @override
    def eof_received(self) -> None:
        if self._is_admitted:
            self._http.eof_received()

    @override
    def pause_writing(self) -> None:
        if self._is_admitted:
            self._http.pause_writing()

    @override
    def resume_writing(self) -> None:
        if self._is_admitted:
            self._http.resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._websocket is not None:
            # It failed before it became the protocol of the socket.
            self._websocket.connection_lost(exc)
        elif self._is_admitted:
            self._http.connection_lost(exc)

    def shut(self) -> None:
        """Close after the answer under way, if any."""
        self._http.shutdown()

    def drop(self) -> None:
        """Close now."""
        self._transport.abort()

    def _upgrade(self, **_: object) -> WebSocketProtocol:
        self._websocket = self._make_websocket()
        self._leave()
        return self._websocket

    def _leave(self) -> None:
        self._stop_head_timer()
        self._census.door_left(self)

    def _limit_head(self) -> None:
        if self._http.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None and not self._transport.is_closing():
            self._head_timer = asyncio.get_running_loop().call_later(
                self._census.limits.handshake_timeout_s, self._refuse, "408 Request Timeout"
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: str) -> None:
        answer = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        self._transport.write(answer.encode())
        self._transport.close()
