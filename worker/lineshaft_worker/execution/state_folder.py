"""The folder of one worker daemon: where its runners live, between its lives too."""

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Self

from lineshaft_runtime.durable import sync_path


class StateFolderInUseError(Exception):
    """Another worker daemon owns the state folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another worker daemon uses {folder}; stop it, or choose another folder")
        self.folder = folder


class StateFolder:
    """A folder that is ours as long as this object is open."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make the folder if need be, and claim it.

        Raises:
            StateFolderInUseError: Another daemon owns it.
            OSError: It cannot be used.
        """
        (path / "runners").mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        for folder in (path, path.parent):
            sync_path(folder)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StateFolderInUseError(path) from None
        return cls(path, lock)

    @property
    def runners(self) -> Path:
        """Where each runner has a folder."""
        return self.path / "runners"

    def close(self) -> None:
        """Let another daemon have it."""
        os.close(self._lock)


def delete_files(folder: Path, ticket: int, *, has_begun: bool = True) -> None:
    """Delete what an attempt left in its runner's folder.

    The function that one brought which never began stays: the runner may load it for the next.
    """
    # First, so that a daemon that comes after a crash finds no end whose result is gone.
    (folder / f"a{ticket}.ended").unlink(missing_ok=True)
    mine = f"a{ticket}."
    # Not `glob`, which compiles a pattern for each attempt.
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if entry.name.startswith(mine)]:
            if entry.name.endswith(".code") and not has_begun:
                continue
            if entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)  # noqa: PTH108 - the entry has its path already
