"""Uploads under way, and the room that they and the blobs take."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineshaft_coordinator.data.blob_errors import BlobStoreFullError
from lineshaft_coordinator.data.blob_files import remove
from lineshaft_coordinator.data.blob_records import Upload


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What a blob store may take."""

    total_bytes_max: int
    free_bytes_min: int
    upload_count_max: int


class Uploads:
    """The table of uploads; whoever calls holds the lock of its store.

    An upload counts whole while somebody is sending it. Once all who did are gone it *rests*: it
    counts for what is there, waits to be gone on with, and gives way to whoever needs the room.
    So a peer that says much and goes has taken nothing from others.

    Args:
        folder: Where partial files lie.
        used_bytes: Size of all complete blobs.
        make_way: Removes what can go for something else to come; returns how many bytes it had.
    """

    def __init__(
        self,
        folder: Path,
        limits: RoomLimits,
        *,
        used_bytes: int,
        make_way: Callable[[], int] = lambda: 0,
    ) -> None:
        self._folder, self._limits, self._make_way = folder, limits, make_way
        self.total_bytes = used_bytes
        """Of all blobs and uploads."""
        self.table: dict[str, Upload] = {}

    def reserve(
        self, blob_id: str, size_bytes: int, disk_bytes: int, holder: object | None
    ) -> Upload:
        """Begin an upload or go on with one, and count it whole.

        Args:
            blob_id: The blob.
            size_bytes: Of all of it.
            disk_bytes: What it needs of the disk that is not taken yet.
            holder: Who sends it, until `leave`; None for who is done within the call.

        Raises:
            BlobStoreFullError: No room for it, though all resting uploads gave way.
        """
        upload = self.table.get(blob_id) or Upload(self._folder / blob_id, size_bytes)
        if upload.reserved_bytes < upload.size_bytes or blob_id not in self.table:
            self._make_room(blob_id, upload, disk_bytes)
            self.total_bytes += upload.size_bytes - upload.reserved_bytes
            upload.reserved_bytes = upload.size_bytes
        self.table[blob_id] = upload
        upload.is_resting = False
        if holder is not None:
            upload.holders.add(holder)
        return upload

    def has_room(self, blob_id: str, size_bytes: int) -> bool:
        """Tell whether it would be a new upload, and has room without another giving way."""
        upload = Upload(self._folder / blob_id, size_bytes)
        return blob_id not in self.table and not self._obstacle(blob_id, upload, size_bytes)

    def is_free(self, blob_id: str) -> bool:
        """Tell whether it is an upload that nobody is writing just now."""
        upload = self.table.get(blob_id)
        return upload is not None and not upload.lock.locked()

    def leave(self, holder: object) -> None:
        """Let uploads rest that nobody sends any more, now that this one is gone."""
        for upload in tuple(self.table.values()):
            if holder in upload.holders:
                upload.holders.remove(holder)
                if not upload.holders:
                    upload.is_resting = True
                    self._count(upload, upload.received_bytes or 0)
                    if upload.received_bytes == 0:  # It has no file, by whose age it would go.
                        self._give_up(upload)

    def end(self, blob_id: str, upload: Upload, *, kept_bytes: int) -> None:
        """Take an upload off the table: complete, or with `kept_bytes` 0 dropped."""
        self._count(upload, kept_bytes)
        upload.is_over = True
        del self.table[blob_id]

    def _count(self, upload: Upload, size_bytes: int) -> None:
        self.total_bytes += size_bytes - upload.reserved_bytes
        upload.reserved_bytes = size_bytes

    def _make_room(self, blob_id: str, upload: Upload, disk_bytes: int) -> None:
        # First as if all of them were gone: for who asks too much, nothing is given up.
        resting = _resting(self.table, but=upload)
        obstacle = self._obstacle(blob_id, upload, disk_bytes, without=resting)
        if obstacle is not None and (freed_bytes := self._make_way()):
            self.total_bytes -= freed_bytes
            obstacle = self._obstacle(blob_id, upload, disk_bytes, without=resting)
        if obstacle is not None:
            raise BlobStoreFullError(blob_id, obstacle)
        while (obstacle := self._obstacle(blob_id, upload, disk_bytes)) is not None:
            if not resting:
                raise BlobStoreFullError(blob_id, obstacle)
            self._give_up(resting.pop(0))

    def _obstacle(
        self, blob_id: str, upload: Upload, disk_bytes: int, *, without: Sequence[Upload] = ()
    ) -> str | None:
        limits, given_bytes = self._limits, sum(each.reserved_bytes for each in without)
        count = len(self.table) - len(without)
        if blob_id not in self.table and count >= limits.upload_count_max:
            return f"{count} uploads are under way"
        more_bytes = upload.size_bytes - upload.reserved_bytes
        if self.total_bytes - given_bytes + more_bytes > limits.total_bytes_max:
            return (
                f"it has {upload.size_bytes} bytes, and {self.total_bytes - given_bytes} of the"
                f" {limits.total_bytes_max} that blobs may have are taken"
            )
        disk = os.statvfs(self._folder)
        free_bytes = disk.f_bavail * disk.f_frsize + given_bytes
        if free_bytes - max(0, disk_bytes - upload.reserved_bytes) < limits.free_bytes_min:
            return (
                f"it has {upload.size_bytes} bytes, and {limits.free_bytes_min} must stay free on"
                f" the disk of {self._folder.parent}"
            )
        return None

    def _give_up(self, upload: Upload) -> None:
        # Who still writes the last pieces of somebody who is gone has the lock.
        if upload.lock.acquire(blocking=False):
            try:
                remove(upload.path)
                self.end(upload.path.name, upload, kept_bytes=0)
            finally:
                upload.lock.release()


def _resting(table: Mapping[str, Upload], *, but: Upload) -> list[Upload]:
    """In the order in which they were begun."""
    return [each for each in table.values() if each.is_resting and each is not but]
