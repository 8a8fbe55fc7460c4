"""Blobs brought to the disk by and by, beside the work."""

import asyncio

from lineshaft_protocol.ids import BlobId
from lineshaft_worker.daemon.cache import BlobCache

SYNC_AFTER_S = 60.0
"""By then the kernel has written most of it by itself; to sync each blob as it arrives makes all
that waits for the disk wait longer, results before all."""


class LaterSyncs:
    """Syncs what came some time ago; what is lost before, with the power, is fetched again.

    Args:
        cache: Where the blobs are.
        after_s: How long the first of them waits, in seconds.
    """

    def __init__(self, cache: BlobCache, after_s: float = SYNC_AFTER_S) -> None:
        self._cache, self._after_s = cache, after_s
        self._waiting: list[BlobId] = []

    def add(self, blob_id: BlobId) -> None:
        """Have a blob synced by and by, in a thread; nobody waits for it."""
        self._waiting.append(blob_id)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._after_s, self._begin)

    def _begin(self) -> None:
        due, self._waiting = [each for each in self._waiting if each in self._cache], []
        asyncio.get_running_loop().run_in_executor(None, self._sync_all, due)

    def _sync_all(self, due: list[BlobId]) -> None:
        for blob_id in due:
            self._cache.sync(blob_id)
