"""Copies of files that a job wants kept, made while it runs, and brought back to it later."""

import json
import os
import shutil
import tarfile
import unicodedata
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that steer or turn text, or are halves of characters."""


class Saved(NamedTuple):
    """A checkpoint of an earlier attempt, as it lies in the job's folder now."""

    path: str
    step: int | None
    metadata: Mapping[str, object]
    attempt: int


class CannotRestoreError(OSError):
    """A checkpoint that was stored cannot be written here."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"checkpoint {name} cannot be restored: {reason}")


def keep(path: str, folder: str | None) -> tuple[str, int, str | None]:
    """Copy a file or a folder, as it is now, to where the daemon will look.

    Args:
        path: What the job made.
        folder: Where copies go; None if nobody collects them, then nothing is copied.

    Returns:
        Where it lies now, how many bytes it has, and what went wrong (None if nothing).
    """
    source = Path(path)
    try:
        if folder is None:
            return str(source.absolute()), _size(source), None
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        # Spelled: the daemon hears of it in a message, which holds no name that is no UTF-8.
        target = Path(folder, uuid.uuid4().hex[:12], spelled(source.name) or "folder")
        target.parent.mkdir(mode=0o700)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_copy)
        else:
            _copy(str(source), str(target))
        return str(target), _size(target), None
    except (OSError, ValueError, shutil.Error) as error:
        return path, 0, str(error)


def spelled(name: str) -> str:
    """Return a name with all that nobody sees in it, and backslashes, spelled: `a(U+202E)b`.

    Such a character may turn the text around it, steer a terminal, or be no character at all.
    """
    if name.isascii() and name.isprintable() and "\\" not in name:
        return name
    return "".join(
        f"(U+{ord(letter):04X})"
        if letter == "\\" or unicodedata.category(letter) in UNSEEN
        else letter
        for letter in name
    )


def restore(description: str) -> Saved:
    """Write the checkpoint that a file describes beside it, once, and say where.

    Several processes of a job may ask at once: each writes a draft of its own, the first one's
    becomes the checkpoint.

    Args:
        description: Path of a file that `describe` wrote.

    Raises:
        CannotRestoreError: The disk refused, or the archive is damaged.
    """
    known = cast("dict[str, object]", json.loads(Path(description).read_text()))
    name = str(known["name"])
    target = Path(f"{description}d", Path(name).name)
    try:
        if not target.exists():
            _bring(known, target)
    except (OSError, tarfile.TarError) as error:
        raise CannotRestoreError(name, str(error)) from error
    step = cast("int | None", known["step"])
    metadata = cast("dict[str, object]", known["metadata"])
    return Saved(str(target), step, metadata, cast("int", known["attempt"]))


def _bring(known: Mapping[str, object], target: Path) -> None:
    draft = Path(f"{target.parent}.{uuid.uuid4().hex[:12]}.part")
    draft.mkdir(mode=0o700)
    try:
        if known["is_folder"]:
            unpack_folder(Path(str(known["blob"])), draft / target.name)
        else:
            _copy(str(known["blob"]), str(draft / target.name))
        draft.rename(target.parent)
    except (OSError, tarfile.TarError):
        shutil.rmtree(draft, ignore_errors=True)
        # A folder that is not empty is not replaced: then another process was quicker.
        if not target.exists():
            raise


def describe(
    path: str, blob: Path, name: str, *, is_folder: bool, facts: Mapping[str, object]
) -> None:
    """Write where a checkpoint lies on this machine, for `restore` in another process.

    Raises:
        OSError: The disk refused.
    """
    known = {"blob": str(blob), "name": name, "is_folder": is_folder, **facts}
    Path(path).write_text(json.dumps(known))


def pack_folder(folder: Path, archive: Path) -> None:
    """Write a folder's files as a tar archive: the same bytes for the same files.

    Links and devices are left out: what they lead to is not part of the folder.

    Raises:
        OSError: The disk refused.
    """
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        _add_files(tar, folder)


def hash_of_folder(folder: Path) -> str:
    """Return the SHA-256 of the archive that `pack_folder` would write.

    Raises:
        OSError: The disk refused.
    """
    sink = _Hashing()
    with tarfile.open(None, "w|", cast("IO[bytes]", sink), format=tarfile.PAX_FORMAT) as tar:
        _add_files(tar, folder)
    return sink.digest.hexdigest()


class _Hashing:
    def __init__(self) -> None:
        import hashlib  # noqa: PLC0415 - jobs that keep files do not need it

        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)


def _add_files(tar: tarfile.TarFile, folder: Path) -> None:
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if path.is_symlink() or not path.is_file():
                continue
            info = tar.gettarinfo(str(path), arcname=str(path.relative_to(folder)))
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            info.mode, info.type = 0o600, tarfile.REGTYPE
            with path.open("rb") as content:
                tar.addfile(info, content)


def unpack_folder(archive: Path, folder: Path) -> None:
    """Write the files of an archive that `pack_folder` made into a new folder.

    Raises:
        OSError: The disk refused, or the folder exists.
        tarfile.TarError: It is no such archive, or a name leads out of the folder.
    """
    folder.mkdir(mode=0o700)
    with tarfile.open(archive, "r:") as tar:
        for info in tar:
            parts = info.name.split("/")
            is_inside = not info.name.startswith("/") and not {"", ".", ".."} & {*parts}
            if not info.isreg() or not is_inside or "\0" in info.name:
                raise tarfile.ReadError(f"{info.name!r} may not be in the archive")
            target = folder.joinpath(*parts)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            source = tar.extractfile(info)
            assert source is not None, "a regular file has content"
            with source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _copy(source: str, target: str) -> str:
    # copy_file_range shares the blocks where the file system can, and stays in the kernel else.
    with Path(source).open("rb") as reading, Path(target).open("xb") as writing:
        left = os.fstat(reading.fileno()).st_size
        try:
            while left > 0:
                done = os.copy_file_range(reading.fileno(), writing.fileno(), left)
                if done == 0:
                    break
                left -= done
        except OSError:  # For instance from another file system, on older kernels.
            shutil.copyfileobj(reading, writing)
    return target


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size
