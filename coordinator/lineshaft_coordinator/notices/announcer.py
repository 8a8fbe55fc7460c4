"""Announces checkpoints of jobs once they are on record.

Theory. Two tasks. One enters checkpoints: it hears of each commit, and after a start, after a
failure and now and then reads the journal from where it had read it last; both ways lead through
`_enter`, which knows what was entered. Entering gives the version, puts the file in place and
writes the notice down. The other task tells Redis what was entered. While Redis is away only the
newest untold notice of each model waits, and after each cut Redis is given again what it keeps
for those that come late, for it may have been started empty.

Nothing here delays a commit, and no failure here leaves this module.
"""

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from lineshaft_coordinator.core.io import Append, Effect
from lineshaft_coordinator.core.records import FILE_KEPT, FileKept
from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.journal import read_record
from lineshaft_coordinator.notices.placing import Placing
from lineshaft_coordinator.notices.redis_line import RedisLine
from lineshaft_coordinator.notices.registry import FILE_NAME, Registry
from lineshaft_coordinator.notices.settings import AnnouncerSettings
from lineshaft_coordinator.store.errors import StoreError, UnreadableRecordError
from lineshaft_coordinator.store.interface import JobRow, Store
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_runtime.checkpoint_notices import (
    CheckpointNotice,
    NoticeError,
    RedisPackageError,
    metadata_texts,
    without_password,
)

logger = logging.getLogger(__name__)

MODEL_TAG: Final = "model="
_HEARD_MAX: Final = 10_000
_READ_AFTER: Final = 1000
"""Checkpoints after which the journal is read again, so that a start has little to read."""
_READ_EVERY_S: Final = 3600.0
_FAILED_S: Final = 5.0
_ASK_EVERY_S: Final = 15.0
_WARN_EVERY_S: Final = 60.0
_RETRY_FIRST_S: Final = 0.25
_RETRY_MAX_S: Final = 5.0


class Announcer:
    """Gives checkpoints their versions and tells who listens on Redis.

    Args:
        data: The coordinator's data folder.
        keep_s: How long a model without a new checkpoint is remembered, in seconds.
    """

    def __init__(
        self,
        settings: AnnouncerSettings,
        store: Store,
        blobs: BlobStore,
        *,
        data: Path,
        keep_s: float,
    ) -> None:
        self._settings, self._store, self._blobs, self._keep_s = settings, store, blobs, keep_s
        self._registry = Registry(data / FILE_NAME)
        folder = settings.folder or data.absolute() / "checkpoints"
        self._placing = Placing(folder, copies=settings.folder is not None, kept=settings.kept)
        self._line = RedisLine(settings.redis)
        self._heard: asyncio.Queue[tuple[str, KeptFile]] = asyncio.Queue(_HEARD_MAX)
        self._untold = deque(self._registry.all_last(is_told=False))
        self._has_untold = asyncio.Event()
        self._has_asked = asyncio.Event()
        """Redis was asked for the versions it knows, or is away."""
        self._versioning = asyncio.Lock()
        """Held by who gives a version, or raises what the next one is."""
        self._forgotten: list[str] = []
        self._is_cut = False
        self._warned_at = float("-inf")

    def on_commit(self, effects: Sequence[Effect]) -> None:
        """Hear what was committed; a tap of the daemon."""
        for effect in effects:
            if type(effect) is Append and type(effect.record) is FileKept:
                record = effect.record
                if _is_checkpoint(record.file) and not self._heard.full():
                    # What finds no room is found in the journal.
                    self._heard.put_nowait((record.job_id, record.file))

    async def last(self, model_name: str) -> CheckpointNotice | None:
        """The last notice of a model, whether Redis has it or not."""
        return await asyncio.to_thread(self._registry.last, model_name)

    async def run(self) -> None:
        """Announce until cancelled; raises nothing."""
        try:
            await self._line.dial()
        except (RedisPackageError, ValueError) as error:
            logger.error("checkpoint notices are off", extra={"why": str(error)})  # noqa: TRY400 - no bug
            return
        logger.info("checkpoints are announced", extra=self._where())
        try:
            await asyncio.gather(self._enter_all(), self._tell_all())
        finally:
            await self._line.hang_up()

    def close(self) -> None:
        """Close the file, once `run` has ended."""
        self._registry.close()

    # --- entering ---

    async def _enter_all(self) -> None:
        await self._has_asked.wait()
        while True:
            try:
                await self._read_journal()
                for _ in range(_READ_AFTER):
                    try:
                        job_id, file = await asyncio.wait_for(self._heard.get(), _READ_EVERY_S)
                    except TimeoutError:
                        break
                    await self._enter(job_id, file)
            except (StoreError, sqlite3.Error, OSError) as error:
                # A full disk before all. The journal has what we miss.
                logger.warning("a checkpoint is announced later", extra={"why": str(error)})
                await asyncio.sleep(_FAILED_S)
            except Exception:
                logger.exception("a checkpoint is not announced")
                await asyncio.sleep(_FAILED_S)

    async def _read_journal(self) -> None:
        """Enter what is in the journal and was not heard of; of each model the newest."""
        cursor = await asyncio.to_thread(lambda: self._registry.cursor)
        found: list[FileKept] = []

        def take(record: bytes) -> None:
            try:
                kept = read_record(record)
            except UnreadableRecordError as error:
                logger.warning("a checkpoint is not announced", extra={"why": str(error)})
                return
            assert isinstance(kept, FileKept), "the type comes first in a record"
            found.append(kept)

        if cursor is None:
            # Announced is what comes from now on, not what was saved before anybody asked.
            end = await self._store.scan_beginning(FILE_KEPT, None, take)
        else:
            end = await self._store.scan_beginning(FILE_KEPT, cursor, take)
        newest: dict[str, FileKept] = {}
        for kept in found:
            if _is_checkpoint(kept.file):
                newest[await self._model_name(kept.job_id, kept.file)] = kept
        for kept in newest.values():
            await self._enter(kept.job_id, kept.file)
        passed = [(kept.job_id, kept.file.file_id) for kept in found]
        await asyncio.to_thread(self._registry.advance, end, passed)
        await self._forget()

    async def _enter(self, job_id: str, file: KeptFile) -> None:
        if await asyncio.to_thread(self._registry.has, (job_id, file.file_id)):
            return
        model_name = await self._model_name(job_id, file)
        try:
            async with self._versioning:
                notice = await asyncio.to_thread(self._write_down, job_id, file, model_name)
        except (StoreError, sqlite3.Error, OSError):
            raise
        except Exception:
            # It would fail the next time, too, and all others would wait behind it for ever.
            fields = {"job_id": job_id, "file": file.name}
            logger.exception("a checkpoint is not announced", extra=fields)
            await asyncio.to_thread(self._registry.skip, (job_id, file.file_id))
            return
        if notice is not None:
            self._untold.append(notice)
            self._has_untold.set()

    async def _model_name(self, job_id: str, file: KeptFile) -> str:
        return model_name_of(file, job_id, await self._store.row_of(job_id))

    def _write_down(self, job_id: str, file: KeptFile, model_name: str) -> CheckpointNotice | None:
        assert file.blob is not None, "a checkpoint without content is nothing to announce"
        key = job_id, file.file_id
        name = f"{file.name}.tar" if file.is_folder else file.name
        version = self._registry.version(model_name) + 1
        try:
            self._blobs.bring(BlobId(file.blob))
            blob = self._blobs.open(BlobId(file.blob)).path
            path = self._placing.place(blob, model_name, version, name)
        except BlobElsewhereError as error:
            raise OSError(str(error)) from error  # It is tried again.
        except (BlobError, FileNotFoundError) as error:
            fields = {"job_id": job_id, "file": file.name, "why": str(error)}
            logger.info("a checkpoint is gone before it was announced", extra=fields)
            self._registry.skip(key)
            return None
        facts = {
            "sha256": file.blob,
            "size_bytes": str(path.stat().st_size),
            "job_id": job_id,
            "file_id": file.file_id,
        }
        notice = CheckpointNotice(
            model_path=str(path),
            model_name=model_name,
            version=version,
            saved_at=_date_of(file.at),
            training_step=max(0, file.step or 0),
            metadata={**metadata_texts(file.metadata or {}), **facts},
        )
        self._registry.enter(key, notice, time.time())
        self._placing.retire(model_name)
        return notice

    async def _forget(self) -> None:
        """Remove the files of models that nobody trains any more; their versions are kept."""
        before = time.time() - self._keep_s
        names = await asyncio.to_thread(self._registry.forget_before, before)
        for name in names:
            await asyncio.to_thread(self._placing.clear, name)
        self._forgotten += names

    # --- telling ---

    async def _tell_all(self) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                await self._meet()
                retry_s = _RETRY_FIRST_S
                while True:
                    await self._tell_next()
            except Exception as error:  # noqa: BLE001 - Redis costs us a warning, whatever it does
                self._has_asked.set()
                self._on_cut(error)
                await self._line.hang_up()
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _RETRY_MAX_S)

    async def _meet(self) -> None:
        """Compare what Redis keeps with what we know."""
        await self._line.dial()
        theirs = _readable(await self._line.last_told())
        for name, notice in theirs.items():
            # Ours are behind after a restore of an older backup, or others publish under the name.
            if notice.version > await asyncio.to_thread(self._registry.version, name):
                async with self._versioning:
                    await asyncio.to_thread(self._registry.raise_to, name, notice.version)
        self._has_asked.set()
        told = await asyncio.to_thread(partial(self._registry.all_last, is_told=True))
        lost = [each for each in told if each.model_name not in theirs]
        await self._line.keep(lost)
        if self._is_cut:
            self._is_cut = False
            self._keep_newest()
            logger.info("checkpoints are announced again", extra=self._where())

    async def _tell_next(self) -> None:
        if not self._untold:
            self._has_untold.clear()
            try:
                async with asyncio.timeout(_ASK_EVERY_S):
                    await self._has_untold.wait()
            except TimeoutError:
                # A Redis that was started again has lost what it kept: see `_meet`.
                await self._line.ping()
                forgotten, self._forgotten = self._forgotten, []
                await self._line.drop(forgotten)
                return
        notice = self._untold[0]
        await self._line.tell(notice)
        await asyncio.to_thread(self._registry.mark_told, notice)
        self._untold.remove(notice)
        fields = {"model": notice.model_name, "version": notice.version}
        logger.info("checkpoint announced", extra=fields)

    def _on_cut(self, error: Exception) -> None:
        self._is_cut = True
        self._keep_newest()
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            why = str(error) or type(error).__name__
            fields = {**self._where(), "why": why, "untold_models": len(self._untold)}
            logger.warning("checkpoints are kept, but not announced", extra=fields)

    def _keep_newest(self) -> None:
        """Whoever listens again wants the newest of each model."""
        newest = {notice.model_name: notice for notice in self._untold}
        self._untold = deque(newest.values())

    def _where(self) -> dict[str, str]:
        redis = self._settings.redis
        return {"redis": without_password(redis.url), "channel": redis.channel}


def model_name_of(file: KeptFile, job_id: str, row: JobRow | None) -> str:
    """To which lineage a checkpoint belongs.

    What it says itself as ``model_name`` in its metadata; else the tag ``model=NAME`` of its job;
    else the job's name; else, for a job without one, its id.
    """
    said = (file.metadata or {}).get("model_name")
    if isinstance(said, str) and said.strip():
        return said.strip()
    for tag in row.tags.split(",") if row is not None else ():
        if tag.startswith(MODEL_TAG) and len(tag) > len(MODEL_TAG):
            return tag.removeprefix(MODEL_TAG)
    return (row.name if row is not None else "") or job_id


def _date_of(at: float) -> str:
    """When a worker's clock says that it was; by ours, if that is beyond all calendars."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC).isoformat()


def _is_checkpoint(file: KeptFile) -> bool:
    return file.kind == "checkpoint" and file.blob is not None


def _readable(texts: dict[str, str]) -> dict[str, CheckpointNotice]:
    found: dict[str, CheckpointNotice] = {}
    for name, text in texts.items():
        try:
            found[name] = CheckpointNotice.from_json(text)
        except NoticeError:
            continue
    return found


@asynccontextmanager
async def announcing(
    settings: AnnouncerSettings | None,
    store: Store,
    blobs: BlobStore,
    *,
    data: Path,
    keep_s: float,
) -> AsyncGenerator[Announcer | None]:
    """Announce as long as the block runs; nothing, if that is not wanted or cannot be done."""
    try:
        announcer = (
            None
            if settings is None
            else Announcer(settings, store, blobs, data=data, keep_s=keep_s)
        )
    except (sqlite3.Error, OSError) as error:
        logger.error("checkpoint notices are off", extra={"why": str(error)})  # noqa: TRY400 - no bug
        announcer = None
    if announcer is None:
        yield None
        return
    running = asyncio.create_task(announcer.run())
    try:
        yield announcer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        announcer.close()
