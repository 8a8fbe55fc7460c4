"""Which blobs lie in the object store, and how they come and go there.

Theory. A blob that arrives here is a file first, whole and synced, as without an object store; the
mover puts large ones into the store later, and from then on the file is a *copy* that may go. A
worker may put an object there itself and tell us; we look for it. Either way the blob is *entered*
in an index of our own, durably, and only then counts as being there: the index is a folder of
empty files, whose names say what lies in the store, and whose times say when it was last needed.

What is not needed any more is *struck*: no longer there for anybody, and then removed from the
store, some time; a strike outlives us. What is struck cannot be entered until it is gone, or a
removal under way would take what was just put there; and what somebody puts there or looks for
is *expected*, and until it is entered it is nobody's stray. A removal is done once: one that hangs
may come through long after, so another one of the same object waits for its end.

What somebody else removed or changed there is found out by who reads it, looked at once more, and
*forgotten*: the next who offers the blob sends it again. A damaged object is left as it is, since
it may be our reading that is at fault; but it is distrusted, by us and by the coordinator after
us, and what comes next replaces it.
"""

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobLostError
from lineshaft_coordinator.data.blob_files import BLOB_ID, FOLDER_MODE, is_younger, make_young
from lineshaft_runtime.durable import sync_path
from lineshaft_runtime.object_errors import (
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreError,
)
from lineshaft_runtime.object_places import Beat
from lineshaft_runtime.object_store import ObjectStore

logger = logging.getLogger(__name__)

INDEX: Final = "objects"
"""Folder of the index, among the blobs."""
OBJECT_BYTES_MIN: Final = 1024 * 1024
"""Shorter blobs stay in files of the coordinator: a request costs more than they do."""
_STRUCK: Final = ".gone"
_BAD: Final = ".bad"


@dataclass(frozen=True, slots=True)
class _Entry:
    size_bytes: int
    path: Path


def read_index(folder: Path) -> dict[str, int]:
    """List what lies in the object store, with sizes in bytes, as the index in a folder says."""
    return {blob_id: entry.size_bytes for blob_id, entry in _read(folder)[0].items()}


def write_index(folder: Path, sizes: Mapping[str, int]) -> set[Path]:
    """Write an index; returns the folders that are to be synced. None is made for nothing."""
    folders = {folder} if sizes else set[Path]()
    for blob_id, size_bytes in sizes.items():
        shard = folder / blob_id[:2]
        shard.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        (shard / f"{blob_id[2:]}.{size_bytes}").touch(0o600)
        folders.add(shard)
    return folders


class StoredObjects:
    """The index, and the store that it is about; any thread may call.

    Args:
        folder: Of the index; made if need be.
        store: Where the objects are.
        bytes_min: Length from which on blobs go there.

    Raises:
        OSError: The index cannot be made or read.
    """

    def __init__(
        self, folder: Path, store: ObjectStore, *, bytes_min: int = OBJECT_BYTES_MIN
    ) -> None:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._folder, self.store, self.bytes_min = folder, store, bytes_min
        # Held for the tables, never over a sync: the event loop asks them. Who changes what the
        # index durably says holds `_writing` throughout, and takes the other one within.
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._entries, self._struck, self._distrusted = _read(folder)
        self._expected = Counter[str]()
        self._held = Counter[str]()
        self._removing: set[str] = set()
        self._waiting: dict[str, int] = {}
        self._copies: OrderedDict[str, int] = OrderedDict()
        self.on_waiting: Callable[[], None] = lambda: None
        """Called in any thread when there is something to move or to remove."""

    def __contains__(self, blob_id: str) -> bool:
        return blob_id in self._entries

    def size(self, blob_id: str) -> int | None:
        """Length of a blob that is in the store, in bytes."""
        entry = self._entries.get(blob_id)
        return None if entry is None else entry.size_bytes

    def names(self) -> list[str]:
        """Name all blobs that are in the store."""
        return list(self._entries)

    # --- blobs that are files here ---

    def kept(self, blob_id: str, size_bytes: int) -> None:
        """A blob is here as a file: it is to be moved, or a copy of what is in the store."""
        if size_bytes < self.bytes_min:
            return
        with self._lock:
            is_copy = blob_id in self._entries
            (self._copies if is_copy else self._waiting)[blob_id] = size_bytes
        if not is_copy:
            self.on_waiting()

    def dropped(self, blob_id: str) -> None:
        """A blob is no longer here as a file."""
        with self._lock:
            self._waiting.pop(blob_id, None)
            self._copies.pop(blob_id, None)

    def waiting(self, count: int) -> list[str]:
        """The first blobs that are to be moved, in the order in which they came."""
        with self._lock:
            found = (blob_id for blob_id in self._waiting if blob_id not in self._struck)
            return list(islice(found, count))

    @property
    def waiting_count(self) -> int:
        """How many blobs are to be moved."""
        return len(self._waiting)

    def postpone(self, blob_id: str) -> None:
        """A blob could not be moved: the others that wait come first."""
        with self._lock:
            if (size_bytes := self._waiting.pop(blob_id, None)) is not None:
                self._waiting[blob_id] = size_bytes

    @contextmanager
    def holding(self, blob_id: str) -> Generator[None]:
        """Keep the copy of a blob that is read, whatever needs its room."""
        with self._lock:
            self._held[blob_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[blob_id] -= 1
                if not self._held[blob_id]:
                    del self._held[blob_id]

    def surplus_copies(self, *, bytes_max: int) -> list[str]:
        """Copies that must go so that the others have so many bytes at most, oldest use first.

        None that is held is among them.

        Args:
            bytes_max: What may stay.
        """
        with self._lock:
            surplus_bytes = sum(self._copies.values()) - bytes_max
            names: list[str] = []
            for blob_id, size_bytes in self._copies.items():
                if surplus_bytes <= 0:
                    break
                if blob_id in self._held:
                    continue
                names.append(blob_id)
                surplus_bytes -= size_bytes
        return names

    # --- what is in the store ---

    @contextmanager
    def expected(self, blob_id: str) -> Generator[bool]:
        """Have an object put there or looked for; until it is entered within, nobody removes it.

        Gives False if it is being removed: then it must not be entered.
        """
        with self._lock:
            is_free = blob_id not in self._struck
            self._expected[blob_id] += is_free
        try:
            yield is_free
        finally:
            with self._lock:
                self._expected[blob_id] -= is_free
                if not self._expected[blob_id]:
                    del self._expected[blob_id]

    def enter(self, blob_id: str, size_bytes: int) -> bool:
        """Note, durably, that the whole object is there; False if it is being removed.

        Raises:
            OSError: It cannot be noted.
        """
        with self._writing:
            if blob_id in self._struck:
                return False
            entry = self._entries.get(blob_id) or self._written(blob_id, size_bytes)
            with self._lock:
                if blob_id in self._struck:  # Since, if it was entered before.
                    return False
                self._entries[blob_id] = entry
                self._trust(blob_id)
                if self._waiting.pop(blob_id, None) is not None:
                    self._copies[blob_id] = size_bytes
        return True

    def _written(self, blob_id: str, size_bytes: int) -> _Entry:
        shard = self._folder / blob_id[:2]
        if not shard.exists():
            shard.mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync_path(self._folder)
        path = shard / f"{blob_id[2:]}.{size_bytes}"
        try:
            path.touch(0o600)
            sync_path(shard)
        except OSError:
            with suppress(OSError):  # Else the next start would believe it.
                path.unlink(missing_ok=True)
            raise
        return _Entry(size_bytes, path)

    def make_young(self, blob_id: str) -> bool:
        """Tell whether a blob is there, and keep a collection from taking it for old."""
        with self._lock:
            entry = self._entries.get(blob_id)
            if entry is None:
                return False
            make_young(entry.path)
            if blob_id in self._copies:
                self._copies.move_to_end(blob_id)
        return True

    def is_younger(self, blob_id: str, deadline: float) -> bool:
        """Tell whether a blob is there that was needed at `deadline` (wall time) or later."""
        entry = self._entries.get(blob_id)
        return entry is not None and is_younger(entry.path, deadline)

    def strike(self, blob_id: str) -> None:
        """Nobody needs a blob: it is gone for everybody, and then removed from the store."""
        with self._lock:
            entry = self._entries.pop(blob_id, None)
            if entry is None:
                return
            self._copies.pop(blob_id, None)
            path = entry.path.with_name(entry.path.name + _STRUCK)
            entry.path.rename(path)
            self._struck[blob_id] = _Entry(entry.size_bytes, path)
        self.on_waiting()

    def strike_stray(self, blob_id: str) -> bool:
        """Begin the removal of an object that was never entered; False if it was, or may be."""
        with self._lock:
            known = (self._entries, self._struck, self._expected)
            if any(blob_id in each for each in known):
                return False
            path = self._folder / f"{blob_id}{_STRUCK}"  # Made for no longer than we live.
            self._struck[blob_id] = _Entry(0, path)
        return True

    def struck(self) -> list[str]:
        """Blobs whose objects are to be removed."""
        return list(self._struck)

    def remove(self, blob_id: str) -> None:
        """Remove the object of a blob that was struck, unless it is gone or somebody is at it.

        Raises:
            ObjectStoreError: It cannot be removed now.
            OSError: The strike cannot be made durable.
        """
        with self._lock:
            entry = self._struck.get(blob_id)
            if entry is None or blob_id in self._removing:
                return
            self._removing.add(blob_id)
        try:
            # First, or a loss of power could bring back the name of what is gone.
            sync_path(entry.path.parent)
            self.store.remove(blob_id)
            with self._lock:
                # Before it can be entered again: see `_read`.
                with suppress(OSError):  # Then it is removed once more, which does no harm.
                    entry.path.unlink(missing_ok=True)
                del self._struck[blob_id]
                self._trust(blob_id)
        finally:
            with self._lock:
                self._removing.discard(blob_id)
            self.on_waiting()  # It may be here again; or it is to be tried again.

    def fetch(self, blob_id: str, sink: Callable[[bytes], object], beat: Beat) -> None:
        """Read an object whole.

        Raises:
            BlobLostError: It is gone or something else, and is forgotten here.
            BlobElsewhereError: The store cannot be read.
            OSError: Raised by the sink.
        """
        try:
            self.store.get(blob_id, sink, beat)
        except (ObjectMissingError, ObjectDamagedError) as error:
            if not self._is_lost(blob_id, beat):
                raise BlobElsewhereError(blob_id, str(error)) from error
            self._forget(blob_id, is_damaged=isinstance(error, ObjectDamagedError))
            raise BlobLostError(blob_id, str(error)) from error
        except ObjectStoreError as error:
            raise BlobElsewhereError(blob_id, str(error)) from error

    def _is_lost(self, blob_id: str, beat: Beat) -> bool:
        """Look once more, in a store that shows its marker: it may have been away, or come back."""
        try:
            self.store.look_for_marker()
            self.store.get(blob_id, lambda _: None, beat)
        except (ObjectMissingError, ObjectDamagedError):
            return True
        except ObjectStoreError:
            return False
        return False

    def _forget(self, blob_id: str, *, is_damaged: bool) -> None:
        with self._writing:
            with self._lock:
                # Whom somebody is putting there just now is not lost.
                if blob_id in self._expected or (entry := self._entries.pop(blob_id, None)) is None:
                    return
                self._copies.pop(blob_id, None)
                mark = entry.path.with_name(entry.path.name + _BAD)
                if is_damaged:
                    self._distrusted[blob_id] = mark
            with suppress(OSError):  # The next start would believe it, until it is read again.
                if is_damaged:
                    entry.path.replace(mark)
                else:
                    entry.path.unlink(missing_ok=True)
                sync_path(entry.path.parent)
        fields = {"blob_id": blob_id, "url": self.store.url, "is_damaged": is_damaged}
        logger.warning("an object was removed or changed by somebody else", extra=fields)

    def is_distrusted(self, blob_id: str) -> bool:
        """Whether what lies under the name of a blob was found to be damaged."""
        return blob_id in self._distrusted

    def _trust(self, blob_id: str) -> None:
        """Another object is there now, or none. Called with the lock."""
        if (mark := self._distrusted.pop(blob_id, None)) is not None:
            with suppress(OSError):  # Then the next who offers the blob sends it once more.
                mark.unlink(missing_ok=True)


def _read(folder: Path) -> tuple[dict[str, _Entry], dict[str, _Entry], dict[str, Path]]:
    """Read what is there, what was struck, and what is there and damaged."""
    entries: dict[str, _Entry] = {}
    struck: dict[str, _Entry] = {}
    distrusted: dict[str, Path] = {}
    if not folder.is_dir():
        return entries, struck, distrusted
    for shard in folder.iterdir():
        if len(shard.name) != 2:
            continue
        for path in shard.iterdir():
            rest, _, about = path.name.partition(".")
            size, dot, mark = about.partition(".")
            if not (BLOB_ID.fullmatch(shard.name + rest) and size.isdecimal()):
                continue
            match dot + mark:
                case "":
                    entries[shard.name + rest] = _Entry(int(size), path)
                case suffix if suffix == _STRUCK:
                    struck[shard.name + rest] = _Entry(int(size), path)
                case suffix if suffix == _BAD:
                    distrusted[shard.name + rest] = path
                case _:
                    pass
    for blob_id in entries.keys() & struck.keys():
        # It was entered after the strike, so that was over; what is there now is not to be removed.
        del struck[blob_id]
    # Likewise: what is there now has replaced it.
    distrusted = {k: path for k, path in distrusted.items() if k not in entries}
    return entries, struck, distrusted
