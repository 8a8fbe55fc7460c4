"""Starts daemons by forking a process that has imported them: a tenth of a second instead of one.

Some hundred tests start daemons, and some kill them a thousand times: they would spend most of
their time on imports. What is forked runs the same `main` with its own environment, session and
log, and dies like any other.
"""

import atexit
import contextlib
import gc
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

PRELOADED = {
    "lineshaft_coordinator": (
        "lineshaft_coordinator.__main__",
        "lineshaft_coordinator.server.serve",
    ),
    "lineshaft_worker": ("lineshaft_worker.__main__",),
    "lineshaft": ("lineshaft.cli.app", "lineshaft.async_client", "lineshaft.core.machine"),
    "tests.faults.launcher": (
        "lineshaft_coordinator.__main__",
        "lineshaft_coordinator.server.serve",
        "lineshaft_worker.__main__",
    ),
    "tests.integration.store.crashing_writer": ("asyncio", "lineshaft_coordinator.store.sqlite"),
}
"""What a nursery imports before it forks, by the module that is run."""
READ_EARLY = ("LD_", "PYTHON", "GLIBC_", "MALLOC_")
"""Variables that mean nothing to a process that runs already."""


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


@cache
def nursery_of(module: str) -> "Nursery":
    """The one of this test process for `python -m MODULE`; ends with it."""
    made = Nursery(module)
    atexit.register(made.close)
    return made


def run_forked(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    folder: Path | None = None,
    said: str = "",
    within_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run `python COMMAND` to its end as `subprocess.run` does, in a fork.

    Args:
        command: `-m MODULE …`, of a module in `PRELOADED`.
        folder: Where it runs; where this process runs if None.
        said: What it reads from its standard input.

    Raises:
        TimeoutExpired: It went on for longer; it is killed.
    """
    with tempfile.TemporaryDirectory() as place:
        source, out, err = (Path(place, name) for name in ("in", "out", "err"))
        source.write_text(said)
        process = nursery_of(command[1]).start(
            command, environ, folder=folder or Path.cwd(), out=out, err=err, source=source
        )
        try:
            code = process.wait(within_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


def can_fork(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a fork is as good as a new interpreter for `python COMMAND`."""
    is_known = len(command) > 1 and command[0] == "-m" and command[1] in PRELOADED
    return is_known and not any(name.startswith(READ_EARLY) for name in environ)


class Nursery:
    """The process that forks; ends when it is closed, or with the process that made it."""

    def __init__(self, module: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests, which still need it then.
        )

    def close(self) -> None:
        """End it; what it forked goes on."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()

    def start(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        folder: Path,
        out: Path,
        err: Path,
        source: Path = Path(os.devnull),
    ) -> Nursling:
        """Fork one; `command` is what follows `python`: `-m MODULE …`. What it says is appended.

        It reads `source` as its standard input.
        """
        for said in (out, err):
            said.touch()  # Who looks for it at once finds it empty, not missing.
        asked = {
            "command": list(command),
            "environ": dict(environ),
            "folder": str(folder),
            "out": str(out),
            "err": str(err),
            "source": str(source),
        }
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
    if sys.argv[1].startswith("tests."):
        sys.path.insert(0, str(Path(__file__).parents[2]))
    for module in PRELOADED[sys.argv[1]]:
        __import__(module)
    make_codecs()
    # A child that looks for garbage, at its start or its end, writes to every object it looks at:
    # it would copy all pages that it shares with us, two thirds of what a short command takes.
    gc.collect()
    gc.freeze()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                be(**asked)
                return
        os.write(1, f"{answer}\n".encode())


def make_codecs() -> None:
    """Make what reads and writes messages; otherwise each process would make it for itself."""
    from lineshaft_protocol import codec
    from lineshaft_protocol.errors import ProtocolError
    from lineshaft_protocol.wire import Wire

    for each in (codec.FROM_CLIENT, codec.TO_CLIENT, codec.FROM_WORKER, codec.TO_WORKER):
        for no_message in (b"{}", b"[{}]"):
            with contextlib.suppress(ProtocolError):
                each.decode(no_message)
    models = Wire.__subclasses__()
    while models:
        model = models.pop()
        models += model.__subclasses__()
        model.model_rebuild()


def be(
    command: list[str], environ: dict[str, str], *, folder: str, out: str, err: str, source: str
) -> None:
    """Become what was asked for; ends as it would end."""
    os.setsid()
    os.chdir(folder)
    read = os.open(source, os.O_RDONLY)
    said = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for path in (out, err)]
    for target, opened in enumerate((read, *said)):
        os.dup2(opened, target)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environ)
    random.seed()
    sys.argv = command[1:]
    # What is imported already is run anew, and runpy would warn of that in the log.
    sys.modules.pop(f"{command[1]}.__main__", None)
    runpy.run_module(command[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
