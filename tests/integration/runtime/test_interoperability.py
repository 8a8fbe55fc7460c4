"""The stock `websockets` library as an independent peer, on either end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.integration.runtime.recording import Desk, Recorder, Serve, ws
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_stock
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from lineshaft_runtime.connection import Limits
from lineshaft_runtime.dialing import dial
from lineshaft_runtime.serving import Rejection

PAYLOADS: list[str | bytes] = [
    "",
    "grüße",
    "x" * 100_000,
    b"",
    b"\x00" * 125,
    b"\x01" * 126,
    b"\x02" * 65_536,
    b"\x03" * 2_500_000,
]


# Their client, our server. It offers compression, which we decline.


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def stock_client(desk: Desk, serve: Serve) -> AsyncIterator[ClientConnection]:
    server = await serve(desk.accept, connection_limits=Limits(binary_bytes=3_000_000))
    async with connect(ws(server), max_size=None, proxy=None) as connection:
        yield connection


@pytest.mark.parametrize(
    "payload", PAYLOADS, ids=lambda payload: f"{type(payload).__name__}{len(payload)}"
)
async def test_a_stock_client_gets_back_what_it_sent(
    stock_client: ClientConnection, payload: str | bytes
) -> None:
    await stock_client.send(payload)

    assert await stock_client.recv() == payload


async def test_fragments_of_a_stock_client_are_put_together(
    stock_client: ClientConnection,
) -> None:
    await stock_client.send([b"a", b"b" * 70_000, b"c"])

    assert await stock_client.recv() == b"a" + b"b" * 70_000 + b"c"


async def test_a_ping_of_a_stock_client_is_answered(stock_client: ClientConnection) -> None:
    pong = await stock_client.ping(b"are you there")

    assert await asyncio.wait_for(pong, 5) >= 0


async def test_a_stock_client_closes_with_its_code(
    desk: Desk, stock_client: ClientConnection
) -> None:
    await stock_client.close(4002, "bye")

    assert await desk.recorders[0].close_heard() == (4002, "bye")
    assert stock_client.close_code == 4002


async def test_a_stock_client_hears_our_code(desk: Desk, stock_client: ClientConnection) -> None:
    await stock_client.send("hello")
    await stock_client.recv()

    desk.recorders[0].connection_now.close(4003, "grüße")

    with pytest.raises(ConnectionClosedError) as caught:
        await stock_client.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4003, "grüße")
    assert await desk.recorders[0].close_heard() == (4003, "grüße")


async def test_a_stock_client_hears_1009_of_a_message_too_long(
    stock_client: ClientConnection,
) -> None:
    await stock_client.send(b"x" * 3_000_001)

    with pytest.raises(ConnectionClosedError) as caught:
        await stock_client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


async def test_a_rejected_stock_client_sees_status_and_text(serve: Serve) -> None:
    server = await serve(lambda _: Rejection(401, "who are you?"))

    with pytest.raises(InvalidStatus) as caught:
        async with connect(ws(server), proxy=None):
            pass
    assert caught.value.response.status_code == 401
    assert caught.value.response.body == b"who are you?"


# Our client, their server.


@pytest.fixture
async def stock_server() -> AsyncIterator[str]:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "close":
                await connection.close(4004, "as you wish")
            elif message == "fragments":
                await connection.send(["one ", "two ", "three"])
            elif message == "ping":
                await (await connection.ping(b"x"))
                await connection.send("pong came")
            else:
                await connection.send(message)

    async with serve_stock(echo, "127.0.0.1", 0, max_size=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


@pytest.mark.parametrize(
    "payload", PAYLOADS, ids=lambda payload: f"{type(payload).__name__}{len(payload)}"
)
async def test_a_stock_server_gives_back_what_we_sent(
    stock_server: str, payload: str | bytes
) -> None:
    client = Recorder()
    connection = await dial(stock_server, client)

    if isinstance(payload, str):
        connection.send_text(payload)
    else:
        connection.send_binary([payload[:100], payload[100:]])
    await client.until(lambda: bool(client.texts or client.binaries))

    assert [*client.texts, *client.binaries] == [
        payload.encode() if isinstance(payload, str) else payload
    ]
    connection.close()
    await client.close_heard()


@pytest.mark.parametrize(
    ("asked", "answer"), [("fragments", b"one two three"), ("ping", b"pong came")]
)
async def test_we_understand_a_stock_server(stock_server: str, asked: str, answer: bytes) -> None:
    client = Recorder()
    connection = await dial(stock_server, client)

    connection.send_text(asked)
    await client.until(lambda: bool(client.texts))

    assert client.texts == [answer]
    connection.close()
    assert await client.close_heard() == (1000, "")


async def test_we_hear_the_code_of_a_stock_server(stock_server: str) -> None:
    client = Recorder()
    connection = await dial(stock_server, client)

    connection.send_text("close")

    assert await client.close_heard() == (4004, "as you wish")
