"""Who takes a file over: the loop itself, or a thread; see `quick_disk`."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.quick_disk import QuickDisk


class Adopting:
    """Takes over files for all sessions of one loop; their maker had the disk begin with them.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._disk = QuickDisk(clock)

    def is_quick(self, store: BlobStore, blob_id: str, size_bytes: int) -> bool:
        """Whether `at_once` may be called for a file that comes now."""
        is_for_loop = self._disk.is_for_loop(size_bytes)
        return is_for_loop and not store.would_wait(blob_id, size_bytes)

    def at_once(self, store: BlobStore, blob_id: str, path: Path, size_bytes: int) -> None:
        """Take a file over, here and now.

        Raises:
            BlobError: As `BlobStore.adopt`.
        """
        with self._disk.on_loop():
            store.adopt(blob_id, path, size_bytes)

    async def in_thread(self, store: BlobStore, blob_id: str, path: Path, size_bytes: int) -> None:
        """Take a file over in a thread.

        Raises:
            BlobError: As `BlobStore.adopt`.
        """
        with self._disk.in_thread():
            await asyncio.to_thread(store.adopt, blob_id, path, size_bytes)
