"""Workers whose sessions are real and whose runners are not: an attempt is a pause."""

import asyncio
import json
import random
from multiprocessing.connection import Connection as Pipe
from typing import Any

from lineshaft_runtime.connection import Connection, Limits
from lineshaft_runtime.dialing import dial

VERSIONS = {"protocol_min": 1, "protocol_max": 1, "python": "3.11"}
CAPACITY = {"slots": 1, "cpus": 4.0, "memory_bytes": 1 << 36}

Key = tuple[str, int]


class Worker:
    """One worker with one slot, as a listener of its session.

    Args:
        name: Its id.
        run_s: How long an attempt takes on average; drawn between half and one and a half of it.
        waits: Gets how long the slot was free before each attempt arrived, in seconds.
        draw: Where chance comes from.
    """

    def __init__(self, name: str, run_s: float, waits: list[float], draw: random.Random) -> None:
        self.registered = asyncio.Event()
        self._name = name
        self._run_s = run_s
        self._waits = waits
        self._draw = draw
        self._loop = asyncio.get_running_loop()
        self._running: dict[Key, asyncio.TimerHandle] = {}
        self._waiting: list[Key] = []
        self._free_since: float | None = None
        self._connection: Connection | None = None

    def on_open(self, connection: Connection) -> None:
        self._connection = connection
        self._say(
            type="Register",
            worker_id=self._name,
            capabilities={},
            versions=VERSIONS,
            capacity=CAPACITY,
            pythons=["3.11"],
            incarnation="first",
        )

    def on_text(self, connection: Connection, data: bytes) -> None:
        del connection
        told = json.loads(data)
        for message in told if isinstance(told, list) else [told]:
            self._hear(message)

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        del connection, data

    def on_writable(self, connection: Connection) -> None:
        del connection

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        del connection, code, reason
        self._connection = None

    def _say(self, **message: object) -> None:
        if self._connection is not None:
            self._connection.send_text(json.dumps(message))

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "Registered":
                self.registered.set()
                heartbeat_s = float(message["heartbeat_s"])
                self._loop.call_later(self._draw.uniform(0, heartbeat_s), self._beat, heartbeat_s)
            case "Assign":
                self._waiting.append((message["job"]["job_id"], message["attempt"]))
                self._begin()
            case "Recall":
                self._give_back((message["job_id"], message["attempt"]))
            case "Stop":
                self._end((message["job_id"], message["attempt"]), "stopped")
            case _:  # What is left needs no answer.
                pass

    def _beat(self, heartbeat_s: float) -> None:
        self._say(type="Heartbeat", worker_id=self._name, load={}, sent_at=self._loop.time())
        self._loop.call_later(heartbeat_s, self._beat, heartbeat_s)

    def _begin(self) -> None:
        if self._running or not self._waiting:
            return
        key = self._waiting.pop(0)
        if self._free_since is not None:
            self._waits.append(self._loop.time() - self._free_since)
            self._free_since = None
        took_s = self._run_s * self._draw.uniform(0.5, 1.5)
        self._running[key] = self._loop.call_later(took_s, self._end, key, "succeeded")

    def _end(self, key: Key, status: str) -> None:
        if (timer := self._running.pop(key, None)) is None:
            return
        timer.cancel()
        job_id, attempt = key
        result = {"job_id": job_id, "attempt": attempt, "status": status, "run_s": self._run_s}
        if not self._waiting:
            self._free_since = self._loop.time()
        self._say(type="Ended", result=result)
        self._begin()

    def _give_back(self, key: Key) -> None:
        if key in self._waiting:
            self._waiting.remove(key)
            self._say(type="Returned", job_id=key[0], attempt=key[1])


def run_workers(url: str, token: str, names: tuple[str, ...], run_s: float, pipe: Pipe) -> None:
    """Run so many workers in this process, until it is killed.

    The pipe gets a word once all are registered; who sends one gets the waits since the last time.
    """
    asyncio.run(_run(url, token, names, run_s, pipe))


async def _run(url: str, token: str, names: tuple[str, ...], run_s: float, pipe: Pipe) -> None:
    waits: list[float] = []
    draw = random.Random(names[0])
    workers = [Worker(name, run_s, waits, draw) for name in names]
    for worker in workers:
        await dial(f"{url}/v1/worker", worker, token=token, limits=Limits(), open_timeout_s=60)
        await worker.registered.wait()
    pipe.send("registered")
    loop = asyncio.get_running_loop()

    def tell() -> None:
        pipe.recv()
        told, waits[:] = list(waits), []
        pipe.send(told)

    loop.add_reader(pipe.fileno(), tell)
    await loop.create_future()
