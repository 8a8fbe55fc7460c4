"""One coordinator and one worker for all tests of feeds, and sockets to look through."""

import json
import socket as sockets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.farm import Farm, farm
from tests.integration.feeds.conductor import Conducted, conducted
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lineshaft import Client
from lineshaft_coordinator.server.admission import Tokens


@pytest.fixture(scope="session")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("hall")) as made:
        made.start_worker("w1", "--slots", "8")
        with made.client() as client:
            made.until_ready(client)
        yield made


@pytest.fixture
def client(hall: Farm) -> Iterator[Client]:
    with hall.client() as client:
        yield client


@pytest.fixture
def conduct(client: Client, tmp_path: Path) -> Iterator[Callable[..., Conducted]]:
    jobs: list[Conducted] = []

    def start(**options: Any) -> Conducted:
        jobs.append(conducted(client, tmp_path / "scores", **options))
        return jobs[-1]

    yield start
    for made in jobs:
        made.job.cancel()


class Socket:
    """A viewer on a WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.close_code: int | None = None
        self.close_reason = ""

    def next(self, within_s: float = 20.0) -> dict[str, Any] | None:
        """The next message; None once the server hung up."""
        try:
            data = self.connection.recv(within_s)
        except ConnectionClosed as closed:
            received = closed.rcvd
            self.close_code = received.code if received else None
            self.close_reason = received.reason if received else ""
            return None
        found: dict[str, Any] = json.loads(data, parse_constant=_refuse)
        return found

    def rest(self) -> list[dict[str, Any]]:
        """All messages until the server hangs up."""
        found: list[dict[str, Any]] = []
        while (message := self.next()) is not None:
            found.append(message)
        return found

    def until(self, kind: str) -> list[dict[str, Any]]:
        """All messages up to the first of this type."""
        found: list[dict[str, Any]] = []
        while (message := self.next()) is not None:
            found.append(message)
            if message["type"] == kind:
                return found
        raise AssertionError(f"hung up without {kind}: {self.close_code} {self.close_reason}")


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


class House:
    """The coordinator as its viewers see it."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.token = (farm.home / "token").read_text().strip()
        self.tokens = Tokens(farm.folder / "data", self.token)
        self._stack = ExitStack()
        self._clients: dict[str, httpx.Client] = {}

    def look(self, path: str, *, token: str | None = None, buffer_bytes: int = 0) -> Socket:
        """Open a WebSocket; its token goes into the query."""
        mark = "&" if "?" in path else "?"
        url = f"{self.farm.url}{path}{mark}token={token or self.token}"
        raw = None
        if buffer_bytes:
            raw = sockets.socket()
            # Set before it connects, for the window is agreed upon then.
            raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, buffer_bytes)
            raw.connect(("127.0.0.1", self.farm.port))
        options: dict[str, Any] = {"max_queue": 1} if raw is not None else {}
        connection = connect(url, sock=raw, max_size=None, compression=None, **options)
        return Socket(self._stack.enter_context(connection))

    def http(self, token: str | None = None) -> httpx.Client:
        """A client of the REST interface."""
        secret = token or self.token
        if secret not in self._clients:
            made = httpx.Client(
                base_url=f"http://127.0.0.1:{self.farm.port}",
                headers={"Authorization": f"Bearer {secret}"},
                timeout=30,
            )
            self._clients[secret] = self._stack.enter_context(made)
        return self._clients[secret]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def house(hall: Farm) -> Iterator[House]:
    made = House(hall)
    yield made
    made.close()
