"""Large blobs straight to and from the coordinator's object store, where this machine reaches it.

Theory. The coordinator says on every connection where its object store is; the marker there shows
that what we find under that name is the same place. Credentials are this machine's own. What we
put there counts once the coordinator has looked for it; what we want, it says whether to look
there. Nobody has to know that there is such a way: whatever goes wrong with it, the answer is "not
this way", and the blob goes by the coordinator, which has the last word on errors.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lineshaft_protocol.blob_messages import BlobInStore, BlobOffer, BlobStoreNotice, FetchBlob
from lineshaft_protocol.ids import BlobId
from lineshaft_runtime.object_errors import ObjectStoreError, ObjectStoreUrlError
from lineshaft_runtime.object_lane import ObjectLane
from lineshaft_runtime.object_store import ObjectStore

logger = logging.getLogger(__name__)

PROBE_S = 15.0
"""How long blobs wait for the first look at the store, in seconds."""
LOOK_AGAIN_S = 60.0

Ask = BlobOffer | FetchBlob


class DirectStore:
    """The object store, as long as it turns out to be within reach. Used from one event loop only.

    Args:
        send: Sends a control message on the current connection.
    """

    def __init__(self, send: Callable[[Ask], None]) -> None:
        self._send = send
        self._notice: BlobStoreNotice | None = None
        self._store: ObjectStore | None = None
        self._lane: ObjectLane | None = None
        self._probing: asyncio.Task[None] | None = None
        self._is_known = asyncio.Event()
        """Whether the store was looked at, or there is none."""
        self._is_known.set()
        self._asked: dict[tuple[str, str], tuple[Ask, asyncio.Future[int | None]]] = {}

    # --- blobs ---

    async def give(self, blob_id: BlobId, path: Path, size_bytes: int) -> bool:
        """Put a file there whose hash is known; False if it must go by the coordinator."""
        notice = self._notice
        if notice is None or size_bytes < notice.bytes_min:
            return False
        await self._looked_at()
        store, lane = self._store, self._lane
        if store is None or lane is None:
            return False
        try:
            await lane.run(lambda beat: store.put(blob_id, path, beat))
        except ObjectStoreError as error:
            logger.warning("a blob goes by the coordinator", extra={"why": str(error)})
            return False
        offer = BlobOffer(blob_id=blob_id, size_bytes=size_bytes, is_in_store=True)
        is_taken = await self._ask(offer) == size_bytes
        if not is_taken:
            logger.warning("the coordinator did not find an object", extra={"blob_id": blob_id})
        return is_taken

    async def fetch(self, blob_id: BlobId, draft: Path) -> bool:
        """Make a file of a blob, whole and verified; False if it must come by the coordinator.

        Raises:
            OSError: The file cannot be written.
        """
        if self._notice is None:
            return False
        await self._looked_at()
        store, lane = self._store, self._lane
        if store is None or lane is None:
            return False
        if await self._ask(FetchBlob(blob_id=blob_id, in_store=True)) is None:
            return False
        try:
            with draft.open("wb") as file:
                await lane.run(lambda beat: store.get(blob_id, file.write, beat))
        except ObjectStoreError as error:
            logger.warning("a blob comes by the coordinator", extra={"why": str(error)})
            return False
        return True

    async def _looked_at(self) -> None:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._is_known.wait()
        except TimeoutError:
            self._is_known.set()  # Those after us do not wait for it again.

    async def _ask(self, ask: Ask) -> int | None:
        key = ask.type, ask.blob_id
        known = self._asked.get(key)
        if known is None:
            answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
            self._asked[key] = ask, answer
            self._send(ask)
        else:
            answer = known[1]
        return await asyncio.shield(answer)

    # --- the connection ---

    def on_registered(self, notice: BlobStoreNotice | None) -> None:
        """The coordinator has accepted us, and said where its object store is, if it has one."""
        if notice != self._notice or notice is None:
            self.close()
            self._notice = notice
            if notice is not None:
                self._is_known.clear()
                self._probing = asyncio.create_task(self._probe(notice))
            return
        # What was asked on a connection that is gone was perhaps not heard.
        for ask, _ in tuple(self._asked.values()):
            self._send(ask)

    def on_message(self, message: BlobInStore) -> None:
        """The coordinator has looked."""
        for kind in ("BlobOffer", "FetchBlob"):
            self._settle((kind, message.blob_id), message.size_bytes)

    def close(self) -> None:
        """Whatever waits goes another way."""
        if self._probing is not None:
            self._probing.cancel()
        self._notice = self._store = self._lane = self._probing = None
        self._is_known.set()
        for key in tuple(self._asked):
            self._settle(key, None)

    def _settle(self, key: tuple[str, str], size_bytes: int | None) -> None:
        _, answer = self._asked.pop(key, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(size_bytes)

    async def _probe(self, notice: BlobStoreNotice) -> None:
        """Look whether we can reach it, until we can."""
        lane, told = ObjectLane(notice.url, probe=partial(_looked_up, notice.url)), ""
        while True:
            try:
                store, marker = await lane.run(lambda _: _looked_up(notice.url))
                why = "" if marker == notice.store_id else "another place has that name here"
                if not why:
                    self._store, self._lane = store, lane
                    logger.info("large blobs go to the object store", extra={"url": notice.url})
            except ObjectStoreError as error:
                why = str(error)
                if isinstance(error, ObjectStoreUrlError):
                    logger.warning("large blobs go by the coordinator", extra={"why": why})
                    return  # A package is missing: that changes with our next start.
            finally:
                self._is_known.set()
            if not why:
                return
            if why != told:
                logger.warning("large blobs go by the coordinator", extra={"why": why})
            told = why
            await asyncio.sleep(LOOK_AGAIN_S)


def _looked_up(url: str) -> tuple[ObjectStore, str | None]:
    store = ObjectStore(url)
    return store, store.marker()
