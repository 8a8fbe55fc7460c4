"""HyperQueue: its package has server and workers as a library, so a process is made for them.

A Python task would be a new interpreter and return nothing; so the task is the program `true`.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hyperqueue import Client, Job
from hyperqueue.cluster import LocalCluster, WorkerConfig

from benchmarks.processes import Daemons


class Adapter:
    def __init__(self, folder: Path, worker_count: int) -> None:
        self._folder = folder / "server"
        self._count = worker_count
        self._daemons = Daemons(folder)
        self._client: Any = None

    def start(self) -> None:
        ready = self._folder / "ready"
        itself = [sys.executable, "-m", "benchmarks.systems.hyperqueue_cluster"]
        self._daemons.start("head", [*itself, str(self._folder), str(self._count)])
        self._daemons.until(ready.exists, "the server listens")
        self._client = Client(self._folder)

    def submit(
        self, function: Callable[[Any], Any], arguments: Sequence[object]
    ) -> list[tuple[Any, int]]:
        del function
        job = Job(default_workdir=str(self._folder))
        for _ in arguments:
            job.program(["true"], stdout=None, stderr=None)
        return [(self._client.submit(job), len(arguments))]

    def gather(self, handles: Sequence[tuple[Any, int]]) -> list[Any]:
        self._client.wait_for_jobs([job for job, _ in handles])
        return [None] * sum(count for _, count in handles)

    def processes(self) -> dict[str, list[int]]:
        return self._daemons.roots()

    def stop(self) -> None:
        self._daemons.stop()


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    cluster = LocalCluster(str(folder))
    for _ in range(count):
        cluster.start_worker(WorkerConfig(cores=1))
    (folder / "ready").touch()
    threading.Event().wait()


if __name__ == "__main__":
    main()
