"""Messages between the coordinator and its recorder: a length, JSON, a line end, perhaps a body.

The body is JSON, too: an answer that the coordinator hands on without looking into it.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

HEAD: Final = struct.Struct("<I")


def encoded(message: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Return a message as it travels."""
    head = json.dumps(message, separators=(",", ":")).encode()
    return HEAD.pack(len(head) + 1 + len(body)) + head + b"\n" + body


def decoded(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Read a message, without its length."""
    head, _, body = data.partition(b"\n")
    return json.loads(head), body


class Link:
    """The recorder's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._data = bytearray()
        self.is_open = True

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def receive(self) -> list[dict[str, Any]]:
        """Read what is there; call it when the socket can be read."""
        try:
            data = self._socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.is_open = False
        self._data += data
        found: list[dict[str, Any]] = []
        while len(self._data) >= HEAD.size:
            (size,) = HEAD.unpack_from(self._data)
            end = HEAD.size + size
            if len(self._data) < end:
                break
            found.append(decoded(bytes(self._data[HEAD.size : end]))[0])
            del self._data[:end]
        return found

    def send(self, message: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message; nothing happens if nobody is there."""
        try:
            self._socket.sendall(encoded(message, body))
        except OSError:
            self.is_open = False
