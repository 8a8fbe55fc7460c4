"""Blobs that attempts need or make: fetched, kept while needed, and stored."""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import INLINE_BYTES_MAX, Payload
from lineshaft_runtime.same_host import SameFile, SameHostFiles, bytes_into, link_or_copy
from lineshaft_runtime.transfers import BlobTransfers
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.daemon.cache import BlobCache
from lineshaft_worker.daemon.direct_store import DirectStore
from lineshaft_worker.daemon.later_syncs import LaterSyncs


class Ways(Protocol):
    """How blobs get to the coordinator and from it."""

    @property
    def transfers(self) -> BlobTransfers:
        """The connection; goes on after a cut."""
        ...

    @property
    def files(self) -> SameHostFiles:
        """Files, if the coordinator is on this machine."""
        ...

    @property
    def direct(self) -> DirectStore:
        """The object store, if the coordinator has one that we reach."""
        ...


class Supply:
    """Brings blobs here and back to the coordinator.

    Args:
        cache: Where blobs lie on this machine.
        ways: The connection to the coordinator, and what is shorter where it can be had.
    """

    def __init__(self, cache: BlobCache, ways: Ways) -> None:
        self._cache, self._transfers = cache, ways.transfers
        self._later_syncs = LaterSyncs(cache)
        self._files, self._direct = ways.files, ways.direct
        self._held: dict[AttemptKey, list[BlobId]] = {}

    def hold(self, key: AttemptKey, blob_ids: Sequence[BlobId]) -> list[BlobId]:
        """Keep blobs for as long as the attempt is known; returns those that are not here.

        What the coordinator said the place of is linked on the way, without a task that waits.
        """
        held = self._held.setdefault(key, [])
        for blob_id in blob_ids:
            if blob_id not in held:
                held.append(blob_id)
                self._cache.hold(blob_id)
        return [blob_id for blob_id in blob_ids if not self._is_here(blob_id)]

    def _is_here(self, blob_id: BlobId) -> bool:
        if blob_id in self._cache:
            return True
        path = self._files.told(blob_id)
        return path is not None and self._cache.link(blob_id, path)

    def release(self, key: AttemptKey) -> list[BlobId]:
        """The attempt is forgotten; returns blobs that were removed to make room."""
        gone: list[BlobId] = []
        for blob_id in self._held.pop(key, ()):
            gone += self._cache.release(blob_id)
        return gone

    async def bring(self, blob_id: BlobId) -> Path:
        """Fetch a blob unless it is here; returns where it lies.

        Raises:
            LineshaftError: The coordinator does not have it, or it arrived damaged.
            OSError: It cannot be written.
        """
        if blob_id not in self._cache:
            draft = self._cache.draft(blob_id, secrets.token_hex(4))
            try:
                if await self._linked(blob_id, draft):
                    return self._cache.path(blob_id)
                if not await self._direct.fetch(blob_id, draft):
                    await self._download(blob_id, draft)
                self._cache.keep(blob_id, draft)
                self._later_syncs.add(blob_id)
            finally:
                draft.unlink(missing_ok=True)
        return self._cache.path(blob_id)

    async def _download(self, blob_id: BlobId, draft: Path) -> None:
        with draft.open("wb", buffering=0) as file:

            def take(offset: int, data: bytes | memoryview) -> None:
                file.seek(offset)
                file.write(data)

            await self._transfers.download(blob_id, take)

    async def _linked(self, blob_id: BlobId, draft: Path) -> bool:
        path = await self._files.find(blob_id, None)
        if path is None:
            return False
        if blob_id in self._cache or self._cache.link(blob_id, path):
            return True
        # On another file system. Or collected meanwhile, or no room: the connection knows.
        if not await asyncio.to_thread(link_or_copy, path, draft):
            return False
        if blob_id not in self._cache:
            self._cache.keep(blob_id, draft)
        return True

    async def bring_all(self, blob_ids: Sequence[BlobId]) -> None:
        """Fetch several at once; the first that cannot be had ends it.

        Raises:
            LineshaftError: As `bring`.
            OSError: As `bring`.
        """
        fetches = [
            asyncio.ensure_future(self.bring(blob_id)) for blob_id in dict.fromkeys(blob_ids)
        ]
        try:
            await asyncio.gather(*fetches)
        finally:
            for fetch in fetches:
                fetch.cancel()
            await asyncio.gather(*fetches, return_exceptions=True)

    async def store(self, content: bytes | Path) -> Payload:
        """Make a payload of bytes or of a file; what is too long to be carried is stored.

        Raises:
            LineshaftError: The coordinator will not have it.
            OSError: The file cannot be read.
        """
        content = _loaded_if_short(content)
        if isinstance(content, bytes):
            if len(content) <= INLINE_BYTES_MAX:
                return Payload.of_bytes(content)
            view = memoryview(content)
            digest = hashlib.sha256(view).hexdigest()
            if await self._files.give(BlobId(digest), len(view), bytes_into(view)):
                return Payload(blob=digest, size_bytes=len(view))
            await self._transfers.upload(
                BlobId(digest), len(view), lambda offset, length: view[offset : offset + length]
            )
            return Payload(blob=digest, size_bytes=len(view))
        return await self.store_file(content, await asyncio.to_thread(_digest_of, content))

    async def store_file(self, path: Path, blob_id: BlobId) -> Payload:
        """Store a file whose hash is known.

        Raises:
            LineshaftError: The coordinator will not have it.
            OSError: It cannot be read.
        """
        size_bytes = _size_of(path)
        if await self._direct.give(blob_id, path, size_bytes):
            return Payload(blob=blob_id, size_bytes=size_bytes)
        if await self._files.give(blob_id, size_bytes, SameFile(path)):
            return Payload(blob=blob_id, size_bytes=size_bytes)
        with path.open("rb", buffering=0) as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            await self._transfers.upload(blob_id, size_bytes, read)
        return Payload(blob=blob_id, size_bytes=size_bytes)


def _size_of(path: Path) -> int:
    return path.stat().st_size


def _loaded_if_short(content: bytes | Path) -> bytes | Path:
    if isinstance(content, Path) and content.stat().st_size <= INLINE_BYTES_MAX:
        return content.read_bytes()
    return content


def _digest_of(path: Path) -> BlobId:
    with path.open("rb") as file:
        return BlobId(hashlib.file_digest(file, "sha256").hexdigest())
