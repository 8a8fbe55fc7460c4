"""Where the blobs of a coordinator lie: in its data folder, and in an object store if set."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.data.store_note import note_for
from lineshaft_coordinator.data.stored_objects import INDEX, StoredObjects
from lineshaft_coordinator.settings import CoordinatorSettings
from lineshaft_runtime.object_errors import ObjectStoreUnreachableError
from lineshaft_runtime.object_store import ObjectStore

logger = logging.getLogger(__name__)

UNLIMITED_BYTES = 1 << 62
CLAIM_S = 60.0
"""How long the start waits for the object store."""


async def open_blobs(settings: CoordinatorSettings) -> tuple[BlobStore, ObjectMover | None]:
    """Open what is set; the object store must answer when it is used for the first time.

    Raises:
        ObjectStoreError: It cannot be used.
        ObjectStoreSettingError: Blobs lie in one, and none is set.
        OSError: The data folder cannot be used.
    """
    folder = settings.data / "blobs"
    note = note_for(settings.data, settings.blob_store)
    stored = None
    if note is not None:
        # Its package is loaded here, which takes its time.
        store = await asyncio.to_thread(ObjectStore, note.url)
        stored = StoredObjects(folder / INDEX, store)
    blobs = BlobStore(
        folder,
        blob_bytes_max=settings.blob_bytes_max,
        total_bytes_max=settings.blob_total_bytes_max or UNLIMITED_BYTES,
        stored=stored,
    )
    if note is None or stored is None:
        return blobs, None
    mover = ObjectMover(blobs, stored, note)
    try:
        async with asyncio.timeout(CLAIM_S):
            await mover.claim()
    except (ObjectStoreUnreachableError, TimeoutError) as error:
        if not note.is_claimed and isinstance(error, ObjectStoreUnreachableError):
            raise
        if not note.is_claimed:
            detail = f"it did not answer in {CLAIM_S:g} s"
            raise ObjectStoreUnreachableError(note.url, detail) from error
        # What is running goes on, and what is here can be had; it is tried again.
        logger.warning("the object store is away", extra={"why": str(error)})
    return blobs, mover


@asynccontextmanager
async def moving(mover: ObjectMover | None) -> AsyncGenerator[None]:
    """Move blobs to the object store meanwhile, if there is one."""
    if mover is None:
        yield
        return
    task = asyncio.create_task(mover.run(), name="mover")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
