"""A real coordinator and a real worker, each in a process of its own."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.nursery import Nursling, nursery_of

from lineshaft import Client


def until(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


class Shop:
    """One coordinator, which may be stopped and started again, and its workers."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.home = folder / "home"
        self._folder, self._flags = folder, flags
        self._environ = {**os.environ, "LINESHAFT_HOME": str(self.home)}
        self._environ.pop("LINESHAFT_URL", None)
        self._coordinator: Nursling | None = None
        self._workers: list[Nursling] = []
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "coordinator.json").read_text())["url"])

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def start(self) -> None:
        """Start the coordinator, on the port it had before."""
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        flags = ["--listen", f"127.0.0.1:{self.port}", "--port-file", str(port_file), *self._flags]
        # By wire, because cables are cut here; files have tests of their own.
        self._coordinator = self._daemon("lineshaft_coordinator", "--blobs-by-wire", *flags)
        until(port_file.exists)
        self.port = int(port_file.read_text())

    def kill_coordinator(self) -> None:
        """End it as a power cut would."""
        assert self._coordinator is not None
        self._coordinator.kill()
        self._coordinator.wait()

    def hire(self, name: str = "w1", *, slots: int = 2) -> None:
        """Start a worker; the fixture's client waits for it."""
        self._workers.append(
            self._daemon("lineshaft_worker", "--name", name, "--slots", str(slots))
        )

    def client(self, **settings: object) -> Client:
        return Client(self.url, token=self.token, **settings)  # type: ignore[arg-type]

    def close(self) -> None:
        """End all of it."""
        for process in (*self._workers, self._coordinator):
            if process is not None:
                process.terminate()
        for process in (*self._workers, self._coordinator):
            if process is not None:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _daemon(self, module: str, *flags: str) -> Nursling:
        log = self._folder / f"{module}.log"
        return nursery_of(module).start(
            ["-m", module, *flags], self._environ, folder=Path("/"), out=log, err=log
        )


def wait_for_workers(client: Client, count: int = 1) -> None:
    def are_here() -> bool:
        workers = client.workers()
        return isinstance(workers, list) and len(workers) >= count

    until(are_here)


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A coordinator and a worker with two slots, for all tests that leave them as they are."""
    # All workers are known before the first test: what fits nowhere is refused from the start.
    made = Shop(tmp_path_factory.mktemp("shop"), "--set", "first_workers_s=0")
    made.hire()
    try:
        with made.client() as client:
            wait_for_workers(client)
        yield made
    finally:
        made.close()


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[Shop]:
    """A coordinator and a worker that the test may do anything to."""
    made = Shop(tmp_path)
    made.hire()
    try:
        with made.client() as client:
            wait_for_workers(client)
        yield made
    finally:
        made.close()


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with shop.client() as made:
        yield made
