"""Bringing files, and the names in folders, to the disk."""

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Make a file's bytes durable, or the names in a folder: new, renamed and removed ones.

    Raises:
        OSError: It cannot be opened, or the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
