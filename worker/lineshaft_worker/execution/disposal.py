"""Deletes what nobody needs any more, beside other work."""

import asyncio
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.state_folder import delete_files


class Disposal:
    """Deletes in threads: a folder of many files must not hold up the daemon."""

    def __init__(self) -> None:
        self._working: set[asyncio.Future[None]] = set()

    def files_of(self, attempt: Attempt) -> None:
        """Delete what an attempt left in its runner's folder, if there is anything."""
        if attempt.has_files and attempt.folder is not None:
            has_begun = not attempt.is_left_out
            self._do(partial(delete_files, attempt.folder, attempt.ticket, has_begun=has_begun))

    def folder(self, path: Path) -> None:
        """Delete a folder, as far as that can be done."""
        self._do(partial(shutil.rmtree, path, ignore_errors=True))

    async def drained(self) -> None:
        """Wait until nothing is being deleted."""
        while self._working:
            await asyncio.wait(list(self._working))

    def _do(self, work: Callable[[], None]) -> None:
        future = asyncio.get_running_loop().run_in_executor(None, work)
        self._working.add(future)
        future.add_done_callback(self._working.discard)
