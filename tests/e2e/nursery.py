"""Starts daemons by forking a process that has imported them: a tenth of a second instead of one.

Tests that kill a daemon a thousand times would spend most of their time on imports. What is
forked runs the same `main` with its own environment, session and log, and dies like any other.
"""

import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

PRELOADED = {
    "coordinator": ("lineshaft_coordinator.__main__", "lineshaft_coordinator.server.serve"),
    "worker": ("lineshaft_worker.__main__",),
}


class Nursling:
    """A forked daemon, with as much of `subprocess.Popen` as tests use."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid, self._nursery = pid, nursery
        self._pidfd = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status as `Popen` has it, None while it runs."""
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            self.returncode = self._nursery.status_of(self.pid)
            os.close(self._pidfd)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: It went on for longer.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(f"daemon {self.pid}", timeout or 0)
            select.select([self._pidfd], [], [], left)
        return status

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """The process that forks; ends with the `with` block."""

    def __init__(self, who: str, environ: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, who],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()

    def start(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> Nursling:
        """Fork a daemon; `command` is what follows `python`: `-m MODULE …` or `FILE …`."""
        asked = {"command": list(command), "environ": dict(environ), "log": str(log)}
        return Nursling(self, self._ask(asked))

    def status_of(self, pid: int) -> int:
        """Collect one that has ended."""
        return self._ask({"wait": pid})

    def _ask(self, asked: Mapping[str, object]) -> int:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


def main() -> None:
    """Fork whoever is asked for, until nobody can ask any more."""
    for module in PRELOADED[sys.argv[1]]:
        __import__(module)
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                be(asked["command"], asked["environ"], asked["log"])
        os.write(1, f"{answer}\n".encode())


def be(command: list[str], environ: dict[str, str], log: str) -> None:
    """Become a daemon."""
    status = 1
    try:
        os.setsid()
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(environ)
        random.seed()
        is_module = command[0] == "-m"
        sys.argv = command[1:] if is_module else command
        if is_module:
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - the end of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
