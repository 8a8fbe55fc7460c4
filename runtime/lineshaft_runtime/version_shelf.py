"""Files of a model under names that say their version, the newest few of them.

    FOLDER/<model>/v<version>/<file>

A file of a version never changes once it has its name: who opens it reads that version, whole, or
is told that it is gone. So a version is a folder of its own, and no name is ever used again.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lineshaft_runtime.durable import sync_path

DEFAULT_KEPT: Final = 5
_VERSION: Final = re.compile(r"v([1-9][0-9]{0,19})")
_MODEL_CHARACTERS_MAX: Final = 120
_FILE_BYTES_MAX: Final = 200


class VersionShelf:
    """The versions of one model.

    Args:
        folder: Where the folders of all models lie.
        kept: How many versions are kept, at least 1.
    """

    def __init__(self, folder: Path, model_name: str, *, kept: int = DEFAULT_KEPT) -> None:
        self.folder = folder / model_folder_name(model_name)
        self._kept = max(1, kept)

    def versions(self) -> list[int]:
        """The versions that are here, the oldest first."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        found = (_VERSION.fullmatch(name) for name in names)
        return sorted(int(match.group(1)) for match in found if match is not None)

    def place(self, version: int, file_name: str) -> Path:
        """Make the folder of a version; returns where its file goes."""
        place = self.folder / f"v{version}"
        place.mkdir(parents=True, exist_ok=True)
        return place / safe_file_name(file_name)

    def claim(self, file_name: str) -> tuple[int, Path]:
        """Take the next version, which nobody else gets; returns it and where its file goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        version = max(self.versions(), default=0) + 1
        while True:
            place = self.folder / f"v{version}"
            try:
                place.mkdir()
            except FileExistsError:
                version += 1
            else:
                sync_path(self.folder)
                return version, place / safe_file_name(file_name)

    def retire(self) -> None:
        """Remove all but the newest versions; what is open stays readable for who has it open."""
        for version in self.versions()[: -self._kept]:
            shutil.rmtree(self.folder / f"v{version}", ignore_errors=True)

    def clear(self) -> None:
        """Remove all versions."""
        shutil.rmtree(self.folder, ignore_errors=True)


def model_folder_name(model_name: str) -> str:
    """A name for a model's folder: readable, one a model, and safe whatever it is called."""
    name = quote(model_name, safe=" ", errors="replace")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _MODEL_CHARACTERS_MAX:
        digest = hashlib.sha256(model_name.encode(errors="replace")).hexdigest()[:16]
        name = f"{name[:_MODEL_CHARACTERS_MAX]}-{digest}"
    return name or "%"


def safe_file_name(name: str) -> str:
    """The last part of a path as the name of a file."""
    last = re.split(r"[/\\]", name.replace("\0", ""))[-1].lstrip(".")
    encoded = os.fsencode(last)
    if len(encoded) > _FILE_BYTES_MAX:
        # The end tells what it is, as .safetensors or .tar.
        last = encoded[-_FILE_BYTES_MAX:].decode(errors="ignore").lstrip(".")
    return last or "checkpoint"


def put_in_place(draft: Path, target: Path) -> None:
    """Give a file that is written its name, once it is on the disk.

    Raises:
        OSError: The disk failed; the name leads to nothing, or to what it led to before.
    """
    sync_path(draft)
    draft.rename(target)
    for folder in (target.parent, target.parent.parent):
        sync_path(folder)


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
