"""Listeners that remember what they heard."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from lineshaft_runtime.connection import Connection, Listener, UpgradeRequest
from lineshaft_runtime.serving import Rejection, Server

Accept: TypeAlias = Callable[[UpgradeRequest], Listener | Rejection]
Serve: TypeAlias = Callable[..., Awaitable[Server]]


class Recorder:
    """Remembers all it hears; answers each message if it is an echo."""

    def __init__(self, *, is_echo: bool = False) -> None:
        self.is_echo = is_echo
        self.connection: Connection | None = None
        self.texts: list[bytes] = []
        self.binaries: list[bytes] = []
        self.writable_count = 0
        self.closed: list[tuple[int | None, str]] = []
        self.news = asyncio.Event()

    def on_open(self, connection: Connection) -> None:
        assert self.connection is None, "a connection opens once"
        self.connection = connection
        self.news.set()

    def on_text(self, connection: Connection, data: bytes) -> None:
        self.texts.append(data)
        if self.is_echo:
            connection.send_text(data)
        self.news.set()

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        self.binaries.append(bytes(data))
        if self.is_echo:
            connection.send_binary(data)
        self.news.set()

    def on_writable(self, connection: Connection) -> None:
        assert connection.is_writable
        self.writable_count += 1
        self.news.set()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        assert not connection.is_open
        self.closed.append((code, reason))
        self.news.set()

    @property
    def connection_now(self) -> Connection:
        assert self.connection is not None, "not opened yet"
        return self.connection

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
        """Wait until something heard makes the condition true."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def close_heard(self) -> tuple[int | None, str]:
        await self.until(lambda: bool(self.closed))
        return self.closed[0]


class Desk:
    """Accepts everybody, with a recorder each."""

    def __init__(self, *, is_echo: bool = True) -> None:
        self.is_echo = is_echo
        self.requests: list[UpgradeRequest] = []
        self.recorders: list[Recorder] = []

    def accept(self, request: UpgradeRequest) -> Listener | Rejection:
        self.requests.append(request)
        self.recorders.append(Recorder(is_echo=self.is_echo))
        return self.recorders[-1]


def ws(server: Server, path: str = "/") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


async def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait for what no recorder hears of, one turn of the loop after the other."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


def upgrade_request(path: str = "/", *headers: str) -> bytes:
    """Write by hand what a client sends first."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
