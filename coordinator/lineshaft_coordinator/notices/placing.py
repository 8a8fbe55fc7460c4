"""Puts a checkpoint where consumers of this machine or storage can open it."""

import os
import shutil
from pathlib import Path

from lineshaft_runtime.version_shelf import VersionShelf, put_in_place


class Placing:
    """Checkpoints under names that stay.

    Args:
        folder: Where the folders of all models lie.
        copies: Whether files are copied there, for other users or machines; else a file is a
            second name of its blob, which takes no room, and only the coordinator's user reads it.
        kept: How many versions of a model stay.
    """

    def __init__(self, folder: Path, *, copies: bool, kept: int) -> None:
        self._folder, self._copies, self._kept = folder, copies, kept
        # What the data folder holds is its owner's alone.
        folder.mkdir(mode=0o777 if copies else 0o700, parents=True, exist_ok=True)

    def place(self, blob: Path, model_name: str, version: int, file_name: str) -> Path:
        """Give a whole blob its name; blocks for as long as a copy takes.

        `version` was announced to nobody yet; what an earlier try left of it is replaced.

        Raises:
            FileNotFoundError: The blob is gone.
            OSError: The disk failed.
        """
        target = VersionShelf(self._folder, model_name).place(version, file_name)
        draft = target.parent / ".draft"
        for left in (draft, target):  # A rename does nothing between two names of one file.
            left.unlink(missing_ok=True)
        if self._copies or not _link(blob, draft):
            shutil.copyfile(blob, draft)
        put_in_place(draft, target)
        return target

    def retire(self, model_name: str) -> None:
        """Remove all but the newest versions of a model."""
        VersionShelf(self._folder, model_name, kept=self._kept).retire()

    def clear(self, model_name: str) -> None:
        """Remove all versions of a model."""
        VersionShelf(self._folder, model_name).clear()


def _link(blob: Path, target: Path) -> bool:
    """Make a second name of a file; returns whether that can be done here."""
    try:
        os.link(blob, target)
    except FileNotFoundError:
        raise
    except OSError:  # Another file system, or one without links.
        return False
    # It is the blob: a consumer that writes to it would spoil the job's own checkpoint.
    target.chmod(0o400)
    return True
