"""One worker's use of the object store: what it has put there, and what it may get there."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from lineshaft_coordinator.data.blob_errors import BlobError
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_protocol.blob_messages import BlobInStore, BlobOffer, FetchBlob
from lineshaft_protocol.ids import BlobId

LOOKS_MAX = 1024
"""Most objects that are looked for on one session at a time."""


class ObjectDesk:
    """Answers in ``BlobInStore``.

    Args:
        mover: Of the coordinator; None if it has no object store.
        send: Sends the answer.
    """

    def __init__(self, mover: ObjectMover | None, send: Callable[[BlobInStore], None]) -> None:
        self._mover, self._send = mover, send
        self._looks: set[asyncio.Task[None]] = set()

    def on_fetch(self, fetch: FetchBlob) -> None:
        """Say whether a blob is in the store."""
        size_bytes = None if self._mover is None else self._mover.size(fetch.blob_id)
        self._send(BlobInStore(blob_id=fetch.blob_id, size_bytes=size_bytes))

    def on_offer(self, offer: BlobOffer) -> None:
        """Look for an object that was put there; from then on the blob is complete."""
        if self._mover is None or len(self._looks) >= LOOKS_MAX:
            self._send(BlobInStore(blob_id=offer.blob_id))
            return
        task = asyncio.create_task(self._look(self._mover, offer))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _look(self, mover: ObjectMover, offer: BlobOffer) -> None:
        is_there = await mover.look(offer.blob_id, offer.size_bytes)
        size_bytes = offer.size_bytes if is_there else None
        self._send(BlobInStore(blob_id=offer.blob_id, size_bytes=size_bytes))

    def once_here(self, blob_id: BlobId, then: Callable[[BlobId], None]) -> None:
        """Do something with a blob: at once, or once it was brought here, or could not be."""
        if self._mover is None or not self._mover.is_away(blob_id):
            then(blob_id)
            return
        task = asyncio.create_task(self._bring_first(blob_id, then))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _bring_first(self, blob_id: BlobId, then: Callable[[BlobId], None]) -> None:
        with suppress(BlobError):  # It is said to be missing; who asks for its bytes hears why.
            await self.bring(blob_id)
        then(blob_id)

    def is_away(self, blob_id: BlobId) -> bool:
        """Whether a blob has to be brought before it can be read here."""
        return self._mover is not None and self._mover.is_away(blob_id)

    def holding(self, blob_id: BlobId) -> AbstractContextManager[None]:
        """Keep the copy of a blob here that is read piece by piece."""
        return nullcontext() if self._mover is None else self._mover.holding(blob_id)

    async def bring(self, blob_id: BlobId) -> None:
        """Have a copy of a blob here, if it is only in the store.

        Raises:
            BlobError: It cannot be had.
        """
        if self._mover is not None:
            await self._mover.bring(blob_id)
