"""The files of trainings: where they lie, and how they are written whole or not at all."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from lineshaft_coordinator.finetune.settings import TrainingSettings


class TrainingFiles:
    """Names and writes the files of all trainings; every method blocks on the disk.

    Args:
        folder: Where they lie.
        settings: What they are called.
    """

    def __init__(self, folder: Path, settings: TrainingSettings) -> None:
        self.folder = folder
        self._settings = settings

    def logs(self, job_id: str) -> Path:
        """The folder of a training."""
        return self.folder / self._settings.logs / f"job_{job_id}"

    def log(self, job_id: str) -> Path:
        """What it printed."""
        return self.folder / self._settings.logs / f"job_{job_id}.log"

    def progress(self, job_id: str) -> Path:
        """How far it is."""
        return self.logs(job_id) / self._settings.progress_filename

    def fold(self, job_id: str) -> Path:
        """Where we go on after a restart; it can be made again from the store."""
        return self.logs(job_id) / ".fold.json"

    def config(self, job_id: str) -> Path:
        """What it was started with."""
        return self.folder / self._settings.configs / f"job_{job_id}.json"

    def dataset(self, job_id: str) -> Path:
        """The dataset that came with it."""
        folder = self.folder / self._settings.logs / "datasets" / f"job_{job_id}"
        return folder / "train_dataset.jsonl"

    def job_ids(self) -> set[str]:
        """The trainings of which there are files."""
        configs, logs = self.folder / self._settings.configs, self.folder / self._settings.logs
        names = {path.name.removesuffix(".json") for path in configs.glob("job_*.json")}
        names |= {path.name for path in logs.glob("job_*") if path.is_dir()}
        return {name.removeprefix("job_") for name in names}

    def has(self, job_id: str) -> bool:
        """Whether there are files of this training."""
        return self.config(job_id).exists() or self.logs(job_id).exists()

    def remove(self, job_id: str) -> None:
        """Remove all files of a training.

        Raises:
            OSError: One cannot be removed.
        """
        self.log(job_id).unlink(missing_ok=True)
        # The last two last: by them a training is found.
        for folder in (self.dataset(job_id).parent, self.logs(job_id)):
            if folder.exists():
                shutil.rmtree(folder)
        self.config(job_id).unlink(missing_ok=True)

    def keep_request(self, job_id: str, config: JsonValue, dataset: str | None) -> None:
        """Write what a training was started with.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        replace(self.config(job_id), json.dumps(config, indent=2).encode())
        if dataset is not None:
            replace(self.dataset(job_id), dataset.encode())

    def append_log(self, job_id: str, pieces: Sequence[str], *, behind: int) -> None:
        """Add to a log, of which only the first bytes count; what follows them is written anew.

        Raises:
            OSError: It cannot be written.
            ShortLogError: It has fewer bytes than that: it must be made again from the store.
        """
        path = self.log(job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "w+b") as file:
            if file.seek(0, os.SEEK_END) < behind:
                raise ShortLogError(path)
            file.truncate(behind)
            file.seek(behind)
            file.write("".join(pieces).encode("utf-8", "replace"))


class ShortLogError(Exception):
    """A log lost its end: the machine went down before the disk had it."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} lost its end")
        self.path = path


def replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a reader sees the old one or the new one.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> JsonValue:
    """Read a JSON file; None if it is not there, or damaged."""
    try:
        data: JsonValue = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data
