"""The way of a stream's frames between a runner and its daemon: a Unix socket of their own.

Each frame goes as it is on the WebSocket, behind its length, so the daemon passes it on unread.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Sequence

from lineshaft_protocol.stream_frames import FRAME_BYTES_MAX, BytesLike

SOCKET = "streams.sock"
LENGTH = struct.Struct("<I")
BUFFER_BYTES = 4 * 1024 * 1024
REDIAL_S_MAX = 1.0
WITHOUT_DAEMON_S = 600.0
"""How long a stream waits for the next daemon when its own is gone, in seconds."""

_JOIN_BYTES_MAX = 64 * 1024


class PipeLostError(Exception):
    """The connection to the daemon is gone; dial again."""


class NoDaemonError(Exception):
    """No daemon has come for too long."""


class StreamPipe:
    """The runner's end; blocking, for the main thread.

    Args:
        folder: The runner's.
        job_id: The stream's job.
        attempt: Its attempt, which this runner is executing.
    """

    def __init__(self, folder: str, job_id: str, attempt: int) -> None:
        self._folder = folder
        self._hello = json.dumps([folder.rpartition("/")[2], job_id, attempt]).encode()
        self._socket: socket.socket | None = None

    def dial(self) -> None:
        """Connect, to the next daemon if this one is gone.

        Raises:
            NoDaemonError: There is none for ten minutes.
        """
        self.close()
        give_up = time.monotonic() + WITHOUT_DAEMON_S
        wait_s = 0.01
        while time.monotonic() < give_up:
            try:
                self._socket = self._connect()
                self.send([self._hello])
            except (OSError, PipeLostError):
                time.sleep(wait_s)
                wait_s = min(wait_s * 1.6, REDIAL_S_MAX)
            else:
                return
        raise NoDaemonError

    def send(self, buffers: Sequence[BytesLike]) -> None:
        """Send a frame; returns when the kernel has all of it.

        Raises:
            PipeLostError: The daemon is gone.
        """
        connection = self._open()
        size = sum(map(len, buffers))
        try:
            if size <= _JOIN_BYTES_MAX:
                connection.sendall(b"".join((LENGTH.pack(size), *buffers)))
                return
            connection.sendall(LENGTH.pack(size) + bytes(buffers[0]))
            for buffer in buffers[1:]:
                connection.sendall(buffer)
        except OSError as error:
            raise PipeLostError from error

    def receive(self) -> bytearray:
        """Wait for the next frame.

        Raises:
            PipeLostError: The daemon is gone.
        """
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        if length > FRAME_BYTES_MAX:
            raise PipeLostError
        return self._exactly(length)

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            raise PipeLostError
        return self._socket

    def _exactly(self, length: int) -> bytearray:
        connection, data = self._open(), bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = connection.recv_into(view)
            except OSError as error:
                raise PipeLostError from error
            if not count:
                raise PipeLostError
            view = view[count:]
        return data

    def _connect(self) -> socket.socket:
        # Named by a descriptor of its folder: a socket's path has 107 bytes at most.
        state = os.open(f"{self._folder}/../..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                connection.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            connection.connect(f"/proc/self/fd/{state}/{SOCKET}")
        except OSError:
            connection.close()
            raise
        finally:
            os.close(state)
        return connection
