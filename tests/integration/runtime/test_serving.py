import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.recording import (
    Desk,
    Recorder,
    Serve,
    until,
    upgrade_request,
    ws,
)

from lineshaft_runtime.connection import Limits, Listener, UpgradeRequest
from lineshaft_runtime.connection_errors import (
    AddressInUseError,
    CannotConnectError,
    ConnectTimeoutError,
    RefusedError,
)
from lineshaft_runtime.dialing import dial
from lineshaft_runtime.serving import Address, Rejection, Server, ServerLimits, let_in


async def http(server: Server, request: bytes) -> bytes:
    """Send bytes, and give all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()


# HTTP beside WebSocket.


async def test_http_and_websocket_share_one_port(serve: Serve) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept)

    connection = await dial(ws(server), client)
    answer = await http(server, get("/hello"))
    connection.send_text("still here")
    await client.until(lambda: bool(client.texts))

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"hello GET 0")
    assert b"server:" not in answer.lower()


async def test_a_request_body_reaches_the_application(serve: Serve) -> None:
    server = await serve(Desk().accept)
    body = b"x" * 300_000
    head = "POST /hello HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"

    answer = await http(server, head.encode() + body)

    assert answer.endswith(b"hello POST 300000")


async def test_one_http_connection_serves_several_requests(serve: Serve) -> None:
    server = await serve(Desk().accept)
    request = b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n"

    answer = await http(server, request + request + get("/nowhere"))

    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"HTTP/1.1 404 Not Found") == 1


async def test_the_application_log_is_silent_about_each_request(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()
    server = await serve(desk.accept)

    await http(server, get("/hello"))
    await dial(ws(server), Recorder())

    assert caplog.records == []


# Who may open a WebSocket.


async def test_whoever_accepts_sees_the_whole_request(serve: Serve) -> None:
    desk = Desk()
    server = await serve(desk.accept)

    await dial(ws(server, "/v1/jobs%20now?since=7&name=a%26b"), Recorder(), token="t0ken")

    (request,) = desk.requests
    assert request.path == "/v1/jobs now"
    assert request.query == {"since": "7", "name": "a&b"}
    assert request.token == "t0ken"
    assert request.origin is None
    assert request.host == f"127.0.0.1:{server.port}"
    assert request.peer.startswith("127.0.0.1:")
    assert desk.recorders[0].connection_now.request is request
    assert "t0ken" not in repr(request)


async def test_a_browser_may_bring_its_token_in_the_query(serve: Serve) -> None:
    desk = Desk()
    server = await serve(desk.accept)

    await http_upgrade(server, upgrade_request("/feed?token=abc", "Origin: http://evil"))

    assert desk.requests[0].token == "abc"
    assert desk.requests[0].origin == "http://evil"


async def http_upgrade(server: Server, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def test_a_rejected_client_learns_status_and_text(serve: Serve) -> None:
    def only_known(request: UpgradeRequest) -> Listener | Rejection:
        return Recorder() if request.token == "right" else Rejection(401, "who are you?")

    server = await serve(only_known)

    with pytest.raises(RefusedError, match=r"HTTP 401: who are you\?.*Log in") as caught:
        await dial(ws(server, "/?token=wrong"), Recorder(), token="wrong")
    assert (caught.value.status, caught.value.text) == (401, "who are you?")
    assert "wrong" not in str(caught.value)
    assert (await dial(ws(server), Recorder(), token="right")).is_open


async def test_a_rejected_client_hears_nothing_as_a_listener(serve: Serve) -> None:
    client = Recorder()
    server = await serve(lambda _: Rejection(403, "no"))

    with pytest.raises(RefusedError):
        await dial(ws(server), client)

    assert client.connection is None
    assert client.closed == []


async def test_a_malformed_upgrade_is_refused_before_anybody_is_asked(serve: Serve) -> None:
    desk = Desk()
    server = await serve(desk.accept)

    answer = await http(server, upgrade_request().replace(b"Version: 13", b"Version: 7"))

    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert desk.requests == []


async def test_a_bug_in_the_callers_decision_costs_one_connection_only(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def sometimes_broken(request: UpgradeRequest) -> Listener | Rejection:
        asked.append(request.path)
        if request.path == "/broken":
            raise RuntimeError("a bug")
        return Recorder()

    server = await serve(sometimes_broken)

    with pytest.raises(CannotConnectError):
        await dial(ws(server, "/broken"), Recorder())
    connection = await dial(ws(server, "/fine"), Recorder())

    assert connection.is_open
    assert asked == ["/broken", "/fine"]
    assert "a bug" in caplog.text
    await until(lambda: server.connection_count == 1)


# What strangers may cost.


@pytest.mark.parametrize("beginning", [b"", b"GET /hello HTTP/1.1\r\nHost: t\r\nX: "])
async def test_a_client_that_dribbles_its_request_is_closed(serve: Serve, beginning: bytes) -> None:
    server = await serve(Desk().accept, limits=ServerLimits(handshake_timeout_s=0.1))
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    start = loop.time()
    writer.write(beginning)

    answer = b""
    while not answer:
        try:
            answer = await asyncio.wait_for(reader.read(), 0.02)
        except TimeoutError:
            writer.write(b"a" if beginning else b"")

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert 0.09 <= loop.time() - start < 2
    writer.close()


async def test_a_second_request_must_not_dribble_either(serve: Serve) -> None:
    server = await serve(Desk().accept, limits=ServerLimits(handshake_timeout_s=0.1))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n")
    await reader.readuntil(b"hello GET 0")

    writer.write(b"GET /hel")

    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_body_may_come_later_than_the_limit_of_the_head(serve: Serve) -> None:
    server = await serve(Desk().accept, limits=ServerLimits(handshake_timeout_s=0.1))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 0.3)
    writer.write(b"ab")

    assert (await reader.readuntil(b"hello POST 2")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


async def test_an_open_websocket_outlives_the_handshake_limit(serve: Serve) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept, limits=ServerLimits(handshake_timeout_s=0.05))
    connection = await dial(ws(server), client)
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.2

    while loop.time() < end:
        connection.send_text("x")
        count = len(client.texts)
        await client.until(lambda count=count: len(client.texts) > count)

    assert client.closed == []


async def test_more_strangers_of_one_host_than_allowed_are_turned_away(serve: Serve) -> None:
    desk = Desk()
    server = await serve(desk.accept, limits=ServerLimits(unaccepted_per_host=2))
    # Accepted connections do not count.
    for _ in range(3):
        await dial(ws(server), Recorder())
    strangers = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    await until(lambda: server.connection_count == 5)

    answer = await http(server, get("/hello"))
    with pytest.raises(RefusedError, match="HTTP 503"):
        await dial(ws(server), Recorder())

    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable")
    for _, writer in strangers:
        writer.close()
    await until(lambda: server.connection_count == 3)
    assert (await dial(ws(server), Recorder())).is_open


async def test_one_whose_request_was_let_in_is_no_stranger_any_more(serve: Serve) -> None:
    async def lets_in(scope: Any, receive: Any, send: Any) -> None:
        del receive
        let_in(scope)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"in"})

    limits = ServerLimits(unaccepted_per_host=2)
    server = await serve(Desk().accept, app=lets_in, limits=limits)
    friends: list[asyncio.StreamWriter] = []
    for _ in range(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nin"), 10)
            assert answer.startswith(b"HTTP/1.1 200")
        friends.append(writer)
    strangers = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    await until(lambda: server.connection_count == 12)

    answer = await http(server, get("/"))

    assert answer.startswith(b"HTTP/1.1 503")
    for writer in (*friends, *(each for _, each in strangers)):
        writer.close()
    await until(lambda: server.connection_count == 0)
    assert (await http(server, get("/"))).endswith(b"in")


async def test_more_connections_than_allowed_are_turned_away(serve: Serve) -> None:
    server = await serve(Desk().accept, limits=ServerLimits(connections=2))
    first = await dial(ws(server), Recorder())
    await dial(ws(server), Recorder())

    with pytest.raises(RefusedError, match="HTTP 503"):
        await dial(ws(server), Recorder())

    first.close()
    await until(lambda: server.connection_count == 1)
    assert (await dial(ws(server), Recorder())).is_open


# Starting and stopping.


async def test_a_port_in_use_is_named_with_what_to_do(serve: Serve) -> None:
    server = await serve(Desk().accept)

    with pytest.raises(AddressInUseError, match=rf"127\.0\.0\.1:{server.port}.*another port"):
        await serve(Desk().accept, address=Address(port=server.port))


async def test_an_address_that_is_not_ours_is_an_os_error(serve: Serve) -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        await serve(Desk().accept, address=Address(host="192.0.2.1"))


async def test_a_closed_server_leaves_its_port_free(serve: Serve) -> None:
    server = await serve(Desk().accept)
    port = server.port
    await dial(ws(server), Recorder())

    await server.close()

    assert (await serve(Desk().accept, address=Address(port=port))).port == port


async def test_closing_does_not_wait_for_a_peer_for_ever(serve: Serve) -> None:
    desk = Desk()
    server = await serve(desk.accept)
    # One that never answers a close frame, and one that never finishes its request.
    _, deaf = await asyncio.open_connection("127.0.0.1", server.port)
    deaf.write(upgrade_request())
    _, slow = await asyncio.open_connection("127.0.0.1", server.port)
    slow.write(b"POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n")
    await until(lambda: server.connection_count == 2 and bool(desk.recorders))

    async with asyncio.timeout(3):
        await server.close(grace_s=0.1)

    assert server.connection_count == 0
    assert desk.recorders[0].closed == [(1001, "the server stops")]
    deaf.close()
    slow.close()


async def test_an_http_answer_under_way_is_finished_on_close(serve: Serve) -> None:
    server = await serve(Desk().accept)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /hello HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n")
    await until(lambda: server.connection_count == 1 and bool(server._state.tasks))

    closing = asyncio.create_task(server.close(grace_s=5))
    await asyncio.sleep(0)
    writer.write(b"ab")

    assert (await reader.read()).endswith(b"hello POST 2")
    await closing
    writer.close()


async def test_a_unix_socket_serves_as_well(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    desk = Desk()
    server = await serve(desk.accept, address=Address(unix_path=path))
    reader, writer = await asyncio.open_unix_connection(path)

    writer.write(upgrade_request())

    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert desk.requests[0].peer == "unix"
    assert server.port == 0
    writer.close()
    await server.close()
    assert not path.exists()


# Dialling.


async def test_a_refused_port_says_whom_we_tried_and_what_to_do(serve: Serve) -> None:
    server = await serve(Desk().accept)
    url = ws(server, "/v1?token=s3cret")
    await server.close()

    with pytest.raises(CannotConnectError, match=r"nobody listens there\. Check that") as caught:
        await dial(url, Recorder())
    assert caught.value.url == url.partition("?")[0]
    assert "s3cret" not in str(caught.value)


async def test_an_unknown_host_cannot_be_connected_to() -> None:
    with pytest.raises(CannotConnectError, match=r"ws://no-such-host\.invalid:1"):
        await dial("ws://no-such-host.invalid:1/", Recorder())


@pytest.mark.parametrize("url", ["http://host/", "host:80", "ws://", "ws://[::1/", "ws://h:x/"])
async def test_what_is_no_websocket_url_cannot_be_connected_to(url: str) -> None:
    with pytest.raises(CannotConnectError, match="no ws:// or wss:// URL"):
        await dial(url, Recorder())


async def test_a_server_that_never_answers_is_given_up() -> None:
    ended = asyncio.Event()
    silent, port = await silent_server(ended)

    with pytest.raises(ConnectTimeoutError, match=r"within 0\.05 s"):
        await dial(f"ws://127.0.0.1:{port}/", Recorder(), open_timeout_s=0.05)

    await asyncio.wait_for(ended.wait(), 5)
    silent.close()


async def silent_server(ended: asyncio.Event) -> tuple[asyncio.Server, int]:
    """Serve one client by saying nothing, until it goes."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", CannotConnectError),
        (b"\x00" * 100_000, CannotConnectError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", RefusedError),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nno length", RefusedError),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tea\r\n\r\n", CannotConnectError),
        (b"HTTP/1.1 101 Swit", CannotConnectError),
        (b"", CannotConnectError),
    ],
)
async def test_a_server_of_another_kind_is_recognised(
    answer: bytes, error: type[Exception]
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    other = await asyncio.start_server(say, "127.0.0.1", 0)
    client = Recorder()

    with pytest.raises(error):
        await dial(f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/", client)

    assert client.connection is None
    other.close()


async def test_a_cancelled_dial_leaves_no_socket_behind() -> None:
    ended, client = asyncio.Event(), Recorder()
    silent, port = await silent_server(ended)
    dialling = asyncio.create_task(dial(f"ws://127.0.0.1:{port}/", client))
    for _ in range(20):
        await asyncio.sleep(0)

    dialling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await dialling
    await asyncio.wait_for(ended.wait(), 5)
    silent.close()
    assert client.connection is None


# TLS.


async def test_tls_carries_small_and_large_messages(
    serve: Serve, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(desk.accept, address=Address(ssl=server_tls))
    url = f"wss://127.0.0.1:{server.port}/"
    connection = await dial(url, client, ssl=client_tls)

    connection.send_text("small")
    connection.send_binary(b"x" * 3_000_000)
    await client.until(lambda: bool(client.binaries))
    connection.close(1000, "done")

    assert client.texts == [b"small"]
    assert client.binaries == [b"x" * 3_000_000]
    assert await desk.recorders[0].close_heard() == (1000, "done")


async def test_over_tls_a_message_over_the_limit_closes_with_1009(
    serve: Serve, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    desk, client = Desk(), Recorder()
    server = await serve(
        desk.accept, address=Address(ssl=server_tls), connection_limits=Limits(binary_bytes=1000)
    )
    connection = await dial(f"wss://127.0.0.1:{server.port}/", client, ssl=client_tls)

    connection.send_binary(b"x" * 1001)

    assert (await client.close_heard())[0] == 1009


async def test_an_unknown_certificate_is_not_trusted(
    serve: Serve, server_tls: ssl.SSLContext
) -> None:
    server = await serve(Desk().accept, address=Address(ssl=server_tls))

    with pytest.raises(CannotConnectError, match="TLS failed"):
        await dial(f"wss://127.0.0.1:{server.port}/", Recorder())
