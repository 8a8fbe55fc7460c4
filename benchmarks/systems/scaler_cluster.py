"""OpenGRIS Scaler: object storage, scheduler, and a manager of workers."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from scaler import Client

from benchmarks.processes import Daemons, free_port, listens


class Adapter:
    def __init__(self, folder: Path, worker_count: int) -> None:
        self._count = worker_count
        self._daemons = Daemons(folder)
        self._client: Any = None

    def start(self) -> None:
        programs = Path(sys.executable).parent
        port, storage_port = free_port(), free_port()
        storage, address = f"tcp://127.0.0.1:{storage_port}", f"tcp://127.0.0.1:{port}"
        self._daemons.start("head", [str(programs / "scaler_object_storage_server"), storage])
        self._daemons.until(lambda: listens(storage_port), "the object storage listens")
        scheduler = str(programs / "scaler_scheduler")
        self._daemons.start("head", [scheduler, "--object-storage-address", storage, address])
        self._daemons.until(lambda: listens(port), "the scheduler listens")
        manager = [str(programs / "scaler_worker_manager"), "baremetal_native"]
        manager += ["--worker-manager-id", "bench", "--mode", "fixed"]
        manager += ["--max-task-concurrency", str(self._count)]
        self._daemons.start("worker", [*manager, "--object-storage-address", storage, address])
        self._client = Client(address=address)

    def submit(
        self, function: Callable[[Any], Any], arguments: Sequence[object]
    ) -> list[Future[Any]]:
        submit = self._client.submit
        return [submit(function, each) for each in arguments]

    def gather(self, handles: Sequence[Future[Any]]) -> list[Any]:
        return [handle.result() for handle in handles]

    def processes(self) -> dict[str, list[int]]:
        return self._daemons.roots()

    def stop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
        self._daemons.stop()
