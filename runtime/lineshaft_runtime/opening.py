"""The opening handshake of both sides, by the `websockets` library without its input and output."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.values import value
from lineshaft_runtime.connection import Admitted, Listener, Opened, Refused, UpgradeRequest
from lineshaft_runtime.connection_errors import CannotConnectError, RefusedError

_HEAD_BYTES_MAX = 64 * 1024
_TEXT_MAX = 1000
_HEAD_END = b"\r\n\r\n"


@value()
class Rejection:
    """Why an upgrade is refused, as an HTTP answer."""

    status: int
    text: str


class ServerHandshake:
    """Answers one upgrade request.

    Args:
        accept: Decides, before anything is answered, who shall listen, or why not.
    """

    is_client = False

    def __init__(self, accept: Callable[[UpgradeRequest], Listener | Admitted | Rejection]) -> None:
        self._accept = accept
        self._protocol = ServerProtocol()
        self._peer = ""

    def begin(self, peer: str) -> bytes:
        """Say nothing: the client speaks first."""
        self._peer = peer
        return b""

    def receive(self, data: bytes) -> Opened | Refused | None:
        """Answer the request once it is whole."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            # The only event before the handshake is sent.
            assert isinstance(event, Request), "a server's first event is the request"
            return self._answer(event)
        if self._protocol.handshake_exc is not None:
            return Refused(self._protocol.reject(400, "malformed upgrade request\n").serialize())
        return None

    def lost(self, error: Exception | None) -> None:
        """Forget it: nobody was told of this connection."""

    def _answer(self, event: Request) -> Opened | Refused:
        # First whether it is a WebSocket request at all, then whether it may.
        response = self._protocol.accept(event)
        if response.status_code != 101:
            return Refused(response.serialize())
        request = _request(event.path, event.headers, self._peer)
        verdict = self._accept(request)
        if isinstance(verdict, Rejection):
            return Refused(self._protocol.reject(verdict.status, verdict.text).serialize())
        if isinstance(verdict, Admitted):
            reply = response.serialize()
            return Opened(verdict.listener, request, reply, limits=verdict.limits)
        return Opened(verdict, request, response.serialize())


class ClientHandshake:
    """Asks a server for an upgrade.

    Args:
        uri: Whom to ask for what.
        url: The same for messages, without what must stay secret.
        listener: Who listens once the connection is open.
        token: Sent as a bearer token; `None`: none.
    """

    is_client = True

    def __init__(self, uri: WebSocketURI, url: str, listener: Listener, token: str | None) -> None:
        loop = asyncio.get_running_loop()
        self._uri = uri
        self._url = url
        self._listener = listener
        self._token = token
        self._protocol = ClientProtocol(uri)
        self._peer = ""
        self._head = bytearray()
        self._is_head_done = False
        self.outcome: asyncio.Future[LineshaftError | None] = loop.create_future()
        """`None` once the connection is open, else why it is not."""

    def begin(self, peer: str) -> bytes:
        """Give the request."""
        self._peer = peer
        request = self._protocol.connect()
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        self._protocol.send_request(request)
        return b"".join(self._protocol.data_to_send())

    def receive(self, data: bytes) -> Opened | Refused | None:
        """Take in the server's answer."""
        if not self._is_head_done:
            self._head += data
            end = self._head.find(_HEAD_END)
            if end < 0:
                is_endless = len(self._head) > _HEAD_BYTES_MAX
                return self._give_up("its answer has no end") if is_endless else None
            end += len(_HEAD_END)
            # Only the head is for the library; what follows an upgrade are frames for us.
            head, data = bytes(self._head[:end]), bytes(self._head[end:])
            self._is_head_done = True
            self._protocol.receive_data(head)
            if self._protocol.state is State.OPEN:
                self._settle(None)
                path = unquote(self._uri.path) or "/"
                return Opened(self._listener, UpgradeRequest(path=path, peer=self._peer), rest=data)
        if data and not self._has_failed():
            self._protocol.receive_data(data)
        return self._give_up("") if self._has_failed() else None

    def lost(self, error: Exception | None) -> None:
        """Say why the connection never opened."""
        if not self._has_failed() and self._is_head_done:
            # The end of the stream may also be the end of the body of a refusal.
            self._protocol.receive_eof()
        self._give_up(str(error) if error else "it closed the connection before it was open")

    def _has_failed(self) -> bool:
        return self._protocol.handshake_exc is not None

    def _give_up(self, cause: str) -> Refused:
        error: LineshaftError | None = None
        for event in self._protocol.events_received():
            if isinstance(event, Response) and event.status_code != 101:
                text = bytes(event.body).decode(errors="replace")[:_TEXT_MAX]
                error = RefusedError(self._url, event.status_code, text)
        if error is None:
            problem = self._protocol.handshake_exc
            error = CannotConnectError(
                self._url, cause or f"this is no WebSocket server ({problem})"
            )
        self._settle(error)
        return Refused()

    def _settle(self, error: LineshaftError | None) -> None:
        # Done already, if whoever dialled gave up waiting.
        if not self.outcome.done():
            self.outcome.set_result(error)


def _request(target: str, headers: Headers, peer: str) -> UpgradeRequest:
    path, _, query = target.partition("?")
    joined: dict[str, str] = {}
    for raw_name, text in headers.raw_items():
        name = raw_name.lower()
        joined[name] = f"{joined[name]}, {text}" if name in joined else text
    return UpgradeRequest(
        path=unquote(path),
        peer=peer,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=joined,
    )
