"""The client's side: opening a connection to a server."""

import asyncio
import ssl as ssl_module
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from lineshaft_runtime.connection import Connection, Limits, Listener
from lineshaft_runtime.connection_errors import (
    CannotConnectError,
    ConnectTimeoutError,
    problem_of,
)
from lineshaft_runtime.frames import SCRATCH_BYTES
from lineshaft_runtime.opening import ClientHandshake
from lineshaft_runtime.websocket import WebSocketProtocol


async def dial(
    url: str,
    listener: Listener,
    *,
    token: str | None = None,
    ssl: ssl_module.SSLContext | None = None,
    open_timeout_s: float = 10.0,
    limits: Limits | None = None,
) -> Connection:
    """Open a connection; the listener hears `on_open`, and maybe more, before this returns.

    Args:
        url: `ws://` or `wss://`, with host, port, path and query.
        listener: Who hears what arrives.
        token: Sent as a bearer token.
        ssl: For `wss://`; by default the system's certificates are trusted.
        open_timeout_s: Longest time for all of it: name, socket, TLS and handshake.
        limits: What the connection may cost.

    Raises:
        CannotConnectError: Nobody listens there, or nobody who speaks WebSocket.
        ConnectTimeoutError: Not open within `open_timeout_s`.
        RefusedError: The server answered with an HTTP status, such as 401.
    """
    try:
        uri = parse_uri(url)
        shown_url = _without_secrets(url)
    except (InvalidURI, ValueError) as error:
        raise CannotConnectError("the URL", "it is no ws:// or wss:// URL") from error
    handshake = ClientHandshake(uri, shown_url, listener, token)
    protocol = WebSocketProtocol(
        handshake, limits=limits or Limits(), scratch=bytearray(SCRATCH_BYTES)
    )
    try:
        async with asyncio.timeout(open_timeout_s):
            await _connect(uri, shown_url, protocol, ssl)
            problem = await handshake.outcome
    except TimeoutError as error:
        protocol.abort()
        raise ConnectTimeoutError(shown_url, open_timeout_s) from error
    except asyncio.CancelledError:
        protocol.abort()
        raise
    if problem is not None:
        raise problem
    return protocol


async def _connect(
    uri: WebSocketURI,
    shown_url: str,
    protocol: WebSocketProtocol,
    ssl: ssl_module.SSLContext | None,
) -> None:
    loop = asyncio.get_running_loop()
    context = (ssl or ssl_module.create_default_context()) if uri.secure else None
    try:
        await loop.create_connection(lambda: protocol, uri.host, uri.port, ssl=context)
    except OSError as error:
        # Also the kernel's own limit of time, not ours: asyncio.timeout cancels instead.
        raise problem_of(error, shown_url) from error


def _without_secrets(url: str) -> str:
    """Cut off what may hold a token, for messages."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
