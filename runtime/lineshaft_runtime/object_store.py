"""Large blobs outside of the coordinator's disk: a shared folder, S3, whatever fsspec opens.

An object lies under ``<url>/ab/abcdef…``, by the SHA-256 of its content. Beside them is a marker
with a random id: it says whose they are, and proves to a worker that its ``file:///mnt/blobs`` is
the coordinator's and not another folder of the same name.
"""

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.object_errors import (
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreTakenError,
    ObjectStoreUnreachableError,
)
from lineshaft_runtime.object_places import DRAFTS, Beat, Found, open_place

MARKER: Final = "lineshaft-store.json"
_NO_MARKER: Final = f"its marker {MARKER} is not there; is it mounted, or was it emptied?"
_MARKER_BYTES_MAX: Final = 4096
_BLOB_ID: Final = re.compile(r"[0-9a-f]{64}")


def object_name(blob_id: str) -> str:
    """Say where below the URL a blob lies."""
    return f"{blob_id[:2]}/{blob_id}"


def _no_beat() -> None:
    pass


class ObjectStore:
    """Objects by the hash of their content. All methods block; any thread may call them.

    Args:
        url: Where; contains no credentials.

    Raises:
        ObjectStoreUrlError: It cannot be used here.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._place = open_place(url)
        self._store_id: str | None = None
        """Ours, once it was claimed."""

    def claim(self, store_id: str, *, is_new: bool) -> None:
        """Make sure that the place is ours, and say so with the marker.

        Args:
            store_id: Ours, made at random once.
            is_new: Whether the marker may be missing, and is to be written.

        Raises:
            ObjectStoreTakenError: It has another id.
            ObjectStoreUnreachableError: It cannot be read or written, or is gone.
        """
        found = self.marker()
        if found is None and is_new:
            with self._asked():
                self._place.write_bytes(MARKER, json.dumps({"store_id": store_id}).encode())
            found = self.marker()
        if found is None:
            raise ObjectStoreUnreachableError(self.url, _NO_MARKER)
        if found != store_id:
            raise ObjectStoreTakenError(self.url)
        self._store_id = store_id

    def marker(self) -> str | None:
        """Read the id of the marker; None if there is none.

        Raises:
            ObjectStoreUnreachableError: It cannot be read.
        """
        with self._asked():
            if self._place.size(MARKER) is None:
                return None
            text = b"".join(self._place.read(MARKER))[:_MARKER_BYTES_MAX]
            found: dict[str, str] = json.loads(text)
            return str(found["store_id"])

    def put(
        self, blob_id: str, source: Path, beat: Beat = _no_beat, *, replaces: bool = False
    ) -> None:
        """Make an object of a file whose hash is known; nothing is sent if it is there.

        Args:
            blob_id: The blob.
            source: The file.
            beat: Called with each piece.
            replaces: Whether what is there is known to be damaged, though its length is right.

        Raises:
            ObjectStoreTakenError: Another one's place is there by now.
            ObjectStoreUnreachableError: It cannot be written; no part of it is visible.
        """
        name = object_name(blob_id)
        with self._asked():
            if replaces or self._place.size(name) != source.stat().st_size:
                self._look_for_marker()
                self._place.write(name, source, beat)

    def get(self, blob_id: str, sink: Callable[[bytes], object], beat: Beat = _no_beat) -> int:
        """Read an object and compute its hash; returns its length in bytes.

        Args:
            blob_id: The blob.
            sink: Takes it piece by piece; what it took is worth something only once we return.
            beat: Called with each piece.

        Raises:
            ObjectMissingError: It is gone.
            ObjectDamagedError: Something else lies there.
            ObjectStoreUnreachableError: It cannot be read.
            OSError: Raised by the sink.
        """
        name, digest, size_bytes = object_name(blob_id), hashlib.sha256(), 0
        if self.size(blob_id) is None:
            raise ObjectMissingError(self.url, name)
        for piece in self._pieces(name):
            digest.update(piece)
            size_bytes += len(piece)
            sink(piece)
            beat()
        if digest.hexdigest() != blob_id:
            detail = f"its {size_bytes} bytes hash to {digest.hexdigest()}"
            raise ObjectDamagedError(self.url, name, detail)
        return size_bytes

    def _pieces(self, name: str) -> Iterator[bytes]:
        with self._asked(name):
            reading = self._place.read(name)
        while True:
            with self._asked(name):
                piece = next(reading, None)
            if piece is None:
                return
            yield piece

    def size(self, blob_id: str) -> int | None:
        """Length of an object in bytes; None if there is none.

        Raises:
            ObjectStoreUnreachableError: Nobody can say.
        """
        with self._asked():
            size_bytes = self._place.size(object_name(blob_id))
            if size_bytes is None:
                self._look_for_marker()
        return size_bytes

    def remove(self, blob_id: str) -> None:
        """Remove an object, if it is there.

        Raises:
            ObjectStoreUnreachableError: It cannot be removed.
        """
        with self._asked():
            self._place.remove(object_name(blob_id))

    def objects(self) -> Iterator[Found]:
        """List all objects, by the names of their blobs.

        Raises:
            ObjectStoreUnreachableError: They cannot be listed.
        """
        with self._asked():
            shards = [each.name for each in self._place.listing("") if len(each.name) == 2]
        for shard in sorted(shards):
            with self._asked():
                found = self._place.listing(shard)
            yield from (each for each in found if _BLOB_ID.fullmatch(each.name))

    def remove_drafts(self, *, before: float) -> int:
        """Remove what killed processes left half written; returns how many.

        Args:
            before: What was changed then or later stays; wall time in seconds.

        Raises:
            ObjectStoreUnreachableError: They cannot be listed or removed.
        """
        with self._asked():
            found = self._place.listing(DRAFTS)
            old = [e for e in found if e.changed_at is not None and e.changed_at < before]
            for each in old:
                self._place.remove(f"{DRAFTS}/{each.name}")
        return len(old)

    def look_for_marker(self) -> None:
        """Make sure that the store is there and ours, as when it was claimed.

        Raises:
            ObjectStoreTakenError: Another one's place is there by now.
            ObjectStoreUnreachableError: It is not.
        """
        with self._asked():
            self._look_for_marker()

    def _look_for_marker(self) -> None:
        """An empty mount point must not pass for a store that lost all its objects.

        Nor another one's place for ours, which would be given objects that it sweeps.
        """
        is_there = self._place.size(MARKER) is not None
        if is_there and self._store_id is not None and self.marker() != self._store_id:
            raise ObjectStoreTakenError(self.url)
        if not is_there:
            raise ObjectStoreUnreachableError(self.url, _NO_MARKER)

    @contextmanager
    def _asked(self, name: str | None = None) -> Generator[None]:
        """Make one error of all that a store's package may raise.

        Args:
            name: The object that is read, if one is.
        """
        try:
            yield
        except LineshaftError:
            raise
        except FileNotFoundError as error:
            if name is not None:
                raise ObjectMissingError(self.url, name) from error
            raise ObjectStoreUnreachableError(self.url, _text(error)) from error
        except Exception as error:  # Each has its own: botocore's, aiohttp's, …
            raise ObjectStoreUnreachableError(self.url, _text(error)) from error


def _text(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
