"""Ray: a head node without CPUs and a node with one for each worker, or one node for all."""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray

from benchmarks.processes import Daemons, families, free_port, listens

STORE_BYTES = 2 << 30
WORKERS = ("ray::", "default_worker.py")


class Adapter:
    def __init__(self, folder: Path, worker_count: int, *, one_node: bool = False) -> None:
        self._count = worker_count
        self._one_node = one_node
        self._daemons = Daemons(folder)
        self._remote: dict[object, Any] = {}
        # Its sockets lie below this folder, and the kernel allows a path 107 bytes.
        self._scratch = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)

    def start(self) -> None:
        # Else it depends on a file in the user's home whether its processes ask for tokens.
        os.environ["RAY_AUTH_MODE"] = "disabled"
        port = free_port()
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block"]
        command += ["--disable-usage-stats", "--node-ip-address", "127.0.0.1"]
        command += ["--object-store-memory", str(STORE_BYTES), "--num-gpus", "0"]
        head = ["--head", "--port", str(port), "--include-dashboard", "false"]
        head += ["--temp-dir", self._scratch.name]
        cpus = self._count if self._one_node else 0
        self._daemons.start("head", [*command, *head, "--num-cpus", str(cpus)])
        self._daemons.until(lambda: listens(port), "the head listens")
        address = f"127.0.0.1:{port}"
        # It listens before it can be joined: a worker that comes too early ends.
        self._daemons.until(lambda: self._connected(address), "the driver connects")
        if not self._one_node:
            for _ in range(self._count):
                joining = ["--address", address, "--num-cpus", "1"]
                self._daemons.start("worker", [*command, *joining])
        self._daemons.until(
            lambda: ray.cluster_resources().get("CPU", 0) >= self._count, "nodes register"
        )

    def _connected(self, address: str) -> bool:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError):
            return False
        return True

    def submit(self, function: Callable[[Any], Any], arguments: Sequence[object]) -> list[Any]:
        call = self._remote.get(function)
        if call is None:
            call = self._remote[function] = ray.remote(function)
        if self._one_node:
            arguments = [
                ray.put(each) if isinstance(each, np.ndarray) else each for each in arguments
            ]
        return [call.remote(each) for each in arguments]

    def gather(self, handles: Sequence[Any]) -> list[Any]:
        results: list[Any] = ray.get(list(handles))
        return results

    def processes(self) -> dict[str, list[int]]:
        roots = self._daemons.roots()
        if self._one_node:
            members = [process for process in families(roots)["head"] if _is_worker(process)]
            roots["worker"] = [process.pid for process in members]
        return roots

    def stop(self) -> None:
        ray.shutdown()
        self._daemons.stop()
        self._scratch.cleanup()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any(mark in " ".join(process.cmdline()) for mark in WORKERS)
    except psutil.Error:
        return False
