"""A coordinator with a worker in processes of their own, and clients that know nothing of ours.

`SeedPeer` and `RawPeer` are written from the protocol's reference alone, on the stock `websockets`
library and on a bare socket; they use no code of Lineshaft.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import cloudpickle
from websockets.asyncio.client import ClientConnection, connect

PATIENCE_S = 30.0
_Found = TypeVar("_Found")
Document = dict[str, object]


async def until(condition: Callable[[], _Found | None]) -> _Found:
    """Wait until the condition returns something true, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := condition()):  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.01)
        return found


@dataclass(frozen=True)
class Town:
    """A running coordinator."""

    port: int
    token: str
    """Of a client; the local one is for everything."""
    other_token: str
    local_token: str
    worker_token: str

    def url(self, token: str | None = None, path: str = "/ws") -> str:
        return f"ws://127.0.0.1:{self.port}{path}?token={token or self.token}"

    def http(
        self,
        path: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> tuple[int, bytes]:
        """Ask over HTTP; a body makes it a POST."""
        if token is not None:
            query["token"] = token
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


class Processes:
    """Daemons in a folder of their own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._environ = {**os.environ, "LINESHAFT_HOME": str(home)}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> None:
        log = (self._home / f"{arguments[0]}.log").open("wb")
        with log:
            self._started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *arguments], env=self._environ, stderr=log, stdout=log
                )
            )

    def wait_for(self, condition: Callable[[], _Found | None]) -> _Found:
        """As `until`, before there is a loop."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, self.logs()
            assert all(each.poll() is None for each in self._started), self.logs()
            time.sleep(0.02)
        return found

    def logs(self) -> str:
        return "\n".join(each.read_text()[-3000:] for each in self._home.glob("*.log"))

    def stop(self) -> None:
        for each in reversed(self._started):
            each.terminate()
        for each in reversed(self._started):
            try:
                each.wait(15)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
        # A job that a failed test left running outlives its worker, as it should.
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self._home}/".encode() in each.read_bytes():
                    os.kill(int(each.parent.name), signal.SIGKILL)


class SeedPeer:
    """A client of dialects A to C: asks over one connection, by the book."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: Document | str | bytes) -> None:
        await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def hear(self) -> Document:
        async with asyncio.timeout(PATIENCE_S):
            text = await self.socket.recv()
        assert isinstance(text, str), "a worker answers text with text"
        heard = json.loads(text)
        assert isinstance(heard, dict)
        return heard

    async def hear_binary(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            data = await self.socket.recv()
        assert isinstance(data, bytes), data
        return data

    async def ask(self, message: Document | str) -> Document:
        await self.send(message)
        return await self.hear()

    async def run(self, plan: Document) -> Document:
        """Have a plan run; its result."""
        reply = await self.ask({"type": "AssignPlan", "plan": plan})
        assert list(reply) == ["type", "worker_id", "plan_id", "result"]
        assert (reply["type"], reply["plan_id"]) == ("PlanResult", plan["plan_id"])
        result = reply["result"]
        assert isinstance(result, dict)
        return result

    async def is_quiet(self) -> bool:
        """Whether nothing is said before the answer to a Ping."""
        return await self.ask({"type": "Ping"}) == {"type": "Pong"}


@asynccontextmanager
async def seed_peer(url: str) -> AsyncIterator[SeedPeer]:
    # What clients of dialects A and B read at most; and they send no pings either.
    async with connect(url, max_size=64 * 2**20, ping_interval=None, compression=None) as socket:
        yield SeedPeer(socket)


@dataclass(frozen=True)
class RawFrame:
    opcode: int
    is_final: bool
    payload: bytes


class RawPeer:
    """Sees every frame, as no library shows them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send_text(self, text: str) -> None:
        data = text.encode()
        assert len(data) < 65536
        length = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
        self._writer.write(b"\x81" + length + b"\0\0\0\0" + data)  # A mask of zeros masks nothing.

    def send_pong(self) -> None:
        self._writer.write(b"\x8a\x80\0\0\0\0")

    async def frame(self) -> RawFrame:
        async with asyncio.timeout(PATIENCE_S):
            first, length = await self._reader.readexactly(2)
            if length > 125:
                size = await self._reader.readexactly(2 if length == 126 else 8)
                length = int.from_bytes(size)
            payload = await self._reader.readexactly(length)
        return RawFrame(first & 0x0F, bool(first & 0x80), payload)


@asynccontextmanager
async def raw_peer(port: int, target: str) -> AsyncIterator[RawPeer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", "",
    )  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in answer.split(b"\r\n")[0], answer
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def upstream_pickle(plain: type) -> str:
    """Pickle an object of a class, made a filter of upstream's, as its clients do."""
    package, module = ModuleType("soma"), ModuleType("soma.filter")
    meta = type("FilterMeta", (type,), {"__module__": "soma.filter"})
    base = meta("Filter", (), {"__module__": "soma.filter"})
    module.FilterMeta, module.Filter = meta, base  # type: ignore[attr-defined]
    sys.modules.update({"soma": package, "soma.filter": module})
    # As if the class had been written in the client's own script.
    cloudpickle.register_pickle_by_value(sys.modules[plain.__module__])
    try:
        body = {k: v for k, v in vars(plain).items() if k not in {"__dict__", "__weakref__"}}
        body["__module__"] = "__main__"
        data = cloudpickle.dumps(meta(plain.__name__, (base,), body)(), protocol=5)
    finally:
        for name in ("soma", "soma.filter"):
            del sys.modules[name]
        # Or it would give us the class back, as it does inside one process.
        cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
    assert b"soma.filter" in data
    return base64.b64encode(data).decode()


def tensor(*values: float) -> Document:
    return {"type": "Tensor", "data": {"values": list(values), "shape": [len(values)]}}


def plan_of(
    plan: object,
    value: Document | None,
    filters: Mapping[str, str],
    *,
    plan_id: str = "p",
    mode: object = "Forward",
    metadata: object = None,
    **more: object,
) -> Document:
    """A plan as a client of dialects A or B writes it; what is named `s…` is trainable."""
    return {
        "plan_id": plan_id,
        "plan": plan,
        "input": None if value is None else {"source": "Inline", "value": value},
        "filters": [
            {"node_id": name, "pickled_filter": data, "state": None, "requirements": [],
             "trainable": name.startswith("s")}
            for name, data in filters.items()
        ],
        "mode": mode,
        "metadata": metadata,
        **more,
    }  # fmt: skip


def execute(node_id: str) -> Document:
    return {"Execute": {"node_id": node_id}}
