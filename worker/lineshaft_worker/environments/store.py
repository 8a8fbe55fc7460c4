"""The folder of a machine's environments: what is there, who uses it, what goes for room.

Several daemons, and people at the command line, may use one folder at once: see `builder` for the
locks. When an environment was used last is the time of its lock file.
"""

import contextlib
import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lineshaft_worker.environments.builder import (
    MANIFEST,
    discard,
    is_whole,
    open_lock,
)

ENTRIES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One environment that is whole."""

    key: str
    folder: Path
    python: str
    """Its version, as 3.12.1."""
    requirements: tuple[str, ...]
    size_bytes: int
    """Counted in full, though files may be shared with uv's cache."""
    built_at: float
    """Seconds since 1970."""
    build_s: float
    used_at: float
    is_used: bool
    """A process of a job or of a daemon has it now."""


class EnvironmentStore:
    """See the module.

    Args:
        root: Of this user alone; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def make(self) -> None:
        """Make the folder.

        Raises:
            OSError: It cannot be made.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, key: str) -> Path:
        """Where an environment is, or would be."""
        return self.root / key

    def hold(self, key: str) -> int | None:
        """Keep an environment from being removed; close the descriptor to let go of it.

        None when it is not there, not whole, or just being built or removed.

        Raises:
            OSError: The folder cannot be used.
        """
        if not self.folder(key).is_dir():
            return None
        try:
            lock = open_lock(str(self.root), key, mode=fcntl.LOCK_SH)
        except BlockingIOError:
            return None
        if not is_whole(str(self.folder(key))):
            os.close(lock)
            return None
        os.utime(lock)
        return lock

    def entries(self) -> list[Entry]:
        """Return what is there, the one used last first."""
        try:
            names = sorted(each.name for each in self.root.iterdir() if each.is_dir())
        except OSError:
            return []
        found = [self._entry(name) for name in names if not name.startswith(".")]
        return sorted((each for each in found if each is not None), key=lambda each: -each.used_at)

    def packages(self, key: str) -> list[tuple[str, str]]:
        """Return name and version of each package of an environment, sorted by name."""
        found: set[tuple[str, str]] = set()
        for path in self.folder(key).glob("lib/python3.*/site-packages/*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            found.add((name.replace("_", "-").lower(), version))
        return sorted(found)

    def sweep(self) -> list[str]:
        """Remove what builders and removers that were killed have left; returns the names."""
        removed: list[str] = []
        for path in self.root.iterdir():
            if path.name.startswith(".trash-"):
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path.name)
            elif path.name.startswith(".partial-"):
                key = path.name.split("-")[1]
                with contextlib.suppress(BlockingIOError):
                    lock = open_lock(str(self.root), key)
                    try:
                        shutil.rmtree(path, ignore_errors=True)
                        removed.append(path.name)
                    finally:
                        os.close(lock)
        return removed

    def remove(self, key: str) -> bool:
        """Remove an environment; False if somebody uses it.

        Raises:
            OSError: It cannot be removed.
        """
        try:
            lock = open_lock(str(self.root), key)
        except BlockingIOError:
            return False
        try:
            if self.folder(key).exists():
                discard(str(self.root), str(self.folder(key)))
            # Who waits for this lock sees that the file is another one, and takes that.
            (self.root / f"{key}.lock").unlink(missing_ok=True)
        finally:
            os.close(lock)
        return True

    def prune(self, *, size_bytes_max: int, free_bytes_min: int = 0) -> list[Entry]:
        """Remove what was not used for longest until both limits are kept; returns what went.

        Args:
            size_bytes_max: Of all environments together.
            free_bytes_min: That should be free on their disk.
        """
        entries = self.entries()
        total = sum(each.size_bytes for each in entries)
        removed: list[Entry] = []
        for entry in reversed(entries):
            if total <= size_bytes_max and self.free_bytes() >= free_bytes_min:
                break
            if self.remove(entry.key):
                total -= entry.size_bytes
                removed.append(entry)
        return removed

    def free_bytes(self) -> int:
        """How much may still be written to their disk."""
        return shutil.disk_usage(self.root).free

    def _entry(self, key: str) -> Entry | None:
        folder = self.folder(key)
        if not is_whole(str(folder)):
            return None
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            used_at = (self.root / f"{key}.lock").stat().st_mtime
        except (OSError, ValueError):
            return None
        return Entry(
            key=key,
            folder=folder,
            python=str(manifest.get("python", "")),
            requirements=tuple(map(str, manifest.get("requirements", ()))),
            size_bytes=int(manifest.get("size_bytes", 0)),
            built_at=float(manifest.get("built_at", 0.0)),
            build_s=float(manifest.get("build_s", 0.0)),
            used_at=used_at,
            is_used=self._is_used(key),
        )

    def _is_used(self, key: str) -> bool:
        try:
            os.close(open_lock(str(self.root), key))
        except BlockingIOError:
            return True
        return False
