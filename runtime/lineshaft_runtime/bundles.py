"""The files, requirements and entry point of a pipeline job as one piece of bytes.

A bundle comes from a client that the worker need not trust with anything but the job's own folder:
names are checked before the first file is written, and files are made beneath an open folder,
never through a link.
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import msgpack  # type: ignore[import-untyped]  # it has no stubs

from lineshaft_protocol.errors import LineshaftError

PACKED_BYTES_MAX = 256 * 2**20
CONTENT_BYTES_MAX = 2**30
"""Most bytes of all files of a job together."""
FILES_MAX = 10_000
PATH_BYTES_MAX = 1024
NAME_BYTES_MAX = 255
DEPTH_MAX = 32
REQUIREMENTS_MAX = 1000
_VERSION = 1
_VERSION_WITH_REFS = 2
_VERSION_WITH_MODES = 3
_PIECE_BYTES = 2**20


class FileRef(NamedTuple):
    """The content of a file that is a blob of its own."""

    sha256: str
    """64 hexadecimal digits, in small letters."""
    size_bytes: int


class BundleError(LineshaftError):
    """A bundle is damaged, too large, or names a file that may not be."""

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(reason if path is None else f"{path[:200]!r} in the bundle: {reason}")
        self.reason = reason
        self.path = path


class PipelineBundle(NamedTuple):
    """What a pipeline job consists of."""

    files: tuple[tuple[str, bytes | FileRef], ...]
    """Relative names with `/`, and contents."""
    requirements: tuple[str, ...]
    """Lines as in a requirements.txt."""
    entry_point: str
    """`train.py`, `train.py:main` or `package.module:main`."""
    input_data: bytes | None
    """Packed (`packing.pack`)."""
    params: bytes
    """Packed (`packing.pack`)."""
    executables: tuple[str, ...] = ()
    """Those of the files that can be executed."""


def encode_bundle(bundle: PipelineBundle) -> bytes:
    """Return the bundle as bytes.

    Raises:
        BundleError: The bundle breaks a rule, so that no worker would take it.
    """
    check_bundle(bundle)
    has_refs = any(isinstance(content, FileRef) for _, content in bundle.files)
    parts: tuple[object, ...] = (
        [(path, *_packed(content)) for path, content in bundle.files],
        list(bundle.requirements),
        bundle.entry_point,
        bundle.input_data,
        bundle.params,
    )
    # Workers of before need not know of blobs and modes to take what has none.
    if bundle.executables:
        data = _packb((_VERSION_WITH_MODES, *parts, list(bundle.executables)))
    else:
        data = _packb((_VERSION_WITH_REFS if has_refs else _VERSION, *parts))
    if len(data) > PACKED_BYTES_MAX:
        raise BundleError(f"{len(data)} bytes are more than {PACKED_BYTES_MAX}")
    return data


def decode_bundle(data: bytes | bytearray | memoryview) -> PipelineBundle:
    """Return the bundle that `encode_bundle` was given.

    Raises:
        BundleError: The data are no bundle, or break a rule.
    """
    if len(data) > PACKED_BYTES_MAX:
        raise BundleError(f"{len(data)} bytes are more than {PACKED_BYTES_MAX}")
    try:
        items = _items(_unpackb(data, use_list=False, max_array_len=FILES_MAX, max_map_len=0))
        lengths = {_VERSION: 6, _VERSION_WITH_REFS: 6, _VERSION_WITH_MODES: 7}
        if not items or lengths.get(cast("int", items[0])) != len(items):
            raise BundleError("this is no bundle, or one of another version")
        input_data = items[4]
        bundle = PipelineBundle(
            tuple(_file(item) for item in _items(items[1])),
            tuple(_text(item) for item in _items(items[2])),
            _text(items[3]),
            None if input_data is None else _bytes(input_data),
            _bytes(items[5]),
            tuple(_text(item) for item in _items(items[6])) if len(items) > 6 else (),
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BundleError(f"damaged: {error}") from error
    check_bundle(bundle)
    return bundle


def check_bundle(bundle: PipelineBundle) -> None:
    """Hold the bundle against all rules about names and numbers.

    Raises:
        BundleError: It breaks one.
    """
    if len(bundle.files) > FILES_MAX:
        raise BundleError(f"{len(bundle.files)} files are more than {FILES_MAX}")
    if len(bundle.requirements) > REQUIREMENTS_MAX:
        raise BundleError(f"{len(bundle.requirements)} requirements are over {REQUIREMENTS_MAX}")
    if not bundle.entry_point or len(bundle.entry_point) > PATH_BYTES_MAX:
        raise BundleError("the entry point is empty or too long")
    size_bytes = sum(_size(content) for _, content in bundle.files)
    if size_bytes > CONTENT_BYTES_MAX:
        raise BundleError(f"{size_bytes} bytes of files are more than {CONTENT_BYTES_MAX}")
    check_paths(path for path, _ in bundle.files)
    if strangers := set(bundle.executables) - {path for path, _ in bundle.files}:
        raise BundleError("it is executable but not there", min(strangers))


def check_paths(paths: Iterable[str]) -> None:
    """Check names of files that are to lie together in one folder.

    Raises:
        BundleError: A name leads out of the folder, would not mean the same on every system, or
            meets another one.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        _check_path(path)
        key = _key(path)
        if key in files or key in folders:
            raise BundleError(f"the same name as {files.get(key, folders.get(key))!r}", path)
        files[key] = path
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            known = folders.setdefault(_key(folder), folder)
            if known != folder:
                raise BundleError(f"its folder differs from {known!r} only in case", path)
            if _key(folder) in files:
                raise BundleError(f"{folder!r} is a file as well", path)


def write_bundle(bundle: PipelineBundle, folder: Path, blobs: Path | None = None) -> None:
    """Make a new folder (mode 0700) and write all files of the bundle beneath it.

    Args:
        bundle: Checked again here.
        folder: To be made.
        blobs: Where the blobs are that it refers to, each named by its SHA-256.

    Raises:
        BundleError: A name breaks a rule, or a blob is not what it is called.
        FileExistsError: The folder exists already.
        OSError: The disk refused.
    """
    check_bundle(bundle)
    folder.mkdir(mode=0o700)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    root = os.open(folder, flags)
    made: set[str] = set()
    able = frozenset(bundle.executables)
    try:
        for path, content in bundle.files:
            pieces = _pieces(path, content, blobs) if isinstance(content, FileRef) else (content,)
            _write_beneath(root, path, pieces, made=made, mode=0o700 if path in able else 0o600)
    finally:
        os.close(root)


def _pieces(path: str, ref: FileRef, blobs: Path | None) -> Iterator[bytes]:
    """Read a blob, and fail at its end if it was another one."""
    if blobs is None:
        raise BundleError("its content is missing", path)
    digest, size_bytes = hashlib.sha256(), 0
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(blobs / ref.sha256, flags), "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size_bytes += len(piece)
            yield piece
    if (digest.hexdigest(), size_bytes) != (ref.sha256, ref.size_bytes):
        raise BundleError("its content is not what was sent", path)


def _write_beneath(
    root: int, path: str, pieces: Iterable[bytes], *, made: set[str], mode: int
) -> None:
    *folders, name = path.split("/")
    opened: list[int] = []
    here, so_far = root, ""
    try:
        for part in folders:
            so_far = f"{so_far}/{part}"
            if so_far not in made:
                os.mkdir(part, 0o700, dir_fd=here)
                made.add(so_far)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            here = os.open(part, flags, dir_fd=here)
            opened.append(here)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, mode, dir_fd=here), "wb") as file:
            for piece in pieces:
                file.write(piece)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _check_path(path: str) -> None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise BundleError("no valid Unicode", path.encode(errors="replace").decode()) from None
    if not path or len(encoded) > PATH_BYTES_MAX:
        raise BundleError(f"a name has 1 to {PATH_BYTES_MAX} bytes", path)
    if path.startswith("/") or path[1:2] == ":":
        raise BundleError("absolute names are not allowed", path)
    if "\\" in path or any(unicodedata.category(letter) in {"Cc", "Cf"} for letter in path):
        raise BundleError("backslashes, control and invisible characters are not allowed", path)
    parts = path.split("/")
    if len(parts) > DEPTH_MAX:
        raise BundleError(f"deeper than {DEPTH_MAX} folders", path)
    for part in parts:
        if part in {"", ".", ".."}:
            raise BundleError("empty parts, '.' and '..' are not allowed", path)
        if len(part.encode()) > NAME_BYTES_MAX:
            raise BundleError(f"a part has more than {NAME_BYTES_MAX} bytes", path)
        if part[-1] in ". " or part[0] == " ":
            raise BundleError("a part may not end in a dot, or start or end in a space", path)


def _key(path: str) -> str:
    """Return what two names have in common that some file system takes for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _items(items: object) -> tuple[object, ...]:
    if not isinstance(items, tuple):
        raise BundleError("damaged: an array is missing")
    return cast("tuple[object, ...]", items)


def _file(item: object) -> tuple[str, bytes | FileRef]:
    match _items(item):
        case (path, content):
            return _text(path), _bytes(content)
        case (path, bytes() as digest, int() as size_bytes) if len(digest) == 32 and (
            0 <= size_bytes <= CONTENT_BYTES_MAX
        ):
            return _text(path), FileRef(digest.hex(), size_bytes)
        case _:
            raise BundleError("damaged: a file is a name and bytes, or a name, hash and size")


def _packed(content: bytes | FileRef) -> tuple[object, ...]:
    if isinstance(content, FileRef):
        return bytes.fromhex(content.sha256), content.size_bytes
    return (content,)


def _size(content: bytes | FileRef) -> int:
    return content.size_bytes if isinstance(content, FileRef) else len(content)


def _text(item: object) -> str:
    if not isinstance(item, str):
        raise BundleError("damaged: a text is missing")
    return item


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise BundleError("damaged: bytes are missing")
    return item


# The casts stand in for msgpack's missing stubs.
_packb = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpackb = cast("Callable[..., object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]
