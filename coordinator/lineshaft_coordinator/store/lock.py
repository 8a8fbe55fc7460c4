"""Holds a data folder against a second coordinator, on disks where that can work."""

import fcntl
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lineshaft_coordinator.store.errors import (
    StoreFullError,
    StoreLockedError,
    StoreNotWritableError,
    StoreOnNetworkError,
)
from lineshaft_coordinator.store.faults import is_full

LOCK_NAME: Final = "store.lock"
_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK_FILESYSTEMS: Final = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "glusterfs"),
    *("gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs"),
    "virtiofs",
)


class FolderLock:
    """The claim of one process on one data folder; ends with `release` or with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Claim the folder at once or not at all.

        Raises:
            StoreLockedError: Another holder, in this process or another one, has it.
            StoreNotWritableError: The lock file cannot be written.
        """
        assert self._descriptor is None, "a folder lock is taken once"
        path = self._folder / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _as_store_error(self._folder, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                pid = int(holder) if holder.isdecimal() else None
                raise StoreLockedError(self._folder, pid) from error
            raise _as_store_error(self._folder, error) from error
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise _as_store_error(self._folder, error) from error

    @contextmanager
    def held(self) -> Generator[None]:
        """Claim the folder for a block.

        Raises:
            StoreLockedError: Another holder has it.
            StoreNotWritableError: The lock file cannot be written.
        """
        self.take()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give the folder free; safe to call twice.

        The file stays: a lock file that is removed can be locked by two, each by its own inode.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def prepare_folder(folder: Path, *, is_network_allowed: bool) -> None:
    """Create the data folder if need be, and refuse one on a network file system.

    Raises:
        StoreNotWritableError: It cannot be created or is not a folder.
        StoreOnNetworkError: It is on a network file system and that was not allowed.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mounts = _MOUNTS.read_text(errors="replace") if _MOUNTS.exists() else ""
        filesystem = filesystem_of(folder.resolve(strict=True), mounts)
    except OSError as error:
        raise _as_store_error(folder, error) from error
    if filesystem is not None and not is_network_allowed and is_network(filesystem):
        raise StoreOnNetworkError(folder, filesystem)


def filesystem_of(path: Path, mounts: str) -> str | None:
    """Find the type of the file system that holds an absolute path.

    Args:
        path: Resolved; symbolic links would lead elsewhere.
        mounts: The text of `/proc/self/mountinfo`; empty where a system has none.

    Returns:
        The kernel's name of it, such as `ext4`; `None` if the text does not tell.
    """
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        # The deepest mount holds the path; of two at one place the later one covers the other.
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), after.split(" ")[0]
    return None if found is None else found[1]


def is_network(filesystem: str) -> bool:
    """Tell whether a file system type is a network or a user-space one."""
    return filesystem.partition(".")[0] in _NETWORK_FILESYSTEMS


def _as_store_error(folder: Path, error: OSError) -> StoreFullError | StoreNotWritableError:
    return (
        StoreFullError(folder)
        if is_full(error)
        else StoreNotWritableError(folder, error.strerror or str(error))
    )
