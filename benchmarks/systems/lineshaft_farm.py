"""Lineshaft: a coordinator, and workers with one slot each."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lineshaft
from benchmarks.processes import Daemons
from lineshaft.futures import LineshaftFuture


class Adapter:
    def __init__(self, folder: Path, worker_count: int, *, by_wire: bool = False) -> None:
        self.home = folder / "home"
        self._count = worker_count
        self._head_flags = ("--blobs-by-wire",) if by_wire else ()
        self._daemons = Daemons(folder)
        self._client: lineshaft.Client | None = None

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        for name in [name for name in os.environ if name.startswith("LINESHAFT_")]:
            del os.environ[name]
        os.environ["LINESHAFT_HOME"] = str(self.home)
        quiet = ("--log-level", "warning")
        python = [sys.executable, "-m"]
        # As `lineshaft up` does: workers load their code beside the head, and are told its URL.
        workers = [
            self._daemons.start(
                "worker",
                [*python, "lineshaft_worker", "-", "--name", f"w{number}", "--slots", "1", *quiet],
                stdin=subprocess.PIPE,
            )
            for number in range(self._count)
        ]
        head = [*python, "lineshaft_coordinator", "--listen", "127.0.0.1:0", *quiet]
        self._daemons.start("head", [*head, *self._head_flags])
        kept = self.home / "coordinator.json"
        self._daemons.until(kept.exists, "the coordinator listens")
        url = json.loads(kept.read_text())["url"]
        for worker in workers:
            with worker.stdin as line:
                line.write(f"{url}\n".encode())
        self._client = lineshaft.Client()
        connected = self._client
        self._daemons.until(lambda: self._here(connected) == self._count, "workers register")

    @staticmethod
    def _here(client: lineshaft.Client) -> int:
        workers = client.workers()
        return len(workers) if isinstance(workers, list) else 0

    @property
    def client(self) -> lineshaft.Client:
        assert self._client is not None, "started"
        return self._client

    def submit(
        self, function: Callable[[Any], Any], arguments: Sequence[object]
    ) -> list[LineshaftFuture[Any]]:
        assert self._client is not None
        submit = self._client.submit
        return [submit(function, each) for each in arguments]

    def gather(self, handles: Sequence[LineshaftFuture[Any]]) -> list[Any]:
        return [handle.result() for handle in handles]

    def processes(self) -> dict[str, list[int]]:
        return self._daemons.roots()

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._daemons.stop()
