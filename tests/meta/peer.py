"""A peer that knows nothing but protocol/README.md: plain JSON and msgpack on a stock library."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no stubs
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

HEAR_S = 20.0
VERSIONS = {"protocol_min": 1, "protocol_max": 1, "python": "3.11"}

Message = Mapping[str, Any]


class Peer:
    """One session."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.name = ""
        """The worker's, if it is one."""
        self._heard: list[Message] = []

    def tell(self, *messages: Message) -> None:
        """Send messages: one as an object, several as an array."""
        self.socket.send(json.dumps(messages[0] if len(messages) == 1 else messages))

    def chunk(self, blob_id: str, offset: int, data: bytes) -> None:
        """Send a piece of a blob."""
        fields = {"type": "BlobChunk", "blob_id": blob_id, "offset": offset, "data": data}
        self.socket.send(msgpack.packb(fields))

    def hear(self) -> Message:
        """The next message or chunk."""
        while not self._heard:
            frame = self.socket.recv(timeout=HEAR_S)
            if isinstance(frame, bytes):
                self._heard.append(msgpack.unpackb(frame))
            else:
                told = json.loads(frame)
                self._heard += told if isinstance(told, list) else [told]
        return self._heard.pop(0)

    def until(self, kind: str) -> Message:
        """The next message of this type; what comes before it is dropped."""
        while (message := self.hear())["type"] != kind:
            pass
        return message

    def closing(self) -> tuple[int | None, str]:
        """Code and reason with which the coordinator ends the session."""
        try:
            while True:
                self.socket.recv(timeout=HEAR_S)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")


@contextmanager
def session(url: str, path: str, token: str, **headers: str) -> Iterator[Peer]:
    """Dial, and leave in the end."""
    credentials = {"Authorization": f"Bearer {token}", **headers}
    dialling = connect(url + path, additional_headers=credentials, compression=None, max_size=None)
    with dialling as socket:
        yield Peer(socket)


def hello(**more: object) -> Message:
    """A client's first message."""
    return {"type": "ClientHello", "client_id": "strange-client", "versions": VERSIONS, **more}


def register(worker_id: str = "w1", **more: object) -> Message:
    """A worker's first message."""
    capacity = {"slots": 2, "cpus": 2.0, "memory_bytes": 1 << 30}
    return {
        "type": "Register",
        "worker_id": worker_id,
        "capabilities": {},
        "versions": VERSIONS,
        "capacity": capacity,
        "pythons": ["3.11"],
        "incarnation": "first",
        **more,
    }


def job(job_id: str, **more: object) -> Message:
    """A job of no meaning: nobody but a runner looks into its payload."""
    return {"job_id": job_id, "kind": "function", "payload": {"inline": "aGk="}, **more}


def submit(job_id: str, **more: object) -> Message:
    """A client's wish to have it run."""
    return {"type": "Submit", "job": job(job_id, **more)}


def ended(job_id: str, status: str = "succeeded", **more: object) -> Message:
    """A worker's word that attempt 1 is over."""
    return {
        "type": "Ended",
        "result": {"job_id": job_id, "attempt": 1, "status": status, **more},
    }
