"""Peers that write bytes by hand, and not always the right ones."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator

import pytest
from tests.integration.runtime.recording import Desk, Recorder, Serve, upgrade_request
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from lineshaft_runtime.connection import Limits
from lineshaft_runtime.dialing import dial
from lineshaft_runtime.serving import Server


class RawClient:
    """A socket behind a finished handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> None:
        self.writer.write(Frame(opcode, data, fin).serialize(mask=True))

    async def frame(self) -> tuple[int, bytes]:
        first, length = await self.reader.readexactly(2)
        assert length < 126, "the tests read short answers only"
        return first & 0x0F, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        opcode, data = await asyncio.wait_for(self.frame(), 5)
        assert opcode == Opcode.CLOSE
        return int(struct.unpack("!H", data[:2])[0])


async def connect(server: Server) -> RawClient:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upgrade_request())
    await reader.readuntil(b"\r\n\r\n")
    return RawClient(reader, writer)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def client(desk: Desk, serve: Serve) -> AsyncIterator[RawClient]:
    limits = Limits(text_bytes=1000, binary_bytes=1000, close_timeout_s=0.2)
    client = await connect(await serve(desk.accept, connection_limits=limits))
    yield client
    client.writer.close()


async def test_a_message_in_fragments_is_one_message(desk: Desk, client: RawClient) -> None:
    client.send(Opcode.TEXT, b"gr\xc3", fin=False)
    client.send(Opcode.PING, b"between")
    client.send(Opcode.CONT, b"", fin=False)
    client.send(Opcode.CONT, b"\xbcn")

    assert await client.frame() == (Opcode.PONG, b"between")
    assert await client.frame() == (Opcode.TEXT, "grün".encode())
    assert desk.recorders[0].texts == ["grün".encode()]


async def test_a_frame_that_dribbles_in_is_one_message(desk: Desk, client: RawClient) -> None:
    for byte in Frame(Opcode.TEXT, b"slow but sure").serialize(mask=True):
        client.writer.write(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)

    assert await client.frame() == (Opcode.TEXT, b"slow but sure")


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
        (b"\xff" * 64, 1002),
        (b"\x81\x01a", 1002),
        (Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True), 1007),
        (Frame(Opcode.TEXT, b"a" * 1001).serialize(mask=True), 1009),
        (b"\x82\xff" + b"\x7f" * 8, 1009),
        (Frame(Opcode.CLOSE, b"\x03").serialize(mask=True), 1002),
    ],
    ids=["http", "all ones", "no mask", "no text", "too long", "far too long", "half a code"],
)
async def test_a_wrong_stream_is_answered_with_a_code_and_the_end(
    desk: Desk, client: RawClient, stream: bytes, code: int
) -> None:
    client.writer.write(stream)

    assert await client.close_code() == code
    assert await client.reader.read() == b""
    client.writer.close()
    assert (await desk.recorders[0].close_heard())[0] == code
    assert desk.recorders[0].texts == desk.recorders[0].binaries == []


@pytest.mark.parametrize("seed", range(20))
async def test_garbage_ends_only_its_own_connection(desk: Desk, serve: Serve, seed: int) -> None:
    server = await serve(desk.accept, connection_limits=Limits(close_timeout_s=0.2))
    healthy = await connect(server)
    strange = await connect(server)

    strange.writer.write(random.Random(seed).randbytes(2000))
    strange.writer.write_eof()

    await desk.recorders[1].close_heard()
    healthy.send(Opcode.TEXT, b"still here")
    assert await healthy.frame() == (Opcode.TEXT, b"still here")
    healthy.writer.close()
    strange.writer.close()


async def test_a_peer_that_says_no_more_is_gone(desk: Desk, client: RawClient) -> None:
    client.writer.write_eof()

    assert await desk.recorders[0].close_heard() == (None, "")
    assert await client.reader.read() == b""


async def test_a_peer_that_says_no_more_and_reads_nothing_is_gone_too(serve: Serve) -> None:
    desk = Desk(is_echo=False)
    server = await serve(desk.accept, connection_limits=Limits(close_timeout_s=0.1))
    client = await connect(server)
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    sender = desk.recorders[0].connection_now
    while sender.buffered_bytes < 1_000_000:
        sender.send_binary(b"x" * 100_000)

    client.writer.write_eof()

    assert (await desk.recorders[0].close_heard())[0] is None
    client.writer.close()


async def test_an_empty_close_frame_is_echoed_and_known_as_1005(
    desk: Desk, client: RawClient
) -> None:
    client.send(Opcode.CLOSE, b"")

    assert await client.frame() == (Opcode.CLOSE, b"")
    assert await client.reader.read() == b""
    assert await desk.recorders[0].close_heard() == (1005, "")


async def test_what_follows_a_close_frame_is_not_read(desk: Desk, client: RawClient) -> None:
    client.writer.write(
        Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
        + Frame(Opcode.TEXT, b"late").serialize(mask=True)
        + b"\xff" * 10
    )

    assert await client.close_code() == 1000
    assert await desk.recorders[0].close_heard() == (1000, "")
    assert desk.recorders[0].texts == []


async def test_a_peer_that_never_answers_a_close_is_dropped(desk: Desk, client: RawClient) -> None:
    desk.recorders[0].connection_now.close(4000, "go")

    assert await desk.recorders[0].close_heard() == (4000, "go")


async def test_a_peer_that_pings_and_reads_nothing_gets_no_pile_of_pongs(serve: Serve) -> None:
    desk = Desk()
    limits = Limits(write_high_bytes=64 * 1024, write_low_bytes=1024)
    client = await connect(await serve(desk.accept, connection_limits=limits))
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    pings = Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 1000

    for _ in range(200):
        client.writer.write(pings)
        await asyncio.wait_for(client.writer.drain(), 5)

    # All was read, and what is kept for the peer stays about the high mark.
    client.send(Opcode.TEXT, b"last")
    await desk.recorders[0].until(lambda: bool(desk.recorders[0].texts))
    assert desk.recorders[0].connection_now.buffered_bytes < 500_000
    client.writer.transport.abort()
    await desk.recorders[0].close_heard()


@pytest.mark.parametrize("piece", [1, 10_000])
async def test_frames_right_behind_the_answer_of_a_server_are_heard(piece: int) -> None:
    frames = Frame(Opcode.TEXT, b"at once").serialize(mask=False) * 2
    client = Recorder()

    async with hand_made_server(frames, piece=piece) as url:
        await dial(url, client)
        await client.until(lambda: len(client.texts) == 2)
        client.connection_now.abort()


async def test_a_server_that_masks_its_frames_is_left_with_1002() -> None:
    client = Recorder()

    async with hand_made_server(Frame(Opcode.TEXT, b"a").serialize(mask=True), piece=99) as url:
        await dial(url, client)

        assert await client.close_heard() == (1002, "incorrect masking")


@contextlib.asynccontextmanager
async def hand_made_server(frames: bytes, *, piece: int) -> AsyncIterator[str]:
    """Answer an upgrade, with frames in the same breath, cut into pieces."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        stream = protocol.accept(request).serialize() + frames
        for start in range(0, len(stream), piece):
            writer.write(stream[start : start + piece])
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    await asyncio.wait_for(ended.wait(), 5)
    server.close()
