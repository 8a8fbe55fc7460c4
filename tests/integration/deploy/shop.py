"""Real daemons as processes, started the way deploy/ starts them."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sys.executable).parent
PATIENCE_S = 30.0

_Found = TypeVar("_Found")


def until(condition: Callable[[], _Found | None]) -> _Found:
    """Wait until the condition returns something true, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} stayed {found!r}"
        time.sleep(0.02)
    return found


class Shop:
    """Starts processes in one home, and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.data = folder / "data"
        self.logs = folder / "logs.txt"
        self._processes: list[subprocess.Popen[bytes]] = []

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """As bare as systemd's or Docker's, with the programs of this environment."""
        path = f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": path, "LINESHAFT_HOME": str(self.home), **(extra or {})}

    def start(
        self, command: Sequence[str | Path], extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process; it is killed at the end of the test if it still runs."""
        with self.logs.open("ab") as logs:
            process = subprocess.Popen(
                command,
                env=self.environment(extra),
                stdin=subprocess.DEVNULL,
                stdout=logs,
                stderr=logs,
            )
        self._processes.append(process)
        return process

    def start_coordinator(self, *flags: str) -> str:
        """Start one on a free port; returns its URL once it answers."""
        port = self.home / "port"
        arguments = flags or ("--listen", "127.0.0.1:0", "--data", str(self.data))
        process = self.start(["lineshaft-coordinator", *arguments, "--port-file", port])
        assert until(lambda: port.exists() or process.poll() is not None)
        assert process.poll() is None, self.logs.read_text()
        return f"ws://127.0.0.1:{port.read_text().strip()}"

    def workers(self, url: str) -> list[str]:
        """The workers that are connected."""
        token = (self.home / "token").read_text().strip()
        request = urllib.request.Request(
            f"http{url.removeprefix('ws')}/api/v1/workers",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            listed: list[dict[str, object]] = json.load(answer)
        return [str(worker["worker_id"]) for worker in listed]

    def end(self) -> None:
        """Kill what is left."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.kill()
            process.wait(timeout=10)
