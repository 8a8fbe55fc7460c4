"""Connections that break, coordinators that go away, and ones that are not there at all."""

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest
from tests.integration.client.conftest import Shop, until

from lineshaft import AsyncClient, Client
from lineshaft.errors import (
    AccessDeniedError,
    CoordinatorUnreachableError,
    NoCoordinatorError,
    WrongCertificateError,
)
from lineshaft.job_events import Finished, Log

WAIT_S = 60.0

TALKS = (
    "import time\n"
    "def main(count):\n"
    "    for number in range(count):\n"
    "        print(number, flush=True)\n"
    "        time.sleep(0.01)\n"
)


def add(a: int, b: int = 1) -> int:
    return a + b


def count_up(path: str) -> int:
    """Count how often this was called."""
    from pathlib import Path as Remote  # noqa: PLC0415 - on the worker

    with Remote(path).open("a") as file:
        file.write("x")
    return len(Remote(path).read_text())


class Cable:
    """A way to the coordinator that can be cut, before or after so many bytes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut_count = 0
        self.bytes_left: int | None = None
        """Bytes to the coordinator after which the cable breaks by itself."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break all connections, without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()
        self.cut_count += 1

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        up = self._carry(reader, far_writer, is_up=True)
        await asyncio.gather(up, self._carry(far_reader, writer, is_up=False))
        self._writers -= {writer, far_writer}

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                if is_up and self.bytes_left is not None:
                    self.bytes_left -= len(data)
                    if self.bytes_left < 0:
                        self.bytes_left = None
                        self.cut()
                        return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def cable(shop: Shop) -> AsyncIterator[Cable]:
    async with Cable(shop.port) as made:
        yield made


@pytest.fixture
async def client(shop: Shop, cable: Cable) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(cable.url, token=shop.token) as made:
        yield made


async def test_jobs_survive_cuts_and_run_once(
    client: AsyncClient, cable: Cable, tmp_path: Path
) -> None:
    jobs = []
    for number in range(40):
        jobs.append(client.submit(count_up, str(tmp_path / str(number))))
        if number % 8 == 3:
            # Some are done, some are under way, some were never sent.
            await jobs[number - 3].exception(WAIT_S)
            cable.cut()

    async with asyncio.timeout(WAIT_S):
        results = await asyncio.gather(*jobs)

    assert results == [1] * 40
    assert cable.cut_count == 5


async def test_events_go_on_after_a_cut_without_gap_or_repetition(
    client: AsyncClient, cable: Cable
) -> None:
    job = client.run("work.py:main", files={"work.py": TALKS}, params={"count": 100})
    text = ""
    async with asyncio.timeout(WAIT_S):
        async for event in job.events():
            if isinstance(event, Log):
                text += event.text
                if len(text) > 60 * (cable.cut_count + 1):
                    cable.cut()
            elif isinstance(event, Finished):
                assert event.status == "succeeded"

    assert text.split() == [str(number) for number in range(100)]
    assert cable.cut_count >= 2


async def test_a_large_argument_arrives_whole_over_a_cable_that_breaks(
    client: AsyncClient, cable: Cable
) -> None:
    data = bytes(range(256)) * 80_000
    cable.bytes_left = len(data) // 2

    job = client.submit(len, data)

    assert await job.result(WAIT_S) == len(data)
    assert cable.cut_count == 1


async def test_a_large_result_arrives_whole_over_a_cable_that_breaks(
    client: AsyncClient, cable: Cable
) -> None:
    job = client.submit(lambda: bytes(range(256)) * 80_000)
    await job.exception(WAIT_S)
    fetching = asyncio.create_task(job.result())
    await asyncio.wait([fetching], timeout=0.01)
    cable.cut()

    assert await asyncio.wait_for(fetching, WAIT_S) == bytes(range(256)) * 80_000


def test_jobs_survive_the_death_of_the_coordinator(own_shop: Shop, tmp_path: Path) -> None:
    with own_shop.client() as client:
        before = [client.submit(count_up, str(tmp_path / f"a{i}")) for i in range(20)]
        own_shop.kill_coordinator()
        during = [client.submit(count_up, str(tmp_path / f"b{i}")) for i in range(20)]
        own_shop.start()

        assert [future.result(WAIT_S) for future in before + during] == [1] * 40
        assert client.submit(add, 1).result(WAIT_S) == 2


def test_a_coordinator_that_has_forgotten_everything_is_given_it_again(
    own_shop: Shop, tmp_path: Path
) -> None:
    with own_shop.client() as client:
        assert client.submit(add, 1).result(WAIT_S) == 2
        own_shop.kill_coordinator()
        shutil.rmtree(own_shop.home / "data")
        future = client.submit(add, 2)
        own_shop.start()

        assert future.result(WAIT_S) == 3


def test_without_a_coordinator_the_error_comes_in_time_and_names_the_url() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        started_s = time.monotonic()

        with pytest.raises(CoordinatorUnreachableError, match=f"ws://127.0.0.1:{port}"):
            Client(f"127.0.0.1:{port}", token="x", connect_timeout=0.5)

    assert time.monotonic() - started_s < 5


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        with pytest.raises(CoordinatorUnreachableError, match=r"0\.5 s"):
            Client(f"127.0.0.1:{silent.getsockname()[1]}", token="x", connect_timeout=0.5)


def test_a_wrong_token_is_told_at_once(shop: Shop) -> None:
    started_s = time.monotonic()

    with pytest.raises(AccessDeniedError, match="token"):
        Client(shop.url, token="not-this-one", connect_timeout=WAIT_S)

    assert time.monotonic() - started_s < WAIT_S / 2


def test_a_machine_without_a_coordinator_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINESHAFT_HOME", str(tmp_path))
    monkeypatch.delenv("LINESHAFT_URL", raising=False)

    with pytest.raises(NoCoordinatorError, match="Start one"):
        Client()


@pytest.fixture
def secure_shop(tmp_path: Path) -> Iterator[Shop]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program to make a certificate with")
    made = Shop(tmp_path, "--tls-self-signed")
    try:
        yield made
    finally:
        made.close()


def test_a_pinned_certificate_is_trusted_and_no_other(secure_shop: Shop) -> None:
    import hashlib  # noqa: PLC0415 - only here
    import ssl  # noqa: PLC0415 - likewise

    pem = ssl.get_server_certificate(("127.0.0.1", secure_shop.port), timeout=5)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    wrong = digest[::-1]

    with Client(secure_shop.url, token=f"ls1.{digest}.{secure_shop.token}") as client:
        assert "epoch" in str(client.info())
    with pytest.raises(WrongCertificateError):
        Client(secure_shop.url, token=f"ls1.{wrong}.{secure_shop.token}")
    with pytest.raises(CoordinatorUnreachableError, match="TLS"):
        Client(secure_shop.url, token=secure_shop.token, connect_timeout=0.5)


def test_a_client_of_this_machine_needs_no_arguments(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINESHAFT_HOME", str(shop.home))
    monkeypatch.delenv("LINESHAFT_URL", raising=False)

    with Client() as client:
        until(lambda: client.submit(add, 1).result(WAIT_S) == 2)
