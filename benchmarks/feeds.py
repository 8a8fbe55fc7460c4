"""Measures what viewers of running jobs get, and what they cost; prints one JSON line each.

Usage: python -m benchmarks.feeds [end-to-end|hop|slow|rows ...]   (default: all; some two minutes)

end-to-end: a job calls `run.log`, 100 viewers on WebSockets have it; one clock counts, for all of
it is on this machine. hop: 100 messages a second to 100 viewers, from the hub to their sockets.
slow: the same again with and without one viewer who never reads, by turns, in one process. rows: a
job that told a million rows goes on, and 100 subscribers listen to seed 004's stream of new ones:
CPU of the coordinator and of its recorder with them, and without. Viewers are a process of
their own, as they would be elsewhere; its CPU is not counted. Each figure has its aim beside it.
"""

import asyncio
import json
import multiprocessing
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop
from starlette.applications import Starlette
from tests.e2e.farm import farm
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from lineshaft_coordinator.feeds.hub import Ear, Hub
from lineshaft_coordinator.feeds.live_dialect import LiveDialect, lagged
from lineshaft_coordinator.feeds.told import Place
from lineshaft_coordinator.feeds.viewers import WEBSOCKET_LIMITS, WebSocketViewer
from lineshaft_protocol.client_messages import StateChanged
from lineshaft_protocol.events import JobEvent
from lineshaft_runtime.connection import Admitted, UpgradeRequest
from lineshaft_runtime.serving import Address, Server

VIEWERS = 100
RATE = 100.0
SECONDS = 5.0
ROUNDS = 2
ROWS = 1_000_000
WITHIN_S = 300.0
NOTE_BYTES = 8000
"""More in each message than the socket of one who never reads swallows in all."""


def train(count: int, between_s: float) -> None:
    """Log when it is, again and again."""
    from lineshaft import run  # noqa: PLC0415 - this function travels

    # Until the viewers are there.
    time.sleep(8.0)
    for step in range(count):
        run.log({"said_at": time.time(), "loss": 0.5, "lr": 0.1, "acc": 0.9, "n": step}, step=step)
        time.sleep(between_s)


# --- viewers, in a process of their own ---


def look(url: str, count: int, pipe: Connection) -> None:
    """Be so many viewers until the feed ends; sends how late each message was, in seconds."""
    pipe.send(asyncio.run(_look(url, count, pipe)))


async def _look(url: str, count: int, pipe: Connection) -> list[float]:
    late_s: list[float] = []
    seated = asyncio.Semaphore(0)
    door = asyncio.Semaphore(20)  # A server takes so many strangers of one host, and no more.

    async def view() -> None:
        async with door:
            viewer = await connect(url, compression=None, max_queue=1024)
        async with viewer:
            with suppress(ConnectionClosedError):  # 1013, where no job ends.
                async for text in viewer:
                    now = time.time()
                    message = json.loads(text)
                    if message["type"] == "metrics":
                        late_s.append(now - message["data"]["metrics"]["said_at"])
                    elif message["type"] == "snapshot":
                        seated.release()

    views = [asyncio.create_task(view()) for _ in range(count)]
    for _ in views:
        await seated.acquire()
    pipe.send("seated")
    await asyncio.gather(*views)
    return late_s


class Audience:
    """Viewers in another process."""

    def __init__(self, url: str, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=look, args=(url, count, theirs))
        self._process.start()

    async def seated(self) -> None:
        """Wait until all have their snapshot."""
        await asyncio.to_thread(self._pipe.recv)

    async def late_s(self) -> list[float]:
        """Wait until the feed has ended; how late each message was to each viewer."""
        late_s: list[float] = await asyncio.to_thread(self._pipe.recv)
        await asyncio.to_thread(self._process.join)
        return late_s


# --- a hub and a server, without a farm ---


class Ticker:
    """A source of one job that only ticks."""

    def watch(self, job_id: str, ear: Ear) -> Callable[[], None]:
        """Tell that it runs."""
        state = StateChanged(job_id=job_id, state="running", attempt=1)
        asyncio.get_running_loop().call_soon(ear.on_state, state)
        return lambda: None

    async def tail(self, job_id: str) -> Sequence[JobEvent]:
        """Nothing was before."""
        return ()

    async def page(self, job_id: str, after: Place) -> Sequence[JobEvent]:
        """Likewise."""
        return ()


async def hop(
    *, is_one_slow: bool, viewers: int = VIEWERS, note_bytes: int = 0
) -> tuple[list[float], float]:
    """Publish to viewers; how late each message was, and CPU for each message, in seconds."""
    hub = Hub(Ticker())

    def accept(request: UpgradeRequest) -> Admitted:
        del request
        viewer = WebSocketViewer(
            partial(hub.subscribe, "job"),
            partial(hub.unsubscribe, "job"),
            LiveDialect(),
            gap=lagged,
        )
        return Admitted(viewer, WEBSOCKET_LIMITS)

    server = Server(Starlette(), accept, address=Address())
    await server.start()
    audience = Audience(f"ws://127.0.0.1:{server.port}/job", viewers)
    await audience.seated()
    lazy = await _lazy(server.port) if is_one_slow else None
    began, count = _cpu_s(), int(RATE * SECONDS)
    start = asyncio.get_running_loop().time()
    for seq in range(1, count + 1):
        await asyncio.sleep(max(0.0, start + seq / RATE - asyncio.get_running_loop().time()))
        now = time.time()
        body: dict[str, Any] = {"metrics": {"said_at": now, "loss": 0.5}, "step": seq}
        body["note"] = "x" * note_bytes
        event = JobEvent(job_id="job", attempt=1, seq=seq, at=now, kind="metrics", body=body)
        hub.publish("job", [event])
    spent_s = _cpu_s() - began
    hub.close("that was all")
    late_s = await audience.late_s()
    if lazy is not None:
        lazy.close()
    await server.close(grace_s=1.0)
    return late_s, spent_s / len(late_s)


async def _lazy(port: int) -> socket.socket:
    """A viewer who opens the feed and never reads."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", port))
    request = (
        f"GET /job HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await loop.sock_sendall(raw, request.encode())
    return raw


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _part(late_s: list[float], percent: float) -> float:
    return sorted(late_s)[int(len(late_s) * percent / 100)]


def _say(what: str, late_s: list[float], aims: Mapping[str, float], **more: float) -> None:
    late = {f"p{part}_ms": round(1000 * _part(late_s, part), 1) for part in (50, 99)}
    _print(what, {"deliveries": len(late_s)} | late | more, aims)


def _print(what: str, found: Mapping[str, float], aims: Mapping[str, float]) -> None:
    """Print figures, what each is to stay below, and which of them do not."""
    missed = [name for name, aim in aims.items() if found[name] > aim]
    aimed = {f"aim_{name}": aim for name, aim in aims.items()}
    print(json.dumps({"what": what} | dict(found) | aimed | {"missed": missed}), flush=True)


def measure_end_to_end() -> None:
    """From `run.log` to the viewers."""
    with tempfile.TemporaryDirectory(prefix="bench-feeds-") as name, farm(Path(name)) as made:
        made.start_worker("w1", "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            job = client.submit(train, 300, 0.02)
            token = (made.home / "token").read_text().strip()
            url = f"{made.url}/api/v1/jobs/{job.id}/live?token={token}"
            audience = Audience(url, VIEWERS)
            late_s = asyncio.run(_whole(audience))
    aims = {"p50_ms": 100, "p99_ms": 250}
    _say(f"run.log until {VIEWERS} viewers have it, 50 calls a second", late_s, aims)


async def _whole(audience: Audience) -> list[float]:
    await audience.seated()
    return await audience.late_s()


def measure_hop() -> None:
    """From the hub to the viewers."""
    late_s, cpu_s = uvloop.run(hop(is_one_slow=False))
    share = cpu_s * VIEWERS * RATE * 100
    what = f"{VIEWERS} viewers, {RATE:g} messages a second"
    aims = {"p99_ms": 20, "percent_of_a_core": 40}
    cost = {"cpu_us_a_delivery": round(cpu_s * 1e6, 1), "percent_of_a_core": round(share)}
    _say(what, late_s, aims, **cost)


def measure_slow() -> None:
    """The others' lateness without and with one who never reads, by turns."""
    without: list[float] = []
    beside: list[float] = []
    for _ in range(ROUNDS):
        without += uvloop.run(hop(is_one_slow=False, viewers=VIEWERS // 5, note_bytes=NOTE_BYTES))[
            0
        ]
        beside += uvloop.run(hop(is_one_slow=True, viewers=VIEWERS // 5, note_bytes=NOTE_BYTES))[0]
    ratio = round(_part(beside, 99) / _part(without, 99), 2)
    what = f"{VIEWERS // 5} viewers beside one who never reads"
    _say(what, beside, {"p99_ratio": 2.0}, p99_ratio=ratio)


# --- the rows of a long run ---


def grow(row_count: int, more_s: float) -> None:
    """Tell many rows at once, and then twenty a second."""
    from lineshaft import run  # noqa: PLC0415 - this function travels

    for step in range(row_count):
        run.log({"loss": 0.5, "lr": 0.1, "acc": 0.9}, step=step)
    for step in range(row_count, row_count + int(20 * more_s)):
        run.log({"loss": 0.5, "lr": 0.1, "acc": 0.9}, step=step)
        time.sleep(0.05)


def listen(url: str, count: int, seconds: float, pipe: Connection) -> None:
    """Be so many subscribers for so long; sends how many rows each got."""
    pipe.send(asyncio.run(_listen(url, count, seconds)))


async def _listen(url: str, count: int, seconds: float) -> list[int]:
    limits = httpx.Limits(max_connections=count)
    # The first event has what was there before; what comes after it is counted.
    got = [-1] * count

    async def subscribe(number: int, client: httpx.AsyncClient) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), client.stream("GET", url) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: ["):
                        got[number] += 1 if got[number] < 0 else len(json.loads(line[6:]))

    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        await asyncio.gather(*(subscribe(number, client) for number in range(count)))
    return got


def measure_rows() -> None:
    """What 100 subscribers cost on a run that is long already."""
    with tempfile.TemporaryDirectory(prefix="bench-feeds-") as name, farm(Path(name)) as made:
        made.start_worker("w1", "--slots", "1")
        with made.client() as client:
            made.until_ready(client)
            job = client.submit(grow, ROWS, 600.0)
            token = (made.home / "token").read_text().strip()
            base = f"http://127.0.0.1:{made.port}"
            query = {"token": token}

            def row_count() -> int:
                answer = httpx.get(f"{base}/api/v1/runs/{job.id}", params=query, timeout=60)
                return int(answer.json()["rows"]) if answer.status_code == 200 else 0

            deadline = time.monotonic() + WITHIN_S
            while row_count() < ROWS:
                assert time.monotonic() < deadline, f"{ROWS} rows were not recorded in time"
                time.sleep(2.0)  # Each look reads the run.
            run = httpx.get(f"{base}/api/v1/runs/{job.id}", params=query).json()
            assert made.coordinator is not None, "it was started"
            coordinator = psutil.Process(made.coordinator.pid)
            processes = [coordinator, *coordinator.children(recursive=True)]
            idle = _spent_s(processes, SECONDS)
            context = multiprocessing.get_context("spawn")
            pipe, theirs = context.Pipe()
            url = f"{base}/api/run/{run['experiment']}/{job.id}/stream/vectors?token={token}"
            seconds = 3 * SECONDS
            audience = context.Process(target=listen, args=(url, VIEWERS, seconds, theirs))
            audience.start()
            time.sleep(SECONDS)  # Until all of them listen.
            spent = _spent_s(processes, SECONDS)
            got = pipe.recv()
            audience.join()
            job.cancel()
    percent = round(100 * spent / SECONDS, 1)
    _print(
        f"{VIEWERS} subscribers of a run of {ROWS:,} rows",
        {
            "rows_each_min": min(got),
            "rows_each_max": max(got),
            "percent_of_a_core": percent,
            "percent_without": round(100 * idle / SECONDS, 1),
        },
        {"percent_of_a_core": 30},
    )


def _spent_s(processes: Sequence[psutil.Process], seconds: float) -> float:
    """CPU that they take meanwhile."""
    before = sum(sum(each.cpu_times()[:2]) for each in processes)
    time.sleep(seconds)
    return sum(sum(each.cpu_times()[:2]) for each in processes) - before


MEASURES = {
    "end-to-end": measure_end_to_end,
    "hop": measure_hop,
    "slow": measure_slow,
    "rows": measure_rows,
}


def main() -> None:
    for name in sys.argv[1:] or MEASURES:
        MEASURES[name]()


if __name__ == "__main__":
    main()
