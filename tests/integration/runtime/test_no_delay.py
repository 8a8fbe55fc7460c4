"""Short messages leave at once, on every loop that we run on."""

import asyncio
import importlib
import socket
from collections.abc import Callable
from typing import cast

import pytest
from starlette.applications import Starlette
from tests.integration.runtime.recording import Desk, Recorder, ws

from lineshaft_runtime.connection import Connection
from lineshaft_runtime.dialing import dial
from lineshaft_runtime.serving import Address, Server
from lineshaft_runtime.websocket import WebSocketProtocol

NewLoop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    name = cast("str", request.param)
    pytest.importorskip(name)
    return cast("NewLoop", importlib.import_module(name).new_event_loop)


def waits_for_more(connection: Connection) -> bool:
    """Whether the kernel holds short messages back until the last one was acknowledged."""
    assert isinstance(connection, WebSocketProtocol)
    found: socket.socket = connection._transport.get_extra_info("socket")
    return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


def test_neither_end_of_a_connection_waits_for_more_to_send(new_loop: NewLoop) -> None:
    async def both_ends() -> list[bool]:
        desk, client = Desk(), Recorder()
        server = Server(Starlette(), desk.accept, address=Address())
        await server.start()
        connection = await dial(ws(server), client)
        try:
            ends = (connection, desk.recorders[0].connection_now)
            return [waits_for_more(end) for end in ends]
        finally:
            connection.abort()
            await server.close(grace_s=1.0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        waiting = runner.run(both_ends())

    assert waiting == [False, False]
