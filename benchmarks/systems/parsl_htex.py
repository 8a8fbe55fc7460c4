"""Parsl's HighThroughputExecutor: an interchange, and a pool with one process for each worker."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import parsl
import psutil
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


class Adapter:
    def __init__(self, folder: Path, worker_count: int) -> None:
        self._folder = folder
        self._count = worker_count
        self._apps: dict[object, Any] = {}

    def start(self) -> None:
        # The interchange and the pool are programs of the environment.
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        executor = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=1,
            encrypted=True,
            provider=LocalProvider(
                init_blocks=self._count, min_blocks=self._count, max_blocks=self._count
            ),
        )
        config = Config(
            executors=[executor],
            run_dir=str(self._folder / "runs"),
            strategy="none",
            usage_tracking=0,
        )
        parsl.load(config)

    def submit(self, function: Callable[[Any], Any], arguments: Sequence[object]) -> list[Any]:
        app = self._apps.get(function)
        if app is None:
            app = self._apps[function] = parsl.python_app(function)
        return [app(each) for each in arguments]

    def gather(self, handles: Sequence[Future[Any]]) -> list[Any]:
        return [handle.result() for handle in handles]

    def processes(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"head": [], "worker": []}
        for process in _all_below():
            line = " ".join(process.cmdline())
            if "interchange" in line:
                found["head"].append(process.pid)
            elif "process_worker_pool" in line:
                found["worker"].append(process.pid)
        return found

    def stop(self) -> None:
        parsl.dfk().cleanup()


def _all_below() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)
