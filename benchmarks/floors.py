"""What this machine can do at all: the physical floors that stand beside the figures."""

import asyncio
import hashlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import websockets.asyncio.client
import websockets.asyncio.server

MIB = 1 << 20
ECHO_BYTES = 200
ECHO_COUNT = 1000
STEP_S = 1.0
SYNC_COUNT = 300


def floors(scratch: Path) -> dict[str, float]:
    """Measure all floors.

    Args:
        scratch: A folder on the disk that counts.
    """
    block = np.random.default_rng(0).bytes(MIB)
    small, big = np.ones(MIB, np.uint8), np.ones(256 * MIB, np.uint8)
    small_copy, big_copy = np.empty_like(small), np.empty_like(big)
    np.copyto(big_copy, big)  # Its pages are made here, not while we measure.
    return {
        "websocket_echo_p50_ms": echo_p50_ms(),
        "fdatasync_p50_ms": sync_p50_ms(scratch),
        "memcpy_1mib_gb_per_s": rate(lambda: np.copyto(small_copy, small), MIB),
        "memcpy_256mib_gb_per_s": rate(lambda: np.copyto(big_copy, big), 256 * MIB),
        "sha256_gb_per_s": rate(lambda: hashlib.sha256(block), MIB),
        "thread_hop_us": thread_hop_us(),
    }


def rate(action: Callable[[], object], size: int) -> float:
    count, begin = 0, time.perf_counter()
    while (took_s := time.perf_counter() - begin) < STEP_S:
        action()
        count += 1
    return count * size / took_s / 1e9


def sync_p50_ms(scratch: Path) -> float:
    """Append 200 bytes and sync them."""
    path = scratch / "sync"
    times: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNC_COUNT):
            begin = time.perf_counter()
            file.write(bytes(200))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    path.unlink()
    return 1e3 * statistics.median(times)


def echo_p50_ms() -> float:
    """A raw `websockets` echo between two processes."""
    spawn = multiprocessing.get_context("spawn")
    pipe, child_pipe = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(child_pipe,), daemon=True)
    server.start()
    try:
        return asyncio.run(_echo(pipe.recv()))
    finally:
        server.kill()
        server.join()


def _serve(pipe: Connection) -> None:
    async def echo(connection: websockets.asyncio.server.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def serve() -> None:
        server = await websockets.asyncio.server.serve(echo, "127.0.0.1", 0, compression=None)
        pipe.send(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def _echo(port: int) -> float:
    times: list[float] = []
    dialing = websockets.asyncio.client.connect(f"ws://127.0.0.1:{port}", compression=None)
    async with dialing as connection:
        for _ in range(ECHO_COUNT):
            begin = time.perf_counter()
            await connection.send("x" * ECHO_BYTES)
            await connection.recv()
            times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def thread_hop_us() -> float:
    """There and back between an event loop and a thread."""

    async def hop() -> float:
        times: list[float] = []
        for _ in range(ECHO_COUNT):
            begin = time.perf_counter()
            await asyncio.to_thread(int)
            times.append(time.perf_counter() - begin)
        return 1e6 * statistics.median(times)

    return asyncio.run(hop())
