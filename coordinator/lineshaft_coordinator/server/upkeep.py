"""Forgets finished jobs in time, and then the blobs that no job names any more.

Theory. A blob goes only if no record that is kept names it, live or finished, and if it is old:
who brought it may be about to name it. What can race with a collection, and why it loses:

- A job is submitted with a blob that was old: `BlobStore.refer` made it young before.
- A worker brought a result and is cut off before it can say so. It comes back within what its
  lease and ``lost_after`` allow, counted from our own start if we were away; so much older must
  a blob be, and so long after our start do we wait.
- A record that names the blob waits for room on the disk: nothing is collected until long after.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lineshaft_coordinator.core.ledger import Job
from lineshaft_coordinator.data.blob_records import Collected
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.data.references import KeptBlobs, blobs_named
from lineshaft_coordinator.server.backups import Summary, backup_under_way
from lineshaft_coordinator.server.disk_room import DiskRoom
from lineshaft_coordinator.store.errors import StoreDamagedError, StoreFullError
from lineshaft_coordinator.store.interface import Store
from lineshaft_protocol.ids import JobId
from lineshaft_runtime.object_errors import ObjectStoreError

logger = logging.getLogger(__name__)

EVERY_S = 600.0
PRUNE_JOBS = 1000
BLOB_GRACE_S = 24 * 3600.0
"""How long a blob that no job names is kept: its job may be about to be submitted."""
QUIET_S = 3600.0
"""How long after our start, and after a full disk, nothing is collected."""
SWEEP_EVERY_S = 24 * 3600.0
"""How often we look for blobs that never had a job; otherwise only when jobs were pruned."""


class Upkeep:
    """Keeps a store and its blobs from growing for ever.

    Args:
        live: The ledger's jobs.
        keep_finished_s: How long finished jobs are kept, in seconds.
        mover: To and from the object store; None if there is none.
        wall: Wall time in seconds.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        room: DiskRoom,
        live: Mapping[JobId, Job],
        *,
        keep_finished_s: float,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        mover: ObjectMover | None = None,
    ) -> None:
        self._mover = mover
        self._store, self._blobs, self._room, self._live = store, blobs, room, live
        self._keep_finished_s = keep_finished_s
        self._wall, self._clock = wall, clock
        self._started_at = self._swept_at = clock()
        self._strays_at: float | None = None
        self._has_pruned = self._has_complained = False
        # Held by whoever needs that no blob is collected meanwhile.
        self._blobs_wanted = asyncio.Lock()

    async def run(self) -> None:
        """Tidy up every ten minutes, until cancelled.

        Raises:
            StoreError: The store failed.
        """
        while True:
            try:
                await self.tidy()
            except StoreFullError as error:
                logger.warning("no room to prune", extra={"why": str(error)})
            except StoreDamagedError as error:
                # What runs goes on; what we cannot read, we do not take for unneeded.
                logger.error("nothing was collected", extra={"why": str(error)})  # noqa: TRY400 - no bug
            except OSError as error:
                logger.warning("not all was collected", extra={"why": str(error)})
            await asyncio.sleep(EVERY_S)

    async def tidy(self) -> Collected:
        """Prune and collect what is due; returns the blobs that were removed."""
        await self._prune()
        async with self._blobs_wanted:
            # Uploads that nobody went on with; complete blobs are looked at below.
            given_up = await asyncio.to_thread(
                self._blobs.collect, lambda _: True, older_than_s=BLOB_GRACE_S, now=self._wall()
            )
            if not self._may_sweep():
                return given_up
            removed = await self._sweep()
        await self._sweep_strays()
        return Collected(given_up.count + removed.count, given_up.size_bytes + removed.size_bytes)

    async def back_up(self, data: Path, target: Path) -> Summary:
        """Back up the data folder of our store while it is written.

        Raises:
            StoreError: As `backups.backup_under_way`; nothing is left at the target.
        """
        async with self._blobs_wanted:
            with backup_under_way(target) as (database, complete):
                await self._store.backup(database)
                summary = await asyncio.to_thread(complete, data)
        logger.info("made a backup", extra={"target": str(target), "epoch": summary.store.epoch})
        return summary

    async def _prune(self) -> None:
        total = 0
        while True:
            before = self._wall() - self._keep_finished_s
            count = await self._store.prune(finished_before=before, limit=PRUNE_JOBS)
            total += count
            self._has_pruned = self._has_pruned or count > 0
            if count < PRUNE_JOBS:
                break
        if total:
            logger.info("forgot finished jobs", extra={"jobs": total})

    def _may_sweep(self) -> bool:
        now, full_at = self._clock(), self._room.full_at
        if now - self._started_at < QUIET_S + self._lost_after_max_s():
            return False
        if self._room.obstacle is not None or (full_at is not None and now - full_at < QUIET_S):
            return False
        return now - self._swept_at >= (QUIET_S if self._has_pruned else SWEEP_EVERY_S)

    async def _sweep(self) -> Collected:
        older_than_s = BLOB_GRACE_S + self._lost_after_max_s()
        # Both before anything is read: what comes meanwhile is younger, or is asked for next time.
        now, has_pruned = self._wall(), self._has_pruned
        self._has_pruned = False
        unneeded = set(self._blobs.names())

        kept = KeptBlobs()

        def keep_named(job_id: str, record: bytes) -> None:
            if not kept.takes(job_id, record):
                unneeded.difference_update(blobs_named(record))

        try:
            if unneeded:
                await self._store.scan(keep_named)
                unneeded.difference_update(kept.names())
        except BaseException:
            self._has_pruned = has_pruned
            raise
        removed = await asyncio.to_thread(
            self._blobs.collect,
            lambda blob_id: blob_id not in unneeded,
            older_than_s=older_than_s,
            now=now,
        )
        self._swept_at = self._clock()
        if kept.problem is not None and not self._has_complained:
            self._has_complained = True
            problem = {"job_id": kept.problem.job_id, "why": str(kept.problem)}
            logger.warning("blobs are kept for what cannot be read", extra=problem)
        fields = {"blobs": removed.count, "bytes": removed.size_bytes}
        logger.info("removed blobs that no job names", extra=fields)
        return removed

    async def _sweep_strays(self) -> None:
        """Remove objects that no worker told us of, once a day: the whole store is listed."""
        now = self._clock()
        is_due = self._strays_at is None or now - self._strays_at >= SWEEP_EVERY_S
        if self._mover is None or not is_due:
            return
        self._strays_at = now
        try:
            older_than_s = BLOB_GRACE_S + self._lost_after_max_s()
            count = await self._mover.sweep(older_than_s=older_than_s)
        except (ObjectStoreError, OSError) as error:
            logger.warning("the object store was not swept", extra={"why": str(error)})
        else:
            logger.info("removed objects that nobody knows", extra={"objects": count})

    def _lost_after_max_s(self) -> float:
        waits = (
            job.spec.timeouts.lost_after_s
            for job in self._live.values()
            if job.spec.timeouts is not None and job.spec.timeouts.lost_after_s is not None
        )
        return max(waits, default=0.0)
