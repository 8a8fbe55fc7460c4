"""Checkpoints as folders beside a training's other files, as seed 001's tools look for them.

What was saved as a folder is unpacked, what was saved as a file is linked to its blob, so that it
takes no room of its own. Folders of checkpoints that are not kept any more are removed.
"""

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue

from lineshaft_coordinator.finetune.checkpoints import label_of
from lineshaft_coordinator.finetune.fold import Saved
from lineshaft_coordinator.strict_json import finite
from lineshaft_protocol.kept_files import KeptFile

BlobFile: TypeAlias = Callable[[str], Path | None]
"""Where a blob lies; None: it is not here."""
DONE = ".complete"
"""Holds the id of the file that the folder was made of; written last."""


def unpack_all(folder: Path, files: Sequence[KeptFile], blob_file: BlobFile) -> None:
    """Make the folders of a training's checkpoints as they should be; blocks on the disk.

    Args:
        folder: The training's.
        files: The checkpoints that are kept, the oldest first.
        blob_file: Where a blob lies.

    Raises:
        OSError: They cannot be written.
        tarfile.TarError: A checkpoint is damaged.
    """
    wanted = {label_of(file): file for file in files}
    for path in folder.glob("checkpoint-*"):
        file = wanted.get(path.name)
        if file is None or _made_of(path) != file.file_id:
            shutil.rmtree(path)
    for label, file in wanted.items():
        if (folder / label).exists():
            continue  # Its blob may have to be brought from far.
        if (blob := blob_file(file.blob or "")) is not None:
            _unpack(folder, label, file, blob)


def _unpack(folder: Path, label: str, file: KeptFile, blob: Path) -> None:
    draft = folder / f".{label}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    if file.is_folder:
        with tarfile.open(blob, "r:") as archive:
            archive.extractall(draft, filter="data")
    else:
        target = draft / Path(file.name).name
        try:
            os.link(blob, target)
        except OSError:  # Another file system.
            shutil.copyfile(blob, target)
        else:
            # It is the blob: a tool that writes to it would spoil the checkpoint of the job.
            target.chmod(0o400)
    (draft / DONE).write_text(file.file_id)
    draft.rename(folder / label)


def _made_of(path: Path) -> str | None:
    try:
        return (path / DONE).read_text()
    except OSError:
        return None


def losses_in(folder: Path, name: str) -> Saved | None:
    """Read what a trainer library wrote of itself into a checkpoint; None if it did not.

    Args:
        folder: The unpacked checkpoint.
        name: The file, as ``trainer_state.json``.
    """
    for path in (folder / name, *folder.glob(f"*/{name}")):
        try:
            state: JsonValue = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        history = state.get("log_history") if isinstance(state, dict) else None
        if isinstance(history, list):
            rows = [row for row in history if isinstance(row, dict)]
            return Saved(_last(rows, "eval_loss"), _last(rows, "loss"), None, None)
    return None


def _last(rows: Iterable[Mapping[str, JsonValue]], name: str) -> float | None:
    found: float | None = None
    for row in rows:
        value = row.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = finite(value)
    return found
