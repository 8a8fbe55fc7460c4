"""Complete blobs: those that are files here, and those in the object store."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from lineshaft_coordinator.data.blob_files import blob_path, is_younger, list_blobs, make_young
from lineshaft_coordinator.data.stored_objects import StoredObjects

_YOUNG_S = 60.0  # far below the grace of any collection; many jobs a second name the same code


class Shelf:
    """The table of complete blobs; whoever changes it holds the lock of its store.

    Args:
        folder: Of the files.
        stored: What lies in an object store; None if all blobs are files here.

    Raises:
        OSError: The folder cannot be read.
    """

    def __init__(self, folder: Path, stored: StoredObjects | None) -> None:
        self._folder, self._stored = folder, stored
        self.files = dict(list_blobs(folder))
        """Lengths in bytes of those that are files here."""
        self._referred: dict[str, float] = {}  # when it was made young, on the monotonic clock
        if stored is not None:
            for blob_id, size_bytes in self.files.items():
                stored.kept(blob_id, size_bytes)

    def size(self, blob_id: str) -> int | None:
        """Length of a blob in bytes, wherever it lies; None if there is none."""
        size_bytes = self.files.get(blob_id)
        if size_bytes is None and self._stored is not None:
            size_bytes = self._stored.size(blob_id)
        return size_bytes

    def names(self) -> list[str]:
        """Name all blobs."""
        away = [] if self._stored is None else self._stored.names()
        return [*self.files, *(each for each in away if each not in self.files)]

    def refer(self, blob_id: str) -> None:
        """Keep a blob young that somebody names."""
        now = time.monotonic()
        if now - self._referred.get(blob_id, -math.inf) >= _YOUNG_S:
            self._referred[blob_id] = now
            self.make_young(blob_id)

    def make_young(self, blob_id: str) -> None:
        """Keep a collection from taking a blob for old."""
        if blob_id in self.files:
            make_young(blob_path(self._folder, blob_id))
        if self._stored is not None:
            self._stored.make_young(blob_id)

    def enter(self, blob_id: str, size_bytes: int) -> None:
        """A blob has become a file here."""
        self.files[blob_id] = size_bytes
        if self._stored is not None:
            self._stored.kept(blob_id, size_bytes)

    def drop_copies(self, blob_ids: Iterable[str] | None = None) -> int:
        """Remove files of blobs that are in the object store as well; returns their length.

        Args:
            blob_ids: Of which; all of them if None.
        """
        if self._stored is None:
            return 0
        asked = self._stored.surplus_copies(bytes_max=0) if blob_ids is None else blob_ids
        return sum(self._drop_file(blob_id) for blob_id in asked if blob_id in self._stored)

    def remove(self, blob_id: str, deadline: float) -> tuple[int, int] | None:
        """Remove a blob wherever it lies, unless it is young.

        Returns:
            Its length, and that of its file here; None if it stays.
        """
        size_bytes, stored = self.size(blob_id), self._stored
        if size_bytes is None or self._is_young(blob_id, deadline):
            return None
        here_bytes = self._drop_file(blob_id)
        if stored is not None:
            stored.strike(blob_id)
        self._referred.pop(blob_id, None)
        return size_bytes, here_bytes

    def _is_young(self, blob_id: str, deadline: float) -> bool:
        if blob_id in self.files and is_younger(blob_path(self._folder, blob_id), deadline):
            return True
        return self._stored is not None and self._stored.is_younger(blob_id, deadline)

    def _drop_file(self, blob_id: str) -> int:
        if blob_id not in self.files:
            return 0
        blob_path(self._folder, blob_id).unlink(missing_ok=True)
        if self._stored is not None:
            self._stored.dropped(blob_id)
        return self.files.pop(blob_id)

    def fetching(self, blob_id: str) -> "tuple[int, Fetch] | None":
        """Say how to bring a blob here that is only in the object store; None for others."""
        stored = self._stored
        size_bytes = None if stored is None or blob_id in self.files else stored.size(blob_id)
        if stored is None or size_bytes is None:
            return None
        return size_bytes, stored.fetch


Fetch = Callable[[str, Callable[[bytes], object], Callable[[], None]], None]
