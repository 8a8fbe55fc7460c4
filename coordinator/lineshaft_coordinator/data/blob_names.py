"""The names of complete blobs: two digits name a folder, the others a file in it."""

import os
import threading
from pathlib import Path

from lineshaft_coordinator.data.blob_files import FOLDER_MODE, blob_path
from lineshaft_runtime.durable import sync_path

_DIGITS = "0123456789abcdef"


class BlobNames:
    """Gives names to files, durably. May be used in several threads at once.

    All 256 folders are made with the first blob: to make and sync each when it is needed would
    cost every one of the first few hundred blobs a wait for the disk.

    Args:
        folder: Where the folders are, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._are_folders_durable = False

    @property
    def are_made(self) -> bool:
        """Whether the folders are there: a name costs no more than the sync of its own."""
        return self._are_folders_durable

    def give(self, blob_id: str, source: Path) -> None:
        """Give a file that is whole and synced the name of its blob; returns once that is durable.

        Raises:
            OSError: The disk failed, or is full.
        """
        target = blob_path(self._folder, blob_id)
        self._make_folders()
        try:
            os.rename(source, target)  # noqa: PTH104 - 10 µs faster than pathlib
        except FileNotFoundError:
            if target.parent.exists():
                raise
            # Somebody tidied up: an empty folder looks superfluous.
            self._are_folders_durable = False
            self._make_folders()
            source.rename(target)
        sync_path(target.parent)

    def _make_folders(self) -> None:
        # With the lock held throughout: who finds a folder must not believe it durable before.
        with self._lock:
            if self._are_folders_durable:
                return
            for name in (a + b for a in _DIGITS for b in _DIGITS):
                (self._folder / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync_path(self._folder)
            self._are_folders_durable = True
