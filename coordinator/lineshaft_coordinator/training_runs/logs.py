"""Logs of reported runs: ``runs/<id>/logs.jsonl``, one object a line."""

import asyncio
import json
import shutil
import time
from itertools import islice
from pathlib import Path

from pydantic import JsonValue

from lineshaft_coordinator.training_runs.words import timestamp


class RunLogs:
    """Appends and reads lines.

    Args:
        folder: Holds a folder for each run; the ids were checked to be those of runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = asyncio.Lock()

    async def append(self, run_id: str, level: str, message: str) -> JsonValue:
        """Keep one line."""
        entry: JsonValue = {
            "timestamp": timestamp(time.time()),
            "level": level.upper(),
            "message": message,
        }
        async with self._lock:  # Lines of a busy run must not mix.
            await asyncio.to_thread(self._append, run_id, json.dumps(entry) + "\n")
        return entry

    async def read(self, run_id: str, *, offset: int, limit: int) -> list[JsonValue]:
        """Read lines, in order."""
        return await asyncio.to_thread(self._read, run_id, offset, limit)

    async def delete(self, run_id: str) -> None:
        """Forget all lines."""
        await asyncio.to_thread(shutil.rmtree, self._folder / run_id, ignore_errors=True)

    def _append(self, run_id: str, line: str) -> None:
        path = self._path(run_id)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a") as file:
            file.write(line)

    def _read(self, run_id: str, offset: int, limit: int) -> list[JsonValue]:
        try:
            with self._path(run_id).open() as file:
                # The last line may be half written, if the disk was full.
                whole = (line for line in file if line.endswith("\n"))
                return [json.loads(line) for line in islice(whole, offset, offset + limit)]
        except FileNotFoundError:
            return []

    def _path(self, run_id: str) -> Path:
        return self._folder / run_id / "logs.jsonl"
