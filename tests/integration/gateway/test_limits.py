"""A seed connection has limits of its own: no pings, long messages, short frames."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from tests.integration.gateway.seed_bench import RawPeer, raw_peer, seed_peer, until

from lineshaft_coordinator.gateway.conversation import LIMITS
from lineshaft_runtime.connection import Admitted, Connection, Limits, Listener, UpgradeRequest
from lineshaft_runtime.frames import BINARY, CONTINUATION, PING, TEXT
from lineshaft_runtime.serving import Address, Server

PINGING = Limits(ping_interval_s=0.02, text_bytes=1000, binary_bytes=1000)


@dataclass
class Recorder:
    """Hears one connection, and keeps what it hears."""

    connection: Connection | None = None
    texts: list[bytes] = field(default_factory=list)

    def on_open(self, connection: Connection) -> None:
        self.connection = connection

    def on_text(self, connection: Connection, data: bytes) -> None:
        self.texts.append(data)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        raise AssertionError("nothing binary is sent here")

    def on_writable(self, connection: Connection) -> None:
        pass

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        self.connection = None


@dataclass
class Place:
    server: Server
    listeners: dict[str, Recorder]


async def no_http(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody asks over HTTP")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    listeners = {"/ours": Recorder(), "/ws": Recorder()}

    def accept(request: UpgradeRequest) -> Listener | Admitted:
        listener = listeners[request.path]
        return Admitted(listener, LIMITS) if request.path == "/ws" else listener

    server = Server(no_http, accept, address=Address(), connection_limits=PINGING)
    await server.start()
    yield Place(server, listeners)
    await server.close()


async def until_pinged(peer: RawPeer, count: int) -> None:
    for _ in range(count):
        frame = await peer.frame()
        assert frame.opcode == PING
        peer.send_pong()


async def test_only_connections_of_ours_are_pinged(place: Place) -> None:
    port = place.server.port
    async with raw_peer(port, "/ws") as seed, raw_peer(port, "/ours") as ours:
        await until_pinged(ours, 5)

        connection = await until(lambda: place.listeners["/ws"].connection)
        connection.send_text("the first word")
        first = await seed.frame()

    assert (first.opcode, first.payload) == (TEXT, b"the first word")


async def test_only_seed_clients_may_send_long_messages(place: Place) -> None:
    text = "x" * 2_000_000
    url = f"ws://127.0.0.1:{place.server.port}"
    async with seed_peer(f"{url}/ws") as seed, seed_peer(f"{url}/ours") as ours:
        await seed.send(text)
        await ours.send(text)
        await until(lambda: place.listeners["/ws"].texts)
        await ours.socket.wait_closed()

        assert ours.socket.close_code == 1009
    assert place.listeners["/ws"].texts == [text.encode()]


@pytest.mark.parametrize(
    ("size", "frames"), [(LIMITS.frame_bytes, 1), (LIMITS.frame_bytes + 1, 2), (20_000_000, 3)]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_long_messages_to_seed_clients_are_cut_into_frames(
    place: Place, size: int, frames: int, opcode: int
) -> None:
    data = bytes(65 + i % 26 for i in range(26)) * (size // 26 + 1)
    data = data[:size]
    async with raw_peer(place.server.port, "/ws") as seed:
        connection = await until(lambda: place.listeners["/ws"].connection)
        (connection.send_text if opcode == TEXT else connection.send_binary)(data)
        seen = [await seed.frame() for _ in range(frames)]

    assert [each.opcode for each in seen] == [opcode, *[CONTINUATION] * (frames - 1)]
    assert [each.is_final for each in seen] == [*[False] * (frames - 1), True]
    assert b"".join(each.payload for each in seen) == data


async def test_a_peer_waits_while_reading_is_paused(place: Place) -> None:
    async with seed_peer(f"ws://127.0.0.1:{place.server.port}/ws") as seed:
        recorder = place.listeners["/ws"]
        connection = await until(lambda: recorder.connection)
        connection.pause_reading()
        connection.pause_reading()
        sending = asyncio.create_task(seed.send("x" * 40_000_000))
        # Its own pong shows that our end still writes; nothing shows better that nothing is read.
        connection.send_text("still here")
        async with asyncio.timeout(10):
            assert await seed.socket.recv() == "still here"

        assert (recorder.texts, sending.done()) == ([], False)
        connection.resume_reading()
        await sending
        await until(lambda: recorder.texts)
