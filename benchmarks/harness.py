"""Runs scenarios: one client process for each life of a system, with a deadline for each step."""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import CannotInstallError, Environments
from benchmarks.processes import end_descendants
from benchmarks.scenarios import SCENARIOS
from benchmarks.systems import SYSTEMS, Kind

ROOT = Path(__file__).resolve().parents[1]
START_S = 150.0
STOP_S = 60.0

Row = dict[str, Any]


class Harness:
    """Measures systems one after the other, never two at once.

    Args:
        environments: Where the peers are installed.
        scratch: Folder for data; on the disk whose speed counts.
        budget_s: What takes longer than this at its own speed is left out.
    """

    def __init__(self, environments: Environments, scratch: Path, budget_s: float) -> None:
        self._environments = environments
        self._scratch = scratch
        self._budget_s = budget_s

    def measure(self, name: str, wanted: Sequence[str]) -> Iterator[Row]:
        """Rows for each wanted scenario of one system: figures, or why there are none."""
        for worker_count in sorted({SCENARIOS[each].worker_count for each in wanted}):
            left = [each for each in wanted if SCENARIOS[each].worker_count == worker_count]
            while left:
                for row in self._session(name, worker_count, left):
                    left.remove(row["scenario"])
                    yield {"system": name, "workers": worker_count, **row}

    def _session(self, name: str, worker_count: int, wanted: Sequence[str]) -> Iterator[Row]:
        """One life of a system. It ends early when a step hangs; that step has a row then."""
        kind = SYSTEMS[name]
        try:
            python = self._environments.python(kind)
        except CannotInstallError as error:
            yield from ({"scenario": each, "skipped": str(error)} for each in wanted)
            return
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._scratch))
        arguments = [name, str(worker_count), str(folder), str(self._budget_s), *wanted]
        client = _Client([python, "-m", "benchmarks.client", *arguments], kind, folder)
        try:
            yield from client.rows(wanted)
        finally:
            client.end()
            shutil.rmtree(folder, ignore_errors=True)


class _Client:
    def __init__(self, command: list[str], kind: Kind, folder: Path) -> None:
        self._log = folder / "client.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=_environ(kind),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def rows(self, wanted: Sequence[str]) -> Iterator[Row]:
        left = list(wanted)
        step, limit_s, is_ready = "start", START_S, False
        while True:
            told = self._next(limit_s)
            if isinstance(told, str):
                if step == "stop":
                    return
                # A start that fails once will fail for the others too.
                failed = left if not is_ready else [step]
                why = f"{step}: {told}" if not is_ready else told
                yield from ({"scenario": each, "failed": why} for each in failed)
                return
            if "begin" in told:
                step = told["begin"]
                known = SCENARIOS.get(step)
                limit_s = STOP_S if step == "stop" else known.limit_s if known else START_S
            elif "ready" in told:
                is_ready = True
            else:
                left.remove(told["scenario"])
                yield told
                step = left[0] if left else "stop"

    def _next(self, limit_s: float) -> Row | str:
        """What the client says next, or why it says nothing more."""
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            return f"nothing for {limit_s:g} s; {self._said()}"
        if line is None:
            return f"the client ended with {self._process.wait()}; {self._said()}"
        told: Row = json.loads(line)
        return told

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"last words: {lines[-1][-300:] if lines else 'none'}"

    def end(self) -> None:
        deadline = time.monotonic() + STOP_S
        if self._process.poll() is None:
            try:  # It stops by itself once it has said all; who hangs is killed.
                self._process.wait(0 if self._lines.empty() else deadline - time.monotonic())
            except subprocess.TimeoutExpired:
                self._process.kill()
        end_descendants()
        self._process.wait()


def _environ(kind: Kind) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LINESHAFT_")}
    return kept | {"PYTHONPATH": str(ROOT)} | dict(kind.variables)
