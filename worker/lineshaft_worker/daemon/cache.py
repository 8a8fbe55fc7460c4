"""Blobs on this machine, by hash: code and payloads that jobs here need or needed lately."""

import contextlib
from collections import Counter, OrderedDict
from pathlib import Path

from lineshaft_protocol.ids import BlobId
from lineshaft_runtime.durable import sync_path
from lineshaft_worker.execution.shim import boot_id

BOOT = "boot"
"""File that names the boot of the machine in which the cache was used last."""
DRAFT_MODE, SAFE_MODE = 0o600, 0o400
"""A blob is made read-only when it is on the disk: one that is not may be damaged after a loss of
power, and its name would still say what it should be."""
CODE_BYTES_MAX = 1024 * 1024
"""Blobs up to this length are also kept in memory, the ones used last, up to"""
MEMORY_BYTES_MAX = 16 * 1024 * 1024


class BlobCache:
    """Files named by their hash; what no job holds goes when room is needed, oldest use first.

    Args:
        folder: Of this daemon alone.
        bytes_max: Length of all blobs above which those that nobody holds are removed.
    """

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sizes: OrderedDict[BlobId, int] = OrderedDict()
        self._holders: Counter[BlobId] = Counter()
        self._small: OrderedDict[BlobId, bytes] = OrderedDict()
        self._small_bytes = 0
        self._total_bytes = 0
        boot = folder / BOOT
        is_other_boot = not boot.exists() or boot.read_text() != boot_id()
        with contextlib.suppress(OSError):  # A full disk: then the next start is as careful.
            boot.write_text(boot_id())
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime):
            if path.name == BOOT:
                continue
            is_safe = path.stat().st_mode & 0o777 == SAFE_MODE
            if path.suffix == ".part" or (is_other_boot and not is_safe):
                path.unlink()
            else:
                self._sizes[BlobId(path.name)] = path.stat().st_size
        self._total_bytes = sum(self._sizes.values())

    def __contains__(self, blob_id: BlobId) -> bool:
        return blob_id in self._sizes

    def path(self, blob_id: BlobId) -> Path:
        """Where a blob lies, or will lie."""
        return self._folder / blob_id

    def hold(self, blob_id: BlobId) -> None:
        """Keep the blob until it is released as often as it was held."""
        self._holders[blob_id] += 1

    def release(self, blob_id: BlobId) -> list[BlobId]:
        """Let go of a blob; returns those that were removed to make room."""
        self._holders[blob_id] -= 1
        if self._holders[blob_id] <= 0:
            del self._holders[blob_id]
        return self._make_room()

    def draft(self, blob_id: BlobId, suffix: str) -> Path:
        """Where to write a blob that arrives."""
        return self._folder / f"{blob_id}.{suffix}.part"

    def keep(self, blob_id: BlobId, draft: Path) -> None:
        """The draft is whole and verified."""
        size_bytes = draft.stat().st_size
        draft.chmod(DRAFT_MODE)
        draft.replace(self.path(blob_id))
        if blob_id not in self._sizes:
            self._total_bytes += size_bytes
        self._sizes[blob_id] = size_bytes
        self._sizes.move_to_end(blob_id)

    def link(self, blob_id: BlobId, source: Path) -> bool:
        """Keep a file of the coordinator's, whole and synced, under a second name if that can be.

        It stays read-only if it is: it is not ours alone.
        """
        path = self.path(blob_id)
        try:
            path.hardlink_to(source)
            size_bytes = path.stat().st_size
        except OSError:
            return False
        self._total_bytes += size_bytes - self._sizes.get(blob_id, 0)
        self._sizes[blob_id] = size_bytes
        self._sizes.move_to_end(blob_id)
        return True

    def sync(self, blob_id: BlobId) -> None:
        """Bring a blob to the disk, so that it is of use after a loss of power; in any thread."""
        path = self.path(blob_id)
        with contextlib.suppress(OSError):  # It may be removed meanwhile; else it is fetched again.
            sync_path(path)
            path.chmod(SAFE_MODE)

    def content(self, blob_id: BlobId) -> bytes | Path:
        """A blob that is here: its bytes if it is small, else its file.

        Raises:
            OSError: Somebody removed the file.
        """
        self._sizes.move_to_end(blob_id)
        known = self._small.get(blob_id)
        if known is not None:
            self._small.move_to_end(blob_id)
            return known
        if self._sizes[blob_id] > CODE_BYTES_MAX:
            return self.path(blob_id)
        data = self._small[blob_id] = self.path(blob_id).read_bytes()
        self._small_bytes += len(data)
        while self._small_bytes > MEMORY_BYTES_MAX:
            _, oldest = self._small.popitem(last=False)
            self._small_bytes -= len(oldest)
        return data

    def _make_room(self) -> list[BlobId]:
        removed: list[BlobId] = []
        if self._total_bytes <= self._bytes_max:
            return removed
        for blob_id in tuple(self._sizes):
            if self._total_bytes <= self._bytes_max:
                break
            if self._holders[blob_id]:
                continue
            self._total_bytes -= self._sizes.pop(blob_id)
            self._small_bytes -= len(self._small.pop(blob_id, b""))
            self.path(blob_id).unlink(missing_ok=True)
            removed.append(blob_id)
        return removed
