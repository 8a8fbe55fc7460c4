"""Dask distributed: `dask scheduler`, and `dask worker`s with one thread each."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Future

from benchmarks.processes import Daemons


class Adapter:
    def __init__(self, folder: Path, worker_count: int) -> None:
        self._folder = folder
        self._count = worker_count
        self._daemons = Daemons(folder)
        self._client: Any = None

    def start(self) -> None:
        dask = str(Path(sys.executable).with_name("dask"))
        found = self._folder / "scheduler.json"
        at = ("--scheduler-file", str(found))
        local = ("--host", "127.0.0.1")
        self._daemons.start("head", [dask, "scheduler", *local, "--port", "0", "--no-show", *at])
        self._daemons.until(found.exists, "the scheduler listens")
        for _ in range(self._count):
            scratch = ("--local-directory", str(self._folder / "scratch"))
            one = ("--nthreads", "1", "--memory-limit", "0")
            self._daemons.start("worker", [dask, "worker", *at, *one, *local, *scratch])
        self._client = Client(scheduler_file=str(found))
        self._client.wait_for_workers(self._count, timeout=60)

    def submit(self, function: Callable[[Any], Any], arguments: Sequence[object]) -> list[Future]:
        # Arrays within one graph cost it several times as much as one by one.
        if len(arguments) == 1 or isinstance(arguments[0], np.ndarray):
            return [self._client.submit(function, each, pure=False) for each in arguments]
        futures: list[Future] = self._client.map(function, arguments, pure=False)
        return futures

    def gather(self, handles: Sequence[Future]) -> list[Any]:
        results: list[Any] = self._client.gather(list(handles))
        return results

    def processes(self) -> dict[str, list[int]]:
        return self._daemons.roots()

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._daemons.stop()
