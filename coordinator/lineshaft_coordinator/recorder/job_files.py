"""Files that the coordinator keeps of a job, on the lists of its record.

The bytes stay where they are. Pictures, sounds and films are besides below `media/`, where readers
of seed 004's records look for them: a second name of the coordinator's file, which takes no room.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from lineshaft_coordinator.data.blob_files import blob_path
from lineshaft_records import artifacts
from lineshaft_records.layout import RunFolder
from lineshaft_records.media import LIST, MEDIA, note_media

BLOBS: Final = "blobs"
"""Folder of blobs in the data folder."""


class JobFiles:
    """The lists of one run.

    Args:
        folder: The run.
        data: The coordinator's data folder.
        sizes: How long the lists are, as the last writer said; what is behind, it could not say.
    """

    def __init__(self, folder: RunFolder, data: Path, sizes: Mapping[str, int]) -> None:
        self._folder, self._blobs = folder, data / BLOBS
        lists = (folder.artifact_list.name, LIST)
        self.sizes = {name: sizes.get(name, 0) for name in lists}
        if LIST not in sizes:
            (folder.path / LIST).unlink(missing_ok=True)

    def note(self, file: Mapping[str, Any], tag: str | None) -> None:
        """List a file.

        Args:
            file: As the journal has it.
            tag: What it is a picture of, or a sound; None: it is none.

        Raises:
            OSError: The disk is full or broken.
        """
        if file.get("blob") is None:
            return
        digest, size_bytes = str(file["blob"]), int(file.get("size_bytes", 0))
        more = {key: file[key] for key in ("file_id", "attempt") if file.get(key) is not None}
        place = PurePosixPath(file["name"])
        if tag is not None and len(place.parts) == 2 and place.parts[0] == MEDIA:
            target = self._named(place.name, digest)
            if target is not None:
                more["sha256"] = digest
                self.sizes[LIST] = note_media(
                    self._folder, tag, target.name, size_bytes, step=file.get("step"), **more
                )
                return
        if file.get("step") is not None:
            more["step"] = file["step"]
        kept = artifacts.Kept(f"{file['kind']}s/{file['name']}", size_bytes, digest)
        self.sizes[self._folder.artifact_list.name] = artifacts.note(self._folder, kept, **more)

    def _named(self, name: str, digest: str) -> Path | None:
        """Give a blob a name below media/; None if it is not on this disk, or there is no room."""
        blob = blob_path(self._blobs, digest)
        folder = self._folder.path / MEDIA
        stem, dot, extension = name.rpartition(".")
        with suppress(OSError, ValueError):  # A worker may send a name that no file can have.
            folder.mkdir(exist_ok=True)
            number = 1
            while True:
                # An attempt that did a step again has made another picture of the same name.
                target = folder / (name if number == 1 else f"{stem}-{number}{dot}{extension}")
                try:
                    os.link(blob, target)
                    # It is the blob: a tool that writes to it would spoil the file of the job.
                    target.chmod(0o400)
                except FileExistsError:
                    if target.samefile(blob):
                        return target  # Of a recorder that was killed, or of the same picture.
                    number += 1
                except FileNotFoundError:
                    return None
                except OSError:  # Another file system, or too many names.
                    if target.exists():
                        number += 1
                        continue
                    return _copied(blob, target)
                else:
                    return target
        return None


def _copied(blob: Path, target: Path) -> Path | None:
    try:
        shutil.copyfile(blob, target)
    except OSError:
        target.unlink(missing_ok=True)
        return None
    return target
