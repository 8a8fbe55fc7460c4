"""Writes the files of a training: its log, ``progress.json``, and where we go on after a restart.

The store is the truth and the files follow it. What cannot be written now is made again later: a
log that lost its end from the store, the other files from the fold.
"""

import asyncio
import json
import logging
import tarfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError
from lineshaft_coordinator.finetune import fold as folds
from lineshaft_coordinator.finetune import views
from lineshaft_coordinator.finetune.files import ShortLogError, TrainingFiles, read_json, replace
from lineshaft_coordinator.finetune.following import Following
from lineshaft_coordinator.finetune.unpacking import BlobFile, unpack_all
from lineshaft_coordinator.store.interface import EventRow, Store
from lineshaft_protocol.kept_files import KeptFile

logger = logging.getLogger(__name__)

SAVE_EVERY_S: Final = 15.0
"""How often a fold is saved: that is what has to be read again after a restart."""
PAGE_EVENTS: Final = 2000
PAGE_BYTES: Final = 1024 * 1024
_STATE_VERSION: Final = 1


class Scribe:
    """Writes in threads, for each training one thing after the other.

    Args:
        files: Where everything lies.
        store: Where a log is made again from.
        blob_file: Where a blob lies; None: checkpoints are not laid out as folders.
    """

    def __init__(
        self, files: TrainingFiles, store: Store, blob_file: BlobFile | None = None
    ) -> None:
        self.files, self._store, self._blob_file = files, store, blob_file
        self._unpacking = asyncio.Lock()

    def restore(self, following: Following) -> None:
        """Go on from the fold that was saved last, if it is whole and its log is there; blocks."""
        saved = read_json(self.files.fold(following.job_id))
        if not isinstance(saved, dict) or saved.get("version") != _STATE_VERSION:
            return
        try:
            fold = folds.load(saved.get("fold"))
            size_bytes = self.files.log(following.job_id).stat().st_size if fold.log_bytes else 0
        except (ValueError, OSError):
            return
        if size_bytes >= fold.log_bytes:
            following.fold, following.log_written = fold, fold.log_bytes
            is_over = following.story.outcome is not None
            following.is_news = not (is_over and saved.get("is_final") is True)

    async def write(self, following: Following) -> None:
        """Write what is out of date."""
        if not following.has_files:
            return
        async with following.lock:
            await self._write_log(following)
            following.is_news = False
            state: dict[str, JsonValue] | None = None
            is_final = following.story.outcome is not None
            is_due = time.monotonic() - following.saved_at > SAVE_EVERY_S
            if (is_due or is_final) and following.log_written == following.fold.log_bytes:
                following.saved_at = time.monotonic()
                state = {"version": _STATE_VERSION, "is_final": is_final}
                state["fold"] = folds.dump(following.fold)
            progress = views.progress_file(
                following.fold, following.standing(), following.request, time.time()
            )
            job_id = following.job_id
            await self._attempt(job_id, lambda: self._replace(job_id, progress, state))

    async def write_log(self, following: Following) -> None:
        """Write what is missing of the log."""
        if following.has_files:
            async with following.lock:
                await self._write_log(following)

    async def unpack(self, job_id: str, files: Sequence[KeptFile]) -> None:
        """Lay the checkpoints that are kept out as folders, one training at a time."""
        blob_file, folder = self._blob_file, self.files.logs(job_id)
        if blob_file is None:
            return
        async with self._unpacking:
            try:
                await asyncio.to_thread(unpack_all, folder, files, blob_file)
            except (OSError, tarfile.TarError, BlobElsewhereError) as error:
                fields = {"job_id": job_id, "why": str(error)}
                logger.warning("a checkpoint cannot be laid out as a folder", extra=fields)

    async def make_log(self, following: Following) -> None:
        """Write a log from its beginning."""
        async with following.lock:
            await self._make_log(following)

    async def _write_log(self, following: Following) -> None:
        if following.log_written is None:
            await self._make_log(following)
            return
        pieces, following.log_pieces = following.log_pieces, []
        if not pieces:
            return
        job_id, behind = following.job_id, following.log_written
        following.log_written = behind + sum(len(encoded(each)) for each in pieces)
        if not await self._attempt(
            job_id, lambda: self.files.append_log(job_id, pieces, behind=behind)
        ):
            following.log_written = None

    async def _make_log(self, following: Following) -> None:
        """Write the log from its beginning, up to what is in the fold now."""
        following.log_pieces, end, job_id = [], following.fold.place, following.job_id
        after, written = (0, 0), 0
        while after < end:
            rows = await self._store.events_of(
                job_id, after=after, limit=PAGE_EVENTS, bytes_max=PAGE_BYTES
            )
            wanted = [row for row in rows if (row.attempt, row.seq) <= end]
            if not wanted:
                break
            pieces, behind = texts_of(wanted), written
            written += sum(len(encoded(each)) for each in pieces)
            after = wanted[-1].attempt, wanted[-1].seq
            if not await self._attempt(
                job_id,
                partial(self.files.append_log, job_id, pieces, behind=behind),
            ):
                return
        following.log_written = written

    def _replace(self, job_id: str, progress: bytes, state: dict[str, JsonValue] | None) -> None:
        replace(self.files.progress(job_id), progress)
        if state is not None:
            data = json.dumps(state, allow_nan=False, separators=(",", ":"))
            replace(self.files.fold(job_id), data.encode())

    async def _attempt(self, job_id: str, write: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(write)
        except (OSError, ShortLogError) as error:
            fields = {"job_id": job_id, "why": str(error)}
            logger.warning("the files of a training cannot be written", extra=fields)
            return False
        return True


def encoded(text: str) -> bytes:
    """Return text as a log has it."""
    return text.encode("utf-8", "replace")


def texts_of(rows: list[EventRow]) -> list[str]:
    """Return what was printed, of a page of events."""
    texts: list[str] = []
    for row in rows:
        try:
            event = json.loads(row.body)
        except ValueError:
            continue  # In the story of the job stands a notice in its place.
        match event:
            case {"kind": "log", "body": {"text": str(text)}}:
                texts.append(text)
            case _:
                pass
    return texts
