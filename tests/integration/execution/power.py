"""A stand-in for a disk whose machine may lose power: knows what was brought to it."""

import os
import shutil
import stat
from pathlib import Path
from threading import Lock


class Disk:
    """Takes the place of `os.fsync`, and makes what would be found after a loss of power.

    A file then has what it had when it was synced last, and none of it if it never was; a name is
    in its folder if the folder was synced after the name was made. That is all that POSIX promises.
    """

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._lock = Lock()
        self.count = 0

    def sync(self, descriptor: int) -> None:
        """Take the file or folder as it is now."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found = os.fstat(descriptor)
        with self._lock:
            self.count += 1
            if stat.S_ISDIR(found.st_mode):
                names = {e.name: e.inode() for e in os.scandir(path)}
                self._names[found.st_ino] = names
            else:
                self._contents[found.st_ino] = Path(path).read_bytes()

    def lose_power(self, folder: Path) -> None:
        """Make a folder, and all folders in it, what the disk knows of them."""
        known = self._names.get(folder.stat().st_ino, {})
        for path in list(folder.iterdir()):
            inode = path.lstat().st_ino
            if known.get(path.name) != inode:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            elif path.is_dir():
                self.lose_power(path)
            elif path.is_file():
                path.write_bytes(self._contents.get(inode, b""))
        for pid_file in folder.glob("shim.pid"):
            words = pid_file.read_text().split()
            pid_file.write_text(" ".join([*words[:2], "another-boot"]) if words else "")
