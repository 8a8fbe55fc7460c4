"""Images, sounds and films of a run: files below media/, and media.jsonl, a line for each."""

import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lineshaft_records.layout import RunFolder
from lineshaft_records.text_logs import append_text, json_lines

MEDIA: Final = "media"
LIST: Final = "media.jsonl"
TAG_CHARACTERS_MAX: Final = 100
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]")
_EXTENSION: Final = re.compile(r"[A-Za-z0-9]{1,10}")


def media_name(tag: str, step: int | None, extension: str) -> str:
    """Return what a file is called: `img_a-00000003.png` for `img/a` at step 3.

    Raises:
        ValueError: That is no extension.
    """
    if not _EXTENSION.fullmatch(extension):
        raise ValueError(f"an extension is like png or wav, not {extension[:40]!r}")
    stem = _ODD.sub("_", tag)[:TAG_CHARACTERS_MAX].lstrip(".") or "media"
    return f"{stem}.{extension}" if step is None else f"{stem}-{step:08d}.{extension}"


def keep_media(
    folder: RunFolder, tag: str, data: bytes, *, step: int | None, extension: str
) -> Path:
    """Write a file and put it on the list; returns where it is.

    One that is told twice for a step does not replace the first: it gets a number.

    Raises:
        ValueError: That is no extension.
        OSError: The disk is full or broken.
    """
    wanted = media_name(tag, step, extension)
    media = folder.path / MEDIA
    media.mkdir(exist_ok=True)
    target = _reserved(media, wanted)
    draft = media / f".{target.name}.{os.getpid()}.tmp"
    try:
        draft.write_bytes(data)
        draft.replace(target)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
        raise
    note_media(folder, tag, target.name, len(data), step=step)
    return target


def note_media(
    folder: RunFolder, tag: str, name: str, size_bytes: int, *, step: int | None, **more: object
) -> int:
    """Put a file below media/ on the list; returns how long the list is then, in bytes."""
    said: dict[str, object] = {
        "bytes": size_bytes,
        "file": f"{MEDIA}/{name}",
        "logged_at": datetime.now(UTC).isoformat(),
        "step": step,
        "tag": tag,
    }
    return append_text(folder.path / LIST, json.dumps(said | more, separators=(",", ":")) + "\n")


def listed_media(folder: RunFolder) -> list[dict[str, Any]]:
    """Return what is on the list, in the order in which it was told."""
    told = json_lines(folder.path / LIST)
    return [each for each in told if {"file", "bytes", "tag", "step"} <= each.keys()]


def _reserved(media: Path, wanted: str) -> Path:
    """Take the first name of a row that is free; an empty file holds it."""
    stem, _, extension = wanted.rpartition(".")
    number = 1
    while True:
        target = media / (wanted if number == 1 else f"{stem}-{number}.{extension}")
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        except FileExistsError:
            number += 1
        else:
            return target
