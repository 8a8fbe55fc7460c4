"""Moves blobs between the coordinator's disk and the object store, beside everything else.

Nobody waits for the mover but those who read what is only in the store: a blob is accepted when it
is on our disk. While the store is away, blobs stay here and room is all that runs out.
"""

import asyncio
import logging
import time
from contextlib import AbstractContextManager, suppress
from functools import partial

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.data.store_note import StoreNote
from lineshaft_coordinator.data.stored_objects import StoredObjects
from lineshaft_protocol.blob_messages import BlobStoreNotice
from lineshaft_runtime.object_errors import ObjectStoreError, ObjectStoreTakenError
from lineshaft_runtime.object_lane import DOUBT_S, ObjectLane
from lineshaft_runtime.object_places import Beat

logger = logging.getLogger(__name__)

COPIES_BYTES_MAX = 4 * 1024**3
"""Length of the copies that stay here of what is in the store: the ones used last."""
AT_A_TIME = 2
WAIT_S_MAX = 60.0
LOOK_EVERY_S = 60.0


class ObjectMover:
    """Moves what waits, removes what was struck, brings what is asked for.

    Args:
        blobs: Told of `stored`.
        stored: What lies in the store.
        note: Whose store it is.
        copies_bytes_max: See `COPIES_BYTES_MAX`.
        doubt_s: When a store that does not answer is probed; see `ObjectLane`.
        look_every_s: How often the store is looked at while there is nothing to do, in seconds.
    """

    def __init__(
        self,
        blobs: BlobStore,
        stored: StoredObjects,
        note: StoreNote,
        *,
        copies_bytes_max: int = COPIES_BYTES_MAX,
        doubt_s: float = DOUBT_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._blobs, self._stored, self._note = blobs, stored, note
        self._copies_bytes_max = copies_bytes_max
        self._look_every_s = look_every_s
        store = stored.store
        self._lane = ObjectLane(store.url, probe=store.look_for_marker, doubt_s=doubt_s)
        self._wanted = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # The loop is closed: the next start looks.
                loop.call_soon_threadsafe(self._wanted.set)

        stored.on_waiting = wake
        self._problem: str | None = None
        self._is_claimed = False
        self._is_noted = False

    @property
    def problem(self) -> str | None:
        """Why the store cannot be used now; None as far as we know that it can."""
        return self._lane.outage or self._problem

    @property
    def waiting_count(self) -> int:
        """How many blobs wait to be moved there."""
        return self._stored.waiting_count

    @property
    def notice(self) -> BlobStoreNotice:
        """What a worker is told, so that it can find the store."""
        return BlobStoreNotice(
            url=self._stored.store.url,
            store_id=self._note.store_id,
            bytes_min=self._stored.bytes_min,
        )

    async def claim(self) -> None:
        """Make sure that the store is there and ours.

        Raises:
            ObjectStoreError: It is not.
        """
        note, store = self._note, self._stored.store
        if not note.is_claimed:
            await asyncio.to_thread(note.saved, is_claimed=False)
        await self._lane.run(lambda _: store.claim(note.store_id, is_new=not note.is_claimed))
        if not self._is_noted:
            self._note = await asyncio.to_thread(note.saved, is_claimed=True)
        self._is_claimed = self._is_noted = True

    async def run(self) -> None:
        """Move until cancelled, whatever becomes of the store."""
        wait_s = 1.0
        while True:
            self._wanted.clear()
            try:
                if not self._is_claimed:
                    await self.claim()
                await self._remove_struck()
                await self._move_waiting()
            except (ObjectStoreError, BlobError, OSError) as error:
                if self._problem is None or wait_s >= WAIT_S_MAX:
                    is_final = isinstance(error, ObjectStoreTakenError)
                    level = logging.ERROR if is_final else logging.WARNING
                    logger.log(level, "the object store waits", extra={"why": str(error)})
                self._problem = str(error)
                self._is_claimed = False  # Another place may be there when it is back.
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, WAIT_S_MAX)
                continue
            if self._problem is not None:
                logger.info("the object store is back", extra={"url": self._stored.store.url})
            self._problem, wait_s = None, 1.0
            try:
                async with asyncio.timeout(self._look_every_s):
                    await self._wanted.wait()
            except TimeoutError:
                self._is_claimed = False  # Look whether it is there: nobody else may ask for long.

    async def _move_waiting(self) -> None:
        while names := self._stored.waiting(AT_A_TIME):
            ends = await asyncio.gather(*map(self._move, names), return_exceptions=True)
            for error in filter(None, ends):
                raise error
            await self._trim()

    async def _move(self, blob_id: str) -> None:
        try:
            file = self._blobs.open(blob_id)
        except BlobError:  # Collected meanwhile.
            self._stored.dropped(blob_id)
            return
        try:
            with self._stored.expected(blob_id) as is_free:
                if is_free:
                    replaces = self._stored.is_distrusted(blob_id)
                    put = partial(self._stored.store.put, replaces=replaces)
                    await self._lane.run(partial(put, blob_id, file.path))
                    await asyncio.to_thread(self._stored.enter, blob_id, file.size_bytes)
        except (ObjectStoreError, OSError):
            if self._blobs.is_here(blob_id):
                self._stored.postpone(blob_id)  # What is wrong with it must not hold up others.
                raise
            self._stored.dropped(blob_id)

    async def _trim(self) -> None:
        most = self._copies_bytes_max
        surplus = self._stored.surplus_copies(bytes_max=most)
        if surplus:
            await asyncio.to_thread(self._blobs.drop_copies, surplus)

    async def _remove_struck(self) -> None:
        for blob_id in self._stored.struck():
            await self._lane.run(partial(self._remove, blob_id))

    def _remove(self, blob_id: str, beat: Beat) -> None:
        del beat
        self._stored.remove(blob_id)

    # --- for sessions ---

    def is_away(self, blob_id: str) -> bool:
        """Whether a blob is in the store and not here."""
        return blob_id in self._stored and not self._blobs.is_here(blob_id)

    def size(self, blob_id: str) -> int | None:
        """Length in bytes of a blob that is in the store; None of others."""
        return self._stored.size(blob_id)

    def holding(self, blob_id: str) -> AbstractContextManager[None]:
        """Keep the copy of a blob that is read, though it be larger than all copies may be."""
        return self._stored.holding(blob_id)

    async def bring(self, blob_id: str) -> None:
        """Have a copy of a blob here, if it is only in the store.

        Raises:
            BlobError: It cannot be had.
        """
        if not self.is_away(blob_id):
            return
        with self.holding(blob_id):
            try:
                await self._lane.run(partial(self._blobs.bring, blob_id))
            except ObjectStoreError as error:
                self._doubt()
                raise BlobElsewhereError(blob_id, str(error)) from error
            except BlobElsewhereError:
                self._doubt()
                raise
            await self._trim()

    def _doubt(self) -> None:
        """Somebody could not read: look soon whether the store is there."""
        self._is_claimed = False
        self._wanted.set()

    async def look(self, blob_id: str, size_bytes: int) -> bool:
        """Look for an object that a worker says to have put there, and enter it."""
        if self._stored.size(blob_id) == size_bytes:
            return self._stored.make_young(blob_id)
        try:
            with self._stored.expected(blob_id) as is_free:
                if not is_free or self._stored.is_distrusted(blob_id):
                    return False  # What was damaged has to come here first, and replaces it.
                found = await self._lane.run(lambda _: self._stored.store.size(blob_id))
                if found != size_bytes:
                    return False
                return await asyncio.to_thread(self._stored.enter, blob_id, size_bytes)
        except (ObjectStoreError, OSError) as error:
            # Whatever it is, the worker waits for an answer.
            self._doubt()
            logger.warning("an object cannot be entered", extra={"why": str(error)})
            return False

    # --- sweeping ---

    async def sweep(self, *, older_than_s: float) -> int:
        """Remove objects and drafts that nobody told us of; returns how many.

        Raises:
            ObjectStoreError: They cannot be listed or removed.
            OSError: Our own disk failed.
        """
        before = time.time() - older_than_s

        def strays(beat: Beat) -> list[str]:
            # What lies in another one's place is not ours to remove, whatever is mounted there now.
            self._stored.store.claim(self._note.store_id, is_new=False)
            found: list[str] = []
            for each in self._stored.store.objects():
                beat()
                is_old = each.changed_at is not None and each.changed_at < before
                if is_old and each.name not in self._stored:
                    found.append(each.name)
            return found

        found = [name for name in await self._lane.run(strays) if self._stored.strike_stray(name)]
        drafts = await self._lane.run(lambda _: self._stored.store.remove_drafts(before=before))
        await self._remove_struck()
        return len(found) + drafts
