"""Blobs that came just now, still in memory for whoever asks for them next."""

import asyncio
from collections import OrderedDict
from typing import Final

ONE_BYTES_MAX: Final = 2 << 20
ALL_BYTES_MAX: Final = 16 << 20
KEPT_S: Final = 2.0
"""How long a blob that nobody asks for is kept at least; at most twice as long, in seconds."""


class RecentBlobs:
    """Gives each blob out once: most have one reader, who asks at once; others read the file.

    Used from one event loop only.
    """

    def __init__(self) -> None:
        self._blobs: OrderedDict[str, bytes | memoryview] = OrderedDict()
        self._bytes = 0
        self._old: frozenset[str] = frozenset()
        self._is_timed = False

    def put(self, blob_id: str, data: bytes | memoryview) -> None:
        """Keep a blob for a while that is complete, verified and on the disk.

        Args:
            blob_id: SHA-256 of the bytes.
            data: All of it; must not change.
        """
        if len(data) > ONE_BYTES_MAX:
            return
        self.take(blob_id)
        self._blobs[blob_id] = data
        self._bytes += len(data)
        while self._bytes > ALL_BYTES_MAX:
            self.take(next(iter(self._blobs)))
        if not self._is_timed:
            self._is_timed = True
            asyncio.get_running_loop().call_later(KEPT_S, self.age)

    def take(self, blob_id: str) -> bytes | memoryview | None:
        """Return a blob, which is then no longer kept; None if it is not here."""
        data = self._blobs.pop(blob_id, None)
        if data is not None:
            self._bytes -= len(data)
        return data

    def age(self) -> None:
        """Let go of what was here the last time already."""
        for blob_id in self._old:
            self.take(blob_id)
        self._old, self._is_timed = frozenset(self._blobs), bool(self._blobs)
        if self._is_timed:
            asyncio.get_running_loop().call_later(KEPT_S, self.age)
