"""The worker's part of streams: frames between the coordinator and the runners, passed on unread.

A runner that serves a stream dials a socket of its own for it. When it does, and whenever the
coordinator has taken us in again, the stream is said to be open; its client attaches, and the two
ends settle between themselves where to go on. Nothing of a stream is kept here.
"""

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from typing_extensions import override

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.stream_frames import (
    FRAME_BYTES_MAX,
    BytesLike,
    StreamOpen,
    decode_frame,
    encode_frame,
)
from lineshaft_runtime.fair_queue import FairQueue
from lineshaft_worker.execution.connections import Reception
from lineshaft_worker.execution.orders import AttemptKey
from lineshaft_worker.runner.stream_pipe import BUFFER_BYTES, LENGTH, SOCKET

logger = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("3i")
_JOIN_BYTES_MAX = 64 * 1024


class Way(Protocol):
    """The connection to the coordinator, whichever it is."""

    def send_binary(self, buffers: Sequence[BytesLike]) -> None:
        """Send one frame; nothing happens without a connection."""
        ...

    def is_writable(self) -> bool:
        """Whether there is one, and it takes more."""
        ...


class StreamPipes:
    """All streams that runners of this worker serve."""

    def __init__(self, folder: Path, way: Way, runners: Reception) -> None:
        self._path = folder / SOCKET
        self._folder = folder
        self._runners = runners
        self._queue = FairQueue(way.send_binary, way.is_writable)
        self._pipes: dict[str, Pipe] = {}
        self._server: asyncio.Server | None = None
        self._is_joined = False

    async def open(self) -> None:
        """Begin to listen, in a folder that is ours alone.

        Raises:
            OSError: The folder cannot be used.
        """
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Named by a descriptor of its folder: a socket's path has 107 bytes at most.
        state = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listening.bind(f"/proc/self/fd/{state}/{SOCKET}")
            self._path.chmod(0o600)
        except OSError:
            listening.close()
            raise
        finally:
            os.close(state)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Pipe(self), sock=listening)

    def close(self) -> None:
        """Stop; the runners dial the next daemon."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for pipe in tuple(self._pipes.values()):
            pipe.abort()

    # --- the coordinator's side ---

    def joined(self) -> None:
        """The coordinator has taken us in: say which streams are open."""
        self._is_joined = True
        for pipe in self._pipes.values():
            self._say_open(pipe)

    def cut(self) -> None:
        """The connection is gone; what was to be sent on it is void."""
        self._is_joined = False
        self._queue.clear()

    def flush(self) -> None:
        """The connection takes more."""
        self._queue.flush()

    def deliver(self, data: bytes | bytearray) -> None:
        """Pass a frame on to its runner; one of a stream that is not here is void.

        Raises:
            ProtocolError: It is no sound frame.
        """
        pipe = self._pipes.get(decode_frame(data).stream_id)
        if pipe is not None:
            pipe.send(data)

    # --- the runners' side ---

    def is_executing(self, runner_id: str, key: AttemptKey) -> bool:
        """Whether a runner has been given an attempt that has not ended."""
        host = self._runners.host_of(runner_id)
        return host is not None and any(each.key == key for each in host.sent.values())

    def entered(self, pipe: "Pipe") -> None:
        """A runner serves a stream, for the first time or again."""
        earlier = self._pipes.pop(pipe.stream_id, None)
        if earlier is not None:
            earlier.abort()
        self._pipes[pipe.stream_id] = pipe
        if self._is_joined:
            self._say_open(pipe)

    def left(self, pipe: "Pipe") -> None:
        """A runner is done with a stream, or gone."""
        if self._pipes.get(pipe.stream_id) is pipe:
            del self._pipes[pipe.stream_id]

    def pass_on(self, pipe: "Pipe", data: bytearray) -> None:
        """Send a runner's frame to the coordinator.

        Raises:
            ProtocolError: It is no sound frame, or of another stream.
        """
        if decode_frame(data).stream_id != pipe.stream_id:
            raise ProtocolError("a frame of another stream")
        if self._is_joined and not self._queue.put(pipe.stream_id, [data]):
            raise ProtocolError("more results are on their way than the window allows")

    def _say_open(self, pipe: "Pipe") -> None:
        self._queue.put(pipe.stream_id, [encode_frame(StreamOpen(pipe.stream_id, pipe.attempt))])


class Pipe(asyncio.BufferedProtocol):
    """One runner's connection. Whatever it says wrong ends it."""

    def __init__(self, pipes: StreamPipes) -> None:
        self._pipes = pipes
        self._transport: asyncio.Transport
        self.stream_id = ""
        self.attempt = 0
        self._has_entered = False
        self._data = bytearray(LENGTH.size)
        self._view = memoryview(self._data)
        self._filled = 0
        self._is_length = True

    def send(self, data: BytesLike) -> None:
        """Give the runner a frame; the client's window bounds what may wait here."""
        head = LENGTH.pack(len(data))
        if len(data) < _JOIN_BYTES_MAX:
            self._transport.write(head + data)
        else:
            self._transport.write(head)
            # A view, because the transport slices off what did not fit into the socket.
            self._transport.write(memoryview(data))

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # A stream server makes no other.
        peer = cast("socket.socket", transport.get_extra_info("socket"))
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            peer.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = cast("tuple[int, int, int]", _CREDENTIALS.unpack(credentials))
        if uid != os.geteuid():
            logger.warning("stream of another user refused", extra={"uid": uid})
            self.abort()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled < len(self._data):
            return
        try:
            length = self._take_piece(self._data)
        except (ProtocolError, ValueError) as error:
            fields = {"job_id": self.stream_id, "why": str(error)}
            logger.warning("a runner broke the protocol", extra=fields)
            self.abort()
            return
        self._is_length = not self._is_length
        self._data, self._filled = bytearray(length), 0
        self._view = memoryview(self._data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._has_entered:
            self._pipes.left(self)

    def _take_piece(self, data: bytearray) -> int:
        """Take a length or a frame; returns how long the next piece is."""
        if not self._is_length:
            self._take(data)
            return LENGTH.size
        length: int = LENGTH.unpack(data)[0]
        if not 0 < length <= FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {length} bytes")
        return length

    def _take(self, data: bytearray) -> None:
        if self._has_entered:
            self._pipes.pass_on(self, data)
            return
        match cast("object", json.loads(data)):
            case [str(runner_id), str(job_id), int(attempt)]:
                if not self._pipes.is_executing(runner_id, AttemptKey(job_id, attempt)):
                    raise ProtocolError("this runner does not execute the attempt")
            case _:
                raise ProtocolError("the first frame must say who it is")
        self.stream_id, self.attempt = job_id, attempt
        self._has_entered = True
        self._pipes.entered(self)
