import asyncio
import socket

import pytest
from tests.integration.runtime.recording import (
    Desk,
    Recorder,
    Serve,
    until,
    upgrade_request,
    ws,
)
from websockets.frames import Frame, Opcode

from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.dialing import dial

MIB = 1024 * 1024


async def test_text_and_binary_come_back_as_they_were_sent(serve: Serve) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)
    connection = await dial(ws(server), client)

    connection.send_text("grüße")
    connection.send_text(b"bytes")
    connection.send_binary(b"\x00\xff")
    connection.send_binary([b"a", bytearray(b"b"), memoryview(b"c")])
    await client.until(lambda: len(client.texts) == 2 and len(client.binaries) == 2)

    assert client.texts == ["grüße".encode(), b"bytes"]
    assert client.binaries == [b"\x00\xff", b"abc"]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 3 * MIB + 1])
async def test_binary_of_any_size_makes_the_round_trip(serve: Serve, size: int) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)
    connection = await dial(ws(server), client)
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    connection.send_binary(payload)
    connection.send_text("end")
    await client.until(lambda: bool(client.texts))

    assert client.binaries == [payload]


async def test_a_large_message_in_parts_is_one_message(serve: Serve) -> None:
    desk, client = Desk(is_echo=False), Recorder()
    server = await serve(desk.accept)
    await dial(ws(server), client)
    parts: list[bytes | bytearray | memoryview] = [
        b"head",
        memoryview(b"x" * MIB),
        b"",
        bytearray(b"y" * 100_000),
    ]

    desk.recorders[0].connection_now.send_binary(parts)
    await client.until(lambda: bool(client.binaries))

    assert client.binaries == [b"".join(parts)]


async def test_messages_keep_their_order_whatever_their_size(serve: Serve) -> None:
    desk, client = Desk(is_echo=False), Recorder()
    server = await serve(desk.accept)
    await dial(ws(server), client)
    sender = desk.recorders[0].connection_now
    payloads = [b"%d " % number + b"x" * (number % 7) ** 7 for number in range(100)]

    for payload in payloads:
        sender.send_binary(payload)
        sender.send_binary(b"between")
        sender.send_binary([b"parts ", payload])
    await client.until(lambda: len(client.binaries) == 300)

    assert client.binaries[::3] == payloads
    assert client.binaries[1::3] == [b"between"] * 100
    assert client.binaries[2::3] == [b"parts " + payload for payload in payloads]


async def test_messages_of_one_turn_all_arrive_in_order(serve: Serve) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)
    connection = await dial(ws(server), client)

    for number in range(5000):
        connection.send_text(str(number))
    await client.until(lambda: len(client.texts) == 5000)

    assert client.texts == [str(number).encode() for number in range(5000)]


async def test_what_is_sent_on_opening_arrives_first(serve: Serve) -> None:
    class Greeter(Recorder):
        def on_open(self, connection: Connection) -> None:
            super().on_open(connection)
            connection.send_text("welcome")

    client = Recorder()
    server = await serve(lambda _: Greeter(is_echo=True))
    connection = await dial(ws(server), client)

    connection.send_text("hello")
    await client.until(lambda: len(client.texts) == 2)

    assert client.texts == [b"welcome", b"hello"]


@pytest.mark.parametrize("is_server_closing", [True, False])
async def test_both_sides_hear_the_code_and_reason_of_a_close(
    serve: Serve, is_server_closing: bool
) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)
    await dial(ws(server), client)
    closing = desk.recorders[0] if is_server_closing else client

    closing.connection_now.close(4001, "enough")

    assert await client.close_heard() == (4001, "enough")
    assert await desk.recorders[0].close_heard() == (4001, "enough")


async def test_what_was_sent_before_a_close_arrives_and_nothing_after(serve: Serve) -> None:
    desk, client = Desk(is_echo=False), Recorder()
    server = await serve(desk.accept)
    connection = await dial(ws(server), client)

    connection.send_text("first")
    connection.send_binary(b"x" * MIB)
    connection.send_text("last")
    connection.close()
    connection.send_text("late")
    connection.close(4000, "again")

    assert await desk.recorders[0].close_heard() == (1000, "")
    assert desk.recorders[0].texts == [b"first", b"last"]
    assert len(desk.recorders[0].binaries[0]) == MIB
    assert await client.close_heard() == (1000, "")


async def test_nothing_is_delivered_after_our_own_close(serve: Serve) -> None:
    class Leaver(Recorder):
        def on_text(self, connection: Connection, data: bytes) -> None:
            super().on_text(connection, data)
            connection.close(1000, "one is enough")

    desk, client = Desk(is_echo=False), Leaver()
    server = await serve(desk.accept)
    await dial(ws(server), client)

    for _ in range(3):
        desk.recorders[0].connection_now.send_text("news")

    assert await client.close_heard() == (1000, "one is enough")
    assert client.texts == [b"news"]


async def test_an_abort_is_a_loss_without_code_for_the_other_side(serve: Serve) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)
    connection = await dial(ws(server), client)

    connection.abort()

    assert (await client.close_heard())[0] is None
    assert (await desk.recorders[0].close_heard())[0] is None
    connection.send_text("nobody hears")
    connection.abort()


@pytest.mark.parametrize(("is_text", "size"), [(True, 1001), (False, 5001), (False, 200_000)])
async def test_a_message_over_the_limit_closes_with_1009(
    serve: Serve, is_text: bool, size: int
) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept, connection_limits=Limits(text_bytes=1000, binary_bytes=5000))
    connection = await dial(ws(server), client)

    if is_text:
        connection.send_text("x" * size)
    else:
        connection.send_binary(b"x" * size)

    code, reason = await client.close_heard()
    assert code == 1009
    assert "the limit is" in reason
    assert (await desk.recorders[0].close_heard())[0] == 1009
    assert desk.recorders[0].texts == desk.recorders[0].binaries == []


async def test_who_sends_without_end_can_still_read_why_it_must_stop(serve: Serve) -> None:
    server = await serve(Desk().accept, connection_limits=Limits(binary_bytes=5000))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upgrade_request())
    await reader.readuntil(b"\r\n\r\n")

    # A reset in answer to what we still send would make this fail, and the code get lost.
    writer.write(Frame(Opcode.BINARY, b"x" * 20 * MIB).serialize(mask=True))
    await asyncio.wait_for(writer.drain(), 5)

    assert (await reader.readexactly(4))[2:] == b"\x03\xf1"
    writer.close()


async def test_a_slow_reader_stops_the_sender_and_starts_it_again(serve: Serve) -> None:
    limits = Limits(write_high_bytes=MIB, write_low_bytes=MIB // 4)
    desk = Desk(is_echo=False)
    server = await serve(desk.accept, connection_limits=limits)
    # A raw socket that reads only when told to.
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
    writer.write(upgrade_request())
    await reader.readuntil(b"\r\n\r\n")
    recorder = desk.recorders[0]
    sender = recorder.connection_now

    sent = 0
    while sender.is_writable:
        sender.send_binary(b"x" * 100_000)
        sent += 1
        assert sent < 1000

    assert MIB < sender.buffered_bytes < MIB + 200_000
    assert recorder.writable_count == 0
    while not recorder.writable_count:
        await reader.read(100_000)
    assert sender.is_writable
    assert sender.buffered_bytes <= MIB // 4
    writer.close()
    await recorder.close_heard()


async def test_a_sender_that_ignores_the_slow_reader_loses_the_connection(serve: Serve) -> None:
    limits = Limits(buffered_bytes=4 * MIB)
    desk = Desk(is_echo=False)
    server = await serve(desk.accept, connection_limits=limits)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
    writer.write(upgrade_request())
    await until(lambda: bool(desk.recorders))
    recorder = desk.recorders[0]

    sent = 0
    while recorder.connection_now.is_open:
        recorder.connection_now.send_binary(b"x" * MIB)
        sent += 1
        assert sent < 100

    code, reason = await recorder.close_heard()
    assert code is None
    assert "reads too slowly" in reason
    writer.close()


async def test_two_hundred_connections_are_served_at_once(serve: Serve) -> None:
    desk = Desk()
    server = await serve(desk.accept)
    clients = [Recorder() for _ in range(200)]

    for start in range(0, 200, 50):
        await asyncio.gather(*(dial(ws(server), client) for client in clients[start : start + 50]))
    for number, client in enumerate(clients):
        client.connection_now.send_text(str(number))
    for client in clients:
        await client.until(lambda client=client: bool(client.texts))

    assert [client.texts for client in clients] == [[b"%d" % n] for n in range(200)]
    assert server.connection_count == 200
    await server.close()
    assert {await client.close_heard() for client in clients} == {(1001, "the server stops")}


async def test_a_silent_peer_is_asked_and_an_answer_keeps_it(serve: Serve) -> None:
    desk = Desk()
    server = await serve(
        desk.accept, connection_limits=Limits(ping_interval_s=0.01, ping_timeout_s=60.0)
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upgrade_request())
    await reader.readuntil(b"\r\n\r\n")
    ping, pong = b"\x89\x00", b"\x8a\x80abcd"

    for _ in range(3):
        assert await asyncio.wait_for(reader.readexactly(2), 5) == ping
        writer.write(pong)

    assert desk.recorders[0].closed == []
    writer.close()


async def test_a_peer_that_answers_no_ping_is_dropped(serve: Serve) -> None:
    desk = Desk()
    server = await serve(
        desk.accept, connection_limits=Limits(ping_interval_s=0.01, ping_timeout_s=0.02)
    )
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upgrade_request())
    await until(lambda: bool(desk.recorders))

    assert await desk.recorders[0].close_heard() == (None, "no answer to a ping within 0.02 s")
    writer.close()


async def test_small_messages_are_not_held_back_by_the_kernel(serve: Serve) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)
    connection = await dial(ws(server), client)

    sockets = [
        side._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        for side in (connection, desk.recorders[0].connection_now)
    ]

    assert all(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for s in sockets)
