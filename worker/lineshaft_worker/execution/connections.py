"""The socket on which runners call."""

import asyncio
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Protocol, cast

from typing_extensions import override

from lineshaft_worker.execution.host import Host
from lineshaft_worker.runner.frames import Frame, FrameError, FrameReader, Hello
from lineshaft_worker.runner.link import SOCKET

logger = logging.getLogger(__name__)
_CREDENTIALS = struct.Struct("3i")


class Reception(Protocol):
    """Knows which runners may call."""

    def host_of(self, runner_id: str) -> Host | None:
        """Return the runner of that name, if there is one."""
        ...


class Listener:
    """Listens in the state folder, and leaves no socket behind."""

    def __init__(self, server: asyncio.Server, path: Path) -> None:
        self._server = server
        self._path = path

    @classmethod
    async def open(cls, folder: Path, reception: Reception) -> "Listener":
        """Begin to listen. The folder is ours alone (mode 0700).

        Raises:
            OSError: The file system has no sockets, or is read-only.
        """
        path = folder / SOCKET
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Named by a descriptor of its folder: a socket's path has 107 bytes at most.
        state = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listening.bind(f"/proc/self/fd/{state}/{SOCKET}")
            path.chmod(0o600)
        except OSError:
            listening.close()
            raise
        finally:
            os.close(state)
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: Connection(reception), sock=listening, backlog=128
        )
        return cls(server, path)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._server.close()
        self._path.unlink(missing_ok=True)


class Connection(asyncio.Protocol):
    """One connection of a runner. Whatever it says wrong ends it."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._host: Host | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # A stream server makes no other.
        peer = cast("socket.socket", transport.get_extra_info("socket"))
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = cast("tuple[int, int, int]", _CREDENTIALS.unpack(credentials))
        if uid != os.geteuid():
            logger.warning("connection of another user refused", extra={"uid": uid})
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except FrameError as error:
            self._refuse(str(error))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._host is not None and self._transport is not None:
            self._host.detach(self._transport)

    def _take(self, frame: Frame) -> None:
        if self._host is not None:
            if not self._host.take(frame):
                raise FrameError(f"{type(frame).__name__} is not for the daemon")
            return
        host = self._reception.host_of(frame.runner_id) if isinstance(frame, Hello) else None
        if host is None or not isinstance(frame, Hello) or self._transport is None:
            raise FrameError("this is no runner of ours")
        self._host = host
        host.attach(self._transport, frame)

    def _refuse(self, reason: str) -> None:
        runner_id = self._host.process.runner_id if self._host is not None else ""
        logger.warning(
            "runner broke the protocol", extra={"runner_id": runner_id, "reason": reason}
        )
        if self._transport is not None:
            self._transport.abort()
        if self._host is not None:
            self._host.stop(0.0)
