"""A stream of chunks through one worker and back, beside a raw `websockets` relay of the same hops.

    python -m benchmarks.streams [--rounds 3] [--seconds 3]

Client, head and worker are processes of their own; the worker gives each chunk back as it is.
Prints a JSON line for each size of chunk: medians of interleaved rounds, and ours as a part of
the relay's.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection

import lineshaft
from benchmarks.processes import adopt_orphans, end_descendants
from benchmarks.systems.lineshaft_farm import Adapter
from benchmarks.tasks import Array

KIB, MIB = 1 << 10, 1 << 20
WINDOW_BYTES = 16 * MIB
WINDOW_CHUNKS = 1024
TRIAL = 200

Carry = Callable[[int, int], float]
"""Takes size and number of chunks; returns how long they took, in seconds."""


# --- the relay ---


class Relay:
    """Two hops of the stock library, and a worker that sends back what it gets."""

    def __init__(self) -> None:
        spawn = get_context("spawn")
        self._processes: list[BaseProcess] = []
        pipe, child_pipe = spawn.Pipe()
        self._start(spawn.Process(target=_head, args=(child_pipe,), daemon=True))
        self._port = int(pipe.recv())
        self._start(spawn.Process(target=_worker, args=(self._port,), daemon=True))
        pipe.recv()

    def _start(self, process: BaseProcess) -> None:
        process.start()
        self._processes.append(process)

    def carry(self, size: int, count: int) -> float:
        return asyncio.run(self._carry(size, count))

    async def _carry(self, size: int, count: int) -> float:
        window = asyncio.Semaphore(min(WINDOW_CHUNKS, max(2, WINDOW_BYTES // size)))
        chunk = bytes(size)
        async with _dialed(self._port, "client") as connection:
            begin = time.perf_counter()

            async def send() -> None:
                for _ in range(count):
                    await window.acquire()
                    await connection.send(chunk)

            sending = asyncio.create_task(send())
            for _ in range(count):
                assert len(await connection.recv()) == size
                window.release()
            await sending
            return time.perf_counter() - begin

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _dialed(port: int, path: str) -> websockets.asyncio.client.connect:
    return websockets.asyncio.client.connect(
        f"ws://127.0.0.1:{port}/{path}", compression=None, max_size=None
    )


def _head(pipe: Pipe) -> None:
    async def main() -> None:
        workers: list[ServerConnection] = []
        clients: list[ServerConnection] = []

        async def talk(connection: ServerConnection) -> None:
            assert connection.request is not None
            is_worker = connection.request.path == "/worker"
            mine, others = (workers, clients) if is_worker else (clients, workers)
            mine.append(connection)
            if is_worker:
                pipe.send("worker is here")
            async for message in connection:
                await others[-1].send(message)

        server = await websockets.asyncio.server.serve(
            talk, "127.0.0.1", 0, compression=None, max_size=None
        )
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def _worker(port: int) -> None:
    async def main() -> None:
        async with _dialed(port, "worker") as connection:
            async for message in connection:
                await connection.send(message)

    asyncio.run(main())


# --- ours ---


def same(chunk: Array) -> Array:
    return chunk


class Ours:
    """`client.stream` through a filter that does nothing."""

    def __init__(self, client: lineshaft.Client) -> None:
        self._client = client
        first = np.zeros(1, np.float32)
        self._fitted = client.fit(lineshaft.Pipeline([("same", same)]), first)

    def carry(self, size: int, count: int) -> float:
        chunk = np.ones(size // 4, np.float32)

        def chunks() -> Iterator[Array]:
            for _ in range(count):
                yield chunk

        begin = time.perf_counter()
        arrived = 0
        for result in self._client.stream(self._fitted, chunks()):
            assert len(result) == len(chunk)
            arrived += 1
        assert arrived == count, arrived
        return time.perf_counter() - begin


def measure(carry: Carry, size: int, seconds: float) -> float:
    """Chunks per second over about so many seconds."""
    trial = min(TRIAL, max(8, 64 * MIB // size))
    rate = trial / carry(size, trial)
    count = max(trial, int(rate * seconds))
    return count / carry(size, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    chosen = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="bench-streams-") as folder:
        relay, farm = Relay(), Adapter(Path(folder), 1)
        try:
            farm.start()
            ours = Ours(farm.client) if hasattr(farm.client, "stream") else None
            for size in (MIB, KIB):
                raw: list[float] = []
                mine: list[float] = []
                for _ in range(chosen.rounds):
                    raw.append(measure(relay.carry, size, chosen.seconds))
                    if ours is not None:
                        mine.append(measure(ours.carry, size, chosen.seconds))
                say(size, raw, mine)
        finally:
            farm.stop()
            relay.close()
            end_descendants()


def say(size: int, raw: list[float], mine: list[float]) -> None:
    line: dict[str, object] = {"what": "stream", "chunk_bytes": size}
    line["relay_chunks_per_s"] = round(statistics.median(raw))
    if mine:
        line["lineshaft_chunks_per_s"] = round(statistics.median(mine))
        line["lineshaft_mb_per_s"] = round(statistics.median(mine) * size / 1e6, 1)
        line["part_of_relay"] = round(statistics.median(mine) / statistics.median(raw), 3)
    else:
        line["skipped"] = "this version has no Client.stream"
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
