"""Files named by the SHA-256 of their content: partial while they arrive, complete or not there."""

import hashlib
import threading
from collections.abc import Callable, Generator, Iterable
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

from lineshaft_coordinator.data.blob_errors import (
    BlobMismatchError,
    BlobNotBegunError,
    BlobNotFoundError,
    BlobOffsetError,
    disk_error,
    not_under_way,
)
from lineshaft_coordinator.data.blob_files import (
    FOLDER_MODE,
    append,
    blob_path,
    check_hash,
    check_offer,
    check_own_file,
    is_younger,
    make_file,
    make_young,
    read_part,
    remove,
    take_up,
    unlink,
    write_copy,
)
from lineshaft_coordinator.data.blob_names import BlobNames
from lineshaft_coordinator.data.blob_records import BlobFile, Collected, Upload
from lineshaft_coordinator.data.blob_shelf import Shelf
from lineshaft_coordinator.data.blob_uploads import RoomLimits, Uploads
from lineshaft_coordinator.data.quick_disk import QuickDisk
from lineshaft_coordinator.data.recent import RecentBlobs
from lineshaft_coordinator.data.stored_objects import StoredObjects
from lineshaft_runtime.durable import sync_bytes


class BlobStore:
    """Blobs in `<folder>/ab/cdef…`, uploads under way in `<folder>/partial/`.

    All methods block on the disk and may be called from several threads at once. A blob is there
    only after its hash was verified and its bytes and name were synced; `collect` is told of needs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        blob_bytes_max: int,
        total_bytes_max: int,
        free_bytes_min: int = 256 << 20,
        upload_count_max: int = 1024,
        stored: StoredObjects | None = None,
    ) -> None:
        """Make the folder if need be and list what it holds.

        Args:
            folder: Used by one store at a time.
            blob_bytes_max: Size of one blob at most.
            total_bytes_max: Size of all blobs at most; an upload counts whole from its begin
                until who sends it is gone.
            free_bytes_min: Room that blobs leave on the disk, for the journal before all.
            upload_count_max: Uploads under way at most.
            stored: What lies in an object store; None if all blobs are files here.

        Raises:
            OSError: The folder cannot be made or read.
        """
        self._folder, self._blob_bytes_max = folder, blob_bytes_max
        self.free_bytes_min, self.recent = free_bytes_min, RecentBlobs()
        self.quick_disk = QuickDisk()
        self._partial_folder = folder / "partial"
        self._partial_folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        # Held for the tables and for names of files, never while bytes are written: what is
        # asked on the event loop must not wait for somebody's gigabyte.
        self._lock = threading.Lock()
        self._names = BlobNames(folder)
        self._left = {path.name for path in self._partial_folder.iterdir()}  # by an earlier process
        self._shelf = Shelf(folder, stored)
        limits = RoomLimits(total_bytes_max, free_bytes_min, upload_count_max)
        used_bytes = sum(self._shelf.files.values())
        self._uploads = Uploads(
            self._partial_folder, limits, used_bytes=used_bytes, make_way=self._shelf.drop_copies
        )

    @property
    def total_bytes(self) -> int:
        """Size of all blobs, with uploads under way counted whole."""
        return self._uploads.total_bytes

    def begin(self, blob_id: str, size_bytes: int, holder: object | None = None) -> int:
        """Begin an upload, or go on with one that was cut off, also by a restart.

        Args:
            blob_id: The blob.
            size_bytes: Of all of it.
            holder: Who sends it; once it leaves, the upload gives way to others that need room.

        Returns:
            How many bytes are there already, which is the offset to go on from; `size_bytes` if
            the blob is complete.

        Raises:
            BlobIdError: The name is not one.
            BlobTooLargeError: It is larger than one blob may be.
            BlobMismatchError: The same blob is there, or under way, with another size.
            BlobStoreFullError: No room for it.
            BlobDiskError: The disk failed.
        """
        with self._upload(blob_id, size_bytes, holder=holder) as upload:
            return size_bytes if upload is None else upload.received_bytes or 0

    def leave(self, holder: object) -> None:
        """Give back the room that is reserved for who sends no more; what came stays for now."""
        with self._lock:
            self._uploads.leave(holder)

    def write(self, blob_id: str, offset: int, data: bytes | memoryview) -> int:
        """Append bytes to an upload; the last ones complete the blob and sync it.

        Returns:
            How many bytes are there now.

        Raises:
            BlobNotBegunError: There is no such upload.
            BlobOffsetError: `offset` is not where the upload stands; `expected` says where.
            BlobMismatchError: More bytes than were said, or not those that hash to the name.
            BlobStoreFullError: The disk is full; the upload was dropped.
            BlobDiskError: The disk failed; the upload was dropped.
        """
        with self._lock:
            upload = self._uploads.table.get(blob_id)
        if upload is None:
            raise not_under_way(blob_id, offset, self._shelf.size(blob_id))
        with upload.lock:
            if upload.is_over or upload.received_bytes is None:
                # Others may have completed it while we waited.
                raise not_under_way(blob_id, offset, self._shelf.size(blob_id))
            if offset != upload.received_bytes:
                raise BlobOffsetError(blob_id, offset, upload.received_bytes)
            with self._dropped_on_error(blob_id, upload):
                return self._append(blob_id, upload, data)

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes as a blob and return its name; costs two syncs, or none if it is there.

        Raises:
            BlobError: As `begin` and `write`.
        """
        blob_id = hashlib.sha256(data).hexdigest()
        with self._upload(blob_id, len(data)) as upload:
            if upload is not None and not upload.is_over:
                with self._dropped_on_error(blob_id, upload):
                    self._append(blob_id, upload, memoryview(data)[upload.received_bytes or 0 :])
        return blob_id

    def adopt(self, blob_id: str, path: Path, size_bytes: int) -> None:
        """Take over a file as a blob, and sync it; its name is believed, not computed again.

        The file is gone from where it was, whatever happens: moved here, or removed. Only for
        files of this user, who could write to the blobs themselves.

        Raises:
            BlobError: As `begin`; BlobMismatchError also for what is no plain file of that size.
        """
        try:
            check_own_file(blob_id, path, size_bytes)
            with self._upload(blob_id, size_bytes, is_here=True) as upload:
                if upload is not None and not upload.is_over:
                    with self._dropped_on_error(blob_id, upload):
                        make_young(path)  # It may be a link to what was written long ago.
                        sync_bytes(path)
                        self._keep(blob_id, upload, path)
                    if upload.received_bytes is not None or blob_id in self._left:
                        remove(upload.path)
        finally:
            remove(path)

    def is_complete(self, blob_id: str) -> bool:
        """Tell whether the whole blob is here, or in the object store, verified and synced."""
        return self.size_of(blob_id) is not None

    def is_quick(self, blob_id: str, size_bytes: int) -> bool:
        """Tell whether `begin` would wait for nobody: neither for the disk nor for who sends it."""
        is_new = blob_id not in self._left and self._uploads.has_room(blob_id, size_bytes)
        return is_new or self.is_complete(blob_id)

    def would_wait(self, blob_id: str, size_bytes: int) -> bool:
        """Tell whether `adopt` would wait for who sends the blob, or make folders or room first."""
        return not (self._names.are_made and self._uploads.has_room(blob_id, size_bytes))

    def is_free(self, blob_id: str) -> bool:
        """Tell whether `write` would neither wait for another, nor make folders first."""
        return self._names.are_made and self._uploads.is_free(blob_id)

    def is_here(self, blob_id: str) -> bool:
        """Tell whether the whole blob is a file here."""
        return blob_id in self._shelf.files

    def refer(self, blob_id: str) -> bool:
        """Tell whether a blob is complete, and keep it young: a job that names it comes now."""
        with self._lock:
            if not self.is_complete(blob_id):
                return False
            self._shelf.refer(blob_id)
            return True

    def names(self) -> list[str]:
        """Name all complete blobs."""
        return self._shelf.names()

    def size_of(self, blob_id: str) -> int | None:
        """Length of a complete blob in bytes, wherever it lies; None if there is none."""
        return self._shelf.size(blob_id)

    def open(self, blob_id: str) -> BlobFile:
        """Say where a complete blob lies, for reading; `bring` it before if it may be elsewhere.

        Raises:
            BlobNotFoundError: It is not here.
        """
        size_bytes = self._shelf.files.get(blob_id)
        if size_bytes is None:
            raise BlobNotFoundError(blob_id)
        return BlobFile(blob_path(self._folder, blob_id), size_bytes)

    def read(self, blob_id: str, offset: int, length: int) -> bytes:
        """Read a part of a complete blob, less than `length` bytes only at its end.

        Raises:
            BlobNotFoundError: It is not here.
            BlobOffsetError: The offset is negative or past the end.
            BlobDiskError: The disk failed.
            BlobElsewhereError: It had to be brought from the object store, which failed.
        """
        self.bring(blob_id)
        return read_part(blob_id, self.open(blob_id), offset, length)

    def bring(self, blob_id: str, beat: Callable[[], None] = lambda: None) -> None:
        """Have a copy here of what is only in the object store; leaves other blobs alone.

        Raises:
            BlobError: It cannot be had.
        """
        if (fetching := self._shelf.fetching(blob_id)) is None:
            return
        size_bytes, fetch = fetching
        with self._lock:
            upload = self._uploads.reserve(blob_id, size_bytes, size_bytes, None)
        with upload.lock:
            if upload.is_over:  # Somebody else has brought it while we waited, or could not.
                self.bring(blob_id, beat)
                return
            with self._dropped_on_error(blob_id, upload):
                write_copy(upload.path, lambda sink: fetch(blob_id, sink, beat))
                self._keep(blob_id, upload, upload.path)

    def collect(
        self, keep: Callable[[str], bool] | AbstractSet[str], *, older_than_s: float, now: float
    ) -> Collected:
        """Remove blobs that nobody needs and uploads that nobody went on with.

        Args:
            keep: The names, or tells of one name, that somebody needs.
            older_than_s: What was put or begun, again or for the first time, since so many
                seconds stays: whoever sent it may be about to refer to it.
            now: Wall time in seconds.
        """
        is_kept = keep if callable(keep) else keep.__contains__
        deadline = now - older_than_s
        removed = [
            size
            for blob_id in self.names()
            if not is_kept(blob_id) and (size := self._remove_blob(blob_id, deadline)) is not None
        ]
        removed.extend(
            size
            for path in tuple(self._partial_folder.iterdir())
            if (size := self._remove_partial(path, deadline)) is not None
        )
        return Collected(len(removed), sum(removed))

    @contextmanager
    def _upload(
        self,
        blob_id: str,
        size_bytes: int,
        *,
        is_here: bool = False,
        holder: object | None = None,
    ) -> Generator[Upload | None]:
        """Hold the upload of a blob, new or gone on with; `None` if the blob is complete."""
        check_offer(blob_id, size_bytes, self._blob_bytes_max)
        upload = self._find_or_reserve(blob_id, size_bytes, 0 if is_here else size_bytes, holder)
        if upload is None:
            yield None
            return
        with upload.lock:
            if not upload.is_over:
                with self._dropped_on_error(blob_id, upload):
                    self._resume(blob_id, upload, size_bytes, is_here=is_here)
            elif not self.is_complete(blob_id):
                raise BlobNotBegunError(blob_id)  # given up while we waited for it
            yield upload

    def _find_or_reserve(
        self, blob_id: str, size_bytes: int, disk_bytes: int, holder: object | None
    ) -> Upload | None:
        with self._lock:
            complete_bytes = self._shelf.size(blob_id)
            if complete_bytes is not None:
                if complete_bytes != size_bytes:
                    text = f"it has {complete_bytes} bytes, not {size_bytes}"
                    raise BlobMismatchError(blob_id, text)
                self._shelf.make_young(blob_id)
                return None
            return self._uploads.reserve(blob_id, size_bytes, disk_bytes, holder)

    def drop_copies(self, blob_ids: Iterable[str]) -> None:
        """Remove files of blobs that are in the object store as well."""
        with self._lock:
            self._uploads.total_bytes -= self._shelf.drop_copies(blob_ids)

    def _resume(self, blob_id: str, upload: Upload, size_bytes: int, *, is_here: bool) -> None:
        if size_bytes != upload.size_bytes:
            text = f"it was begun with {upload.size_bytes} bytes, now it has {size_bytes}"
            raise BlobMismatchError(blob_id, text)
        if is_here:
            return
        if upload.received_bytes is not None:
            make_young(upload.path)
        elif blob_id in self._left:
            upload.received_bytes = take_up(upload.path, size_bytes, upload.digest.update)
        else:  # Its first bytes make the file, in whatever thread writes them.
            upload.received_bytes = 0 if size_bytes else make_file(upload.path)
        if upload.received_bytes == size_bytes:
            check_hash(blob_id, upload.digest.hexdigest())
            sync_bytes(upload.path)
            self._keep(blob_id, upload, upload.path)

    def _append(self, blob_id: str, upload: Upload, data: bytes | memoryview) -> int:
        assert upload.received_bytes is not None, "an upload is resumed before it goes on"
        if upload.received_bytes + len(data) > upload.size_bytes:
            raise BlobMismatchError(blob_id, f"it has more than its {upload.size_bytes} bytes")
        append(blob_id, upload, data)
        if upload.received_bytes == upload.size_bytes:
            self._keep(blob_id, upload, upload.path)
        return upload.received_bytes

    def _keep(self, blob_id: str, upload: Upload, source: Path) -> None:
        """Give a file that is whole and synced its name, durably."""
        self._names.give(blob_id, source)
        with self._lock:
            self._shelf.enter(blob_id, upload.size_bytes)
            self._uploads.end(blob_id, upload, kept_bytes=upload.size_bytes)

    @contextmanager
    def _dropped_on_error(self, blob_id: str, upload: Upload) -> Generator[None]:
        """Forget an upload that fails; its room is free again."""
        try:
            yield
        except BaseException as error:
            self._drop(blob_id, upload)
            if not isinstance(error, OSError):
                raise
            raise disk_error(blob_id, self._folder, error) from error

    def _drop(self, blob_id: str, upload: Upload) -> None:
        remove(upload.path)  # what cannot be removed now is removed by a collection
        with self._lock:
            self._uploads.end(blob_id, upload, kept_bytes=0)

    def _remove_blob(self, blob_id: str, deadline: float) -> int | None:
        with self._lock:
            if (removed := self._shelf.remove(blob_id, deadline)) is None:
                return None
            size_bytes, here_bytes = removed
            self._uploads.total_bytes -= here_bytes
        return size_bytes

    def _remove_partial(self, path: Path, deadline: float) -> int | None:
        with self._lock:
            upload = self._uploads.table.get(path.name)
            if upload is None:  # left by an earlier process
                return None if is_younger(path, deadline) else unlink(path)
        if not upload.lock.acquire(blocking=False):
            return None
        try:
            if upload.is_over or is_younger(path, deadline):
                return None
            self._drop(path.name, upload)
            return upload.received_bytes
        finally:
            upload.lock.release()
