"""Where objects lie: in a folder that several machines see, or in whatever fsspec opens.

Both give an object its name only when it is whole. A folder is used without fsspec: drafts are
synced and renamed. Stores that make an object visible by the last request of its upload (S3, GCS)
are trusted to do so; in all others a draft is moved.
"""

import importlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import unquote, urlsplit

from lineshaft_runtime.durable import sync_path
from lineshaft_runtime.object_errors import ObjectStoreUrlError

DRAFTS: Final = "partial"
"""Folder of what is not whole yet."""
PIECE_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 8 * 1024 * 1024
"""What fsspec sends or asks for at a time: above the 5 MiB that S3 wants of a part."""
_WHOLE_AT_ONCE: Final = frozenset({"s3", "s3a", "gs", "gcs"})
_MTIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "created")

Beat = Callable[[], None]
"""Called whenever something moved."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object or a folder in a listing."""

    name: str
    """The last part of its path."""
    size_bytes: int
    changed_at: float | None
    """Wall time in seconds; None where the store does not say."""


class Place(Protocol):
    """Objects by names like ``ab/cdef…``. All methods block and may be called from any thread.

    What goes wrong is raised as whatever the store has for it; only FileNotFoundError has a
    meaning.
    """

    def write(self, name: str, source: Path, beat: Beat) -> None:
        """Make an object of a file, which appears only when it is whole."""
        ...

    def write_bytes(self, name: str, data: bytes) -> None:
        """Make a small object, or replace it."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """Read an object piece by piece."""
        ...

    def size(self, name: str) -> int | None:
        """Length of an object in bytes; None if there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        ...

    def listing(self, folder: str) -> list[Found]:
        """List what lies in a folder; nothing if there is none."""
        ...


def open_place(url: str) -> Place:
    """Find out what a URL means; contacts nobody.

    Raises:
        ObjectStoreUrlError: It cannot be used here, and why.
    """
    parts = urlsplit(url)
    if not parts.scheme or "::" in url:
        raise ObjectStoreUrlError(url, "write it as s3://BUCKET/PREFIX or file:///FOLDER")
    if "@" in parts.netloc or parts.query:
        # It is told to every worker and stands in logs.
        raise ObjectStoreUrlError(
            f"{parts.scheme}://…",
            "credentials and options are no part of it; give them to each machine in the "
            "environment or files of the store's own package",
        )
    if parts.scheme != "file":
        return _FsspecPlace(url.rstrip("/"), parts.scheme)
    if parts.netloc or not Path(parts.path).is_absolute():
        raise ObjectStoreUrlError(url, "a folder has three slashes: file:///mnt/blobs")
    return _FolderPlace(Path(unquote(parts.path)))


class _FolderPlace:
    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, source: Path, beat: Beat) -> None:
        with source.open("rb", buffering=0) as file:
            self._write(name, iter(lambda: file.read(PIECE_BYTES), b""), beat)

    def write_bytes(self, name: str, data: bytes) -> None:
        self._write(name, iter((data,)), lambda: None)

    def _write(self, name: str, pieces: Iterator[bytes], beat: Beat) -> None:
        target = self._root / name
        draft = self._root / DRAFTS / secrets.token_hex(16)
        # The folder itself must be there: an empty mount point is not what was meant.
        draft.parent.mkdir(mode=0o770, exist_ok=True)
        try:
            with draft.open("xb", buffering=0) as file:
                for piece in pieces:
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[file.write(rest) or 0 :]
                    beat()
                os.fsync(file.fileno())
            if not target.parent.exists():
                target.parent.mkdir(mode=0o770, exist_ok=True)
                sync_path(self._root)
            draft.replace(target)
            sync_path(target.parent)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def read(self, name: str) -> Iterator[bytes]:
        with (self._root / name).open("rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def size(self, name: str) -> int | None:
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            # That the whole store is away must not look like the loss of an object.
            if not self._root.is_dir():
                raise NotADirectoryError(f"there is no folder {self._root}") from None
            return None

    def remove(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def listing(self, folder: str) -> list[Found]:
        try:
            entries = list(os.scandir(self._root / folder))
        except FileNotFoundError:
            return []
        found: list[Found] = []
        for entry in entries:
            with suppress(FileNotFoundError):
                facts = entry.stat()
                found.append(Found(entry.name, facts.st_size, facts.st_mtime))
        return found


class _File(Protocol):
    closed: bool

    def read(self, length: int) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def close(self) -> None: ...
    def commit(self) -> None: ...
    def discard(self) -> None: ...


class _FileSystem(Protocol):
    """The part of ``fsspec.AbstractFileSystem`` that is used, which has no types of its own."""

    def open(self, path: str, mode: str, **options: object) -> _File: ...
    def pipe_file(self, path: str, value: bytes) -> None: ...
    def info(self, path: str) -> Mapping[str, object]: ...
    def ls(self, path: str, *, detail: bool) -> list[Mapping[str, object]]: ...
    def mv(self, path1: str, path2: str) -> None: ...
    def rm_file(self, path: str) -> None: ...
    def makedirs(self, path: str, *, exist_ok: bool) -> None: ...


class _FsspecPlace:
    def __init__(self, url: str, scheme: str) -> None:
        try:
            core = importlib.import_module("fsspec.core")
        except ImportError as error:
            raise ObjectStoreUrlError(
                url, "fsspec is not installed here; pip install 'lineshaft[store]'"
            ) from error
        try:
            found = core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ObjectStoreUrlError(url, f"{error}; it is a package of its own") from error
        except Exception as error:  # Whatever the package of that store thinks of the URL.
            raise ObjectStoreUrlError(url, str(error)) from error
        self._files, self._root = cast("tuple[_FileSystem, str]", found)
        self._is_whole_at_once = scheme in _WHOLE_AT_ONCE

    def write(self, name: str, source: Path, beat: Beat) -> None:
        # Not `put_file`: that of S3 sends ten parts of 50 MiB at a time, all of them in memory.
        write = self._write_at_once if self._is_whole_at_once else self._write_and_move
        write(f"{self._root}/{name}", source, beat)

    def _write_at_once(self, target: str, source: Path, beat: Beat) -> None:
        # Never by `with`: an error would close the file, and what is there would pass for all.
        file = self._files.open(target, "wb", block_size=_BLOCK_BYTES, autocommit=False)
        try:
            _copy(source, file, beat)
            file.close()
        except BaseException:
            with suppress(Exception):
                file.discard()
            file.closed = True  # Else its finalizer would go on.
            raise
        file.commit()

    def _write_and_move(self, target: str, source: Path, beat: Beat) -> None:
        draft = f"{self._root}/{DRAFTS}/{secrets.token_hex(16)}"
        for path in (draft, target):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            file = self._files.open(draft, "wb", block_size=_BLOCK_BYTES)
            try:
                _copy(source, file, beat)
            finally:
                file.close()
            self._files.mv(draft, target)
        except BaseException:
            with suppress(Exception):  # Then a sweep removes it.
                self._files.rm_file(draft)
            raise

    def write_bytes(self, name: str, data: bytes) -> None:
        if not self._is_whole_at_once:
            self._files.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(f"{self._root}/{name}", data)

    def read(self, name: str) -> Iterator[bytes]:
        path = f"{self._root}/{name}"
        file = self._files.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="readahead")
        try:
            while piece := file.read(PIECE_BYTES):
                yield piece
        finally:
            file.close()

    def size(self, name: str) -> int | None:
        try:
            facts = self._files.info(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        size_bytes = facts.get("size")
        return size_bytes if isinstance(size_bytes, int) else None

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")

    def listing(self, folder: str) -> list[Found]:
        try:
            entries = self._files.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        return [_found(entry) for entry in entries]


def _copy(source: Path, target: _File, beat: Beat) -> None:
    with source.open("rb", buffering=0) as reading:
        while piece := reading.read(PIECE_BYTES):
            target.write(piece)
            beat()


def _found(entry: Mapping[str, object]) -> Found:
    name = str(entry.get("name", "")).rstrip("/").rpartition("/")[2]
    size_bytes = entry.get("size")
    return Found(name, size_bytes if isinstance(size_bytes, int) else 0, _changed_at(entry))


def _changed_at(entry: Mapping[str, object]) -> float | None:
    for key in _MTIMES:
        match entry.get(key):
            case int() | float() as seconds:
                return float(seconds)
            case datetime() as date:
                return date.timestamp()
            case _:
                pass
    return None
