"""The least that the same three hops can cost: client, head and worker, msgpack frames over TCP.

Nothing is written to disk, checked or repeated, and the worker runs the task in its own loop.
"""

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from benchmarks import tasks
from benchmarks.processes import Daemons

LENGTH = struct.Struct("!I")
BATCH_BYTES = 1 << 18

Frame = bytes | bytearray


class Adapter:
    def __init__(self, folder: Path, worker_count: int) -> None:
        self._folder = folder
        self._count = worker_count
        self._daemons = Daemons(folder)
        self._numbers = count()
        self._results: dict[int, object] = {}
        self._frames = Frames()
        self._socket = socket.socket()

    def start(self) -> None:
        ports = [self._folder / "client-port", self._folder / "worker-port"]
        itself = [sys.executable, "-m", "benchmarks.systems.bare_relay"]
        self._daemons.start("head", [*itself, "head", str(self._folder), str(self._count)])
        self._daemons.until(lambda: all(port.exists() for port in ports), "the relay listens")
        client_port, worker_port = (int(port.read_text()) for port in ports)
        for _ in range(self._count):
            self._daemons.start("worker", [*itself, "worker", str(worker_port)])
        self._daemons.until((self._folder / "all-here").exists, "workers dial")
        self._socket = socket.create_connection(("127.0.0.1", client_port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def submit(self, function: Callable[[Any], Any], arguments: Sequence[object]) -> list[int]:
        handles = [next(self._numbers) for _ in arguments]
        name = function.__name__

        def send() -> None:
            waiting = bytearray()
            for handle, argument in zip(handles, arguments, strict=True):
                waiting += packed(handle, name, argument)
                if len(waiting) > BATCH_BYTES:
                    self._socket.sendall(waiting)
                    waiting = bytearray()
            self._socket.sendall(waiting)

        if len(handles) == 1:
            send()
        else:  # Who only sends while nobody reads stops everything.
            threading.Thread(target=send, daemon=True).start()
        return handles

    def gather(self, handles: Sequence[int]) -> list[Any]:
        wanted = set(handles)
        while not wanted <= self._results.keys():
            data = self._socket.recv(BATCH_BYTES)
            if not data:
                raise RuntimeError("the relay is gone")
            for frame in self._frames.feed(data):
                handle, _, result = unpacked(frame)
                self._results[handle] = result
                wanted.discard(handle)
            if not wanted:
                break
        return [self._results.pop(handle) for handle in handles]

    def processes(self) -> dict[str, list[int]]:
        return self._daemons.roots()

    def stop(self) -> None:
        self._socket.close()
        self._daemons.stop()


class Frames:
    """Cuts a flow of bytes into frames: a length, then msgpack."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take what arrived; give the frames that are whole."""
        rest = self._rest
        rest += data
        begin = 0
        while len(rest) - begin >= LENGTH.size:
            (length,) = LENGTH.unpack_from(rest, begin)
            end = begin + LENGTH.size + length
            if len(rest) < end:
                break
            if begin == 0 and end == len(rest):
                self._rest = bytearray()
                yield rest
                return
            yield bytes(rest[begin:end])
            begin = end
        del rest[:begin]


def packed(handle: int, name: str, value: object) -> bytes:
    plain = value.data.cast("B") if isinstance(value, np.ndarray) else value
    body: bytes = msgpack.packb([handle, name, plain])
    return LENGTH.pack(len(body)) + body


def unpacked(frame: Frame) -> tuple[int, str, Any]:
    handle, name, value = msgpack.unpackb(memoryview(frame)[LENGTH.size :])
    return handle, name, np.frombuffer(value, np.float32) if isinstance(value, bytes) else value


class Peer(asyncio.Protocol):
    """One connection: calls `hear` with each frame, and writes without waiting."""

    def __init__(self, hear: Callable[[Frame], None], joined: Callable[["Peer"], None]) -> None:
        self._hear, self._joined = hear, joined
        self._frames = Frames()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._joined(self)

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            self._hear(frame)

    def connection_lost(self, _: Exception | None) -> None:
        asyncio.get_running_loop().stop()


class Head:
    """Frames of the client go to the workers in turn, and theirs to the client."""

    def __init__(self, folder: Path, worker_count: int) -> None:
        self._folder = folder
        self._count = worker_count
        self._workers: list[Peer] = []
        self._client: Peer | None = None
        self._turn = 0

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        listeners = {
            "client": lambda: Peer(self._from_client, self._client_joined),
            "worker": lambda: Peer(self._from_worker, self._worker_joined),
        }
        for name, make in listeners.items():
            server = await loop.create_server(make, "127.0.0.1", 0)
            written = self._folder / f"{name}-port.new"
            written.write_text(str(server.sockets[0].getsockname()[1]))
            written.rename(self._folder / f"{name}-port")
        await loop.create_future()

    def _client_joined(self, peer: Peer) -> None:
        self._client = peer

    def _worker_joined(self, peer: Peer) -> None:
        self._workers.append(peer)
        if len(self._workers) == self._count:
            (self._folder / "all-here").touch()

    def _from_client(self, frame: Frame) -> None:
        self._turn = (self._turn + 1) % len(self._workers)
        self._workers[self._turn].transport.write(frame)

    def _from_worker(self, frame: Frame) -> None:
        assert self._client is not None
        self._client.transport.write(frame)


async def work(port: int) -> None:
    loop = asyncio.get_running_loop()

    def hear(frame: Frame) -> None:
        handle, name, value = unpacked(frame)
        peer.transport.write(packed(handle, name, getattr(tasks, name)(value)))

    peer = Peer(hear, lambda _: None)
    await loop.create_connection(lambda: peer, "127.0.0.1", port)
    await loop.create_future()


def main() -> None:
    if sys.argv[1] == "head":
        asyncio.run(Head(Path(sys.argv[2]), int(sys.argv[3])).listen())
    else:
        asyncio.run(work(int(sys.argv[2])))


if __name__ == "__main__":
    main()
