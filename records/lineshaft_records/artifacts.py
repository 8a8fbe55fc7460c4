"""Files that a run leaves: copied below artifacts/, with size and hash on a list."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from lineshaft_records.layout import RunFolder
from lineshaft_records.text_logs import append_text

CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept."""

    path: str
    """Below artifacts/."""
    size_bytes: int
    sha256: str


def place_of(name: str) -> PurePosixPath:
    """Return where a file goes: a relative path as it is, all else by its last part.

    What would lie outside, by `..` or from the root, is not followed there.
    """
    path = PurePosixPath(os.path.normpath(name))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return PurePosixPath(path.name or "file")
    return path


def keep(folder: RunFolder, source: Path, name: str) -> list[Kept]:
    """Copy a file, or all files of a folder, and note what was copied.

    A file of another content never replaces one that is there: it gets a number.

    Raises:
        OSError: The source is missing, or cannot be read.
    """
    place = place_of(name)
    if source.is_dir():
        inside = sorted(path for path in source.rglob("*") if path.is_file())
        pairs = [(path, place / path.relative_to(source).as_posix()) for path in inside]
    else:
        pairs = [(source, place)]
    return [_keep_file(folder, path, target) for path, target in pairs]


def _keep_file(folder: RunFolder, source: Path, place: PurePosixPath) -> Kept:
    folder.artifacts.mkdir(parents=True, exist_ok=True)
    draft = folder.artifacts / f".{os.getpid()}.tmp"
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as read, draft.open("wb") as write:
            while chunk := read.read(CHUNK_BYTES):
                digest.update(chunk)
                write.write(chunk)
                size += len(chunk)
            write.flush()
            os.fsync(write.fileno())
        shutil.copymode(source, draft)
        target = _free(folder, place, digest.hexdigest())
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    kept = Kept(target.relative_to(folder.artifacts).as_posix(), size, digest.hexdigest())
    note(folder, kept, source=str(source))
    return kept


def note(folder: RunFolder, kept: Kept, **more: object) -> int:
    """Put an artifact on the list of the run; returns how long the list is then, in bytes."""
    said = {"path": kept.path, "size_bytes": kept.size_bytes, "sha256": kept.sha256}
    return append_text(
        folder.artifact_list, json.dumps({**said, "at": round(time.time(), 3), **more}) + "\n"
    )


def _free(folder: RunFolder, place: PurePosixPath, sha256: str) -> Path:
    """Return the first name of a row that is free, or has this content already."""
    number = 1
    while True:
        name = place.name if number == 1 else f"{place.stem}-{number}{place.suffix}"
        target = folder.artifacts / place.with_name(name)
        if not target.exists():
            return target
        if target.is_file():
            with target.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    return target
        number += 1
