"""How fast one connection is, ours beside the stock `websockets` library, in one run.

The server runs in a process of its own. Each line of output is one JSON object.

    python benchmarks/transport.py [--seconds 2] [--only text_in,binary_out]
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from typing import Protocol

import websockets.asyncio.client
import websockets.asyncio.server
from starlette.applications import Starlette

from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.dialing import dial
from lineshaft_runtime.serving import Address, Server

TEXT = json.dumps({"kind": "metric", "job_id": "j" * 26, "step": 1, "value": 0.5, "pad": "x" * 70})
CHUNK = bytes(range(256)) * 4096
LIMITS = Limits()


# Ours.


class Peer:
    """Counts what arrives; sends as fast as the connection takes it."""

    def __init__(self, *, is_server: bool) -> None:
        self.is_server = is_server
        self.connection: Connection
        self.missing = 0
        self.done = asyncio.Event()
        self.payload: str | bytes = b""
        self.unsent = 0
        self.is_echo = False

    def on_open(self, connection: Connection) -> None:
        self.connection = connection

    def on_text(self, connection: Connection, data: bytes) -> None:
        if self.is_echo:
            connection.send_text(data)
        elif self.missing:
            self._count()
        elif self.is_server:
            self._obey(json.loads(data))
        else:
            self.done.set()

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        self._count()

    def on_writable(self, connection: Connection) -> None:
        self.pump()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        self.unsent = 0

    def send(self, payload: str | bytes, count: int) -> None:
        self.payload, self.unsent = payload, count
        self.pump()

    def pump(self) -> None:
        send = (
            self.connection.send_text
            if isinstance(self.payload, str)
            else self.connection.send_binary
        )
        # In rounds, so that reading goes on: as a pump does with its batches.
        for _ in range(min(self.unsent, 512)):
            if not self.connection.is_writable:
                return
            send(self.payload)  # type: ignore[arg-type]
            self.unsent -= 1
        if self.unsent and self.connection.is_writable:
            asyncio.get_running_loop().call_soon(self.pump)

    def _count(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.done.set()
            if self.is_server:
                self.connection.send_text("done")

    def _obey(self, order: dict[str, int | str]) -> None:
        match order["do"]:
            case "sink":
                self.missing = int(order["count"])
            case "source":
                self.send(TEXT if order["kind"] == "text" else CHUNK, int(order["count"]))
            case _:
                self.is_echo = True


async def serve_ours(pipe: Pipe) -> None:
    server = Server(
        Starlette(), lambda _: Peer(is_server=True), address=Address(), connection_limits=LIMITS
    )
    await server.start()
    pipe.send(server.port)
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    await server.close()


class Ours:
    async def open(self, port: int) -> None:
        self.peer = Peer(is_server=False)
        await dial(f"ws://127.0.0.1:{port}/", self.peer, limits=LIMITS)

    async def send_all(self, payload: str | bytes, count: int) -> None:
        self.peer.connection.send_text(json.dumps({"do": "sink", "count": count}))
        self.peer.done.clear()
        self.peer.send(payload, count)
        await self.peer.done.wait()

    async def receive_all(self, kind: str, count: int) -> None:
        self.peer.done.clear()
        self.peer.missing = count
        self.peer.connection.send_text(json.dumps({"do": "source", "kind": kind, "count": count}))
        await self.peer.done.wait()

    async def round_trips(self, count: int) -> list[float]:
        self.peer.connection.send_text(json.dumps({"do": "echo"}))
        took: list[float] = []
        for _ in range(count):
            self.peer.done.clear()
            start = time.perf_counter()
            self.peer.connection.send_text(TEXT)
            await self.peer.done.wait()
            took.append(time.perf_counter() - start)
        return took

    async def close(self) -> None:
        self.peer.connection.close()


# The stock library.


async def serve_stock(pipe: Pipe) -> None:
    async def obey(connection: websockets.asyncio.server.ServerConnection) -> None:
        async for order_text in connection:
            order = json.loads(order_text)
            match order["do"]:
                case "sink":
                    for _ in range(order["count"]):
                        await connection.recv()
                    await connection.send("done")
                case "source":
                    payload = TEXT if order["kind"] == "text" else CHUNK
                    for _ in range(order["count"]):
                        await connection.send(payload)
                case _:
                    async for message in connection:
                        await connection.send(message)

    async with websockets.asyncio.server.serve(
        obey, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None
    ) as server:
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


class Stock:
    async def open(self, port: int) -> None:
        self.connection = await websockets.asyncio.client.connect(
            f"ws://127.0.0.1:{port}/",
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
        )

    async def send_all(self, payload: str | bytes, count: int) -> None:
        await self.connection.send(json.dumps({"do": "sink", "count": count}))
        for _ in range(count):
            await self.connection.send(payload)
        await self.connection.recv()

    async def receive_all(self, kind: str, count: int) -> None:
        await self.connection.send(json.dumps({"do": "source", "kind": kind, "count": count}))
        for _ in range(count):
            await self.connection.recv()

    async def round_trips(self, count: int) -> list[float]:
        await self.connection.send(json.dumps({"do": "echo"}))
        took: list[float] = []
        for _ in range(count):
            start = time.perf_counter()
            await self.connection.send(TEXT)
            await self.connection.recv()
            took.append(time.perf_counter() - start)
        return took

    async def close(self) -> None:
        await self.connection.close()


# Measuring.


class Client(Protocol):
    async def open(self, port: int) -> None: ...
    async def send_all(self, payload: str | bytes, count: int) -> None: ...
    async def receive_all(self, kind: str, count: int) -> None: ...
    async def round_trips(self, count: int) -> list[float]: ...
    async def close(self) -> None: ...


def run_server(library: str, pipe: Pipe) -> None:
    asyncio.run(serve_ours(pipe) if library == "lineshaft" else serve_stock(pipe))


async def rate(work: Callable[[int], Awaitable[None]], start_count: int, seconds: float) -> float:
    """Messages a second, with a count that takes about `seconds`, best of three."""
    count = start_count
    best = 0.0
    for _ in range(4):
        start = time.perf_counter()
        await work(count)
        took = time.perf_counter() - start
        best = max(best, count / took)
        count = max(1, int(best * seconds / 3))
    return best


async def measure(library: str, client: Client, wanted: set[str], seconds: float) -> None:
    def report(what: str, **numbers: float) -> None:
        print(json.dumps({"what": what, "library": library, **numbers}), flush=True)

    for direction in ("in", "out"):
        for kind, payload, start_count in (("text", TEXT, 1000), ("binary", CHUNK, 16)):
            name = f"{kind}_{direction}"
            if name not in wanted:
                continue
            if direction == "in":
                work = lambda count, payload=payload: client.send_all(payload, count)  # noqa: E731
            else:
                work = lambda count, kind=kind: client.receive_all(kind, count)  # noqa: E731
            per_s = await rate(work, start_count, seconds)
            report(
                name,
                messages_per_s=round(per_s),
                gigabytes_per_s=round(per_s * len(payload) / 1e9, 3),
            )
    if "round_trip" in wanted:
        took = sorted(await client.round_trips(max(200, int(seconds * 4000))))
        report(
            "round_trip",
            p50_us=round(statistics.median(took) * 1e6, 1),
            p99_us=round(took[len(took) * 99 // 100] * 1e6, 1),
        )


async def run_client(library: str, port: int, wanted: set[str], seconds: float) -> None:
    client: Client = Ours() if library == "lineshaft" else Stock()
    await client.open(port)
    await measure(library, client, wanted, seconds)
    await client.close()


def main() -> None:
    everything = "text_in,text_out,binary_in,binary_out,round_trip"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--only", default=everything, help=everything)
    parser.add_argument("--library", default="lineshaft,websockets")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    for library in arguments.library.split(","):
        pipe, child_pipe = spawn.Pipe()
        server = spawn.Process(target=run_server, args=(library, child_pipe))
        server.start()
        wanted = set(arguments.only.split(","))
        asyncio.run(run_client(library, pipe.recv(), wanted, arguments.seconds))
        pipe.send("stop")
        server.join()


if __name__ == "__main__":
    main()
