"""Where the files of a record lie, and which names a record may have.

    <base>/<experiment>/experiment.yaml
    <base>/<experiment>/<run>/{run.yaml, config.yaml, metrics.parquet, run.log, console.log}
    <base>/<experiment>/<run>/artifacts/

A run that is not closed has a folder `.live` besides: the segments that its rows are appended to.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from lineshaft_records.errors import BadNameError, NoSuchExperimentError

_BAD: Final = re.compile(r"[\x00-\x1f/\x7f]")
_NAME_CHARACTERS_MAX: Final = 200
_NAME_BYTES_MAX: Final = 255
INDEX_NAME: Final = ".index.sqlite"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def experiment(self) -> str:
        """Name of the folder above."""
        return self.path.parent.name

    @property
    def name(self) -> str:
        """Name of the run's own folder."""
        return self.path.name

    @property
    def info(self) -> Path:
        """What is known about the run as a whole."""
        return self.path / "run.yaml"

    @property
    def config(self) -> Path:
        """Its parameters."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """All rows up to the last time they were published."""
        return self.path / "metrics.parquet"

    @property
    def provenance(self) -> Path:
        """What it was made of."""
        return self.path / "provenance.yaml"

    @property
    def log(self) -> Path:
        """What it said on purpose."""
        return self.path / "run.log"

    @property
    def console(self) -> Path:
        """What it printed."""
        return self.path / "console.log"

    @property
    def artifacts(self) -> Path:
        """Files that it left."""
        return self.path / "artifacts"

    @property
    def artifact_list(self) -> Path:
        """One JSON object a line for each artifact: path, size, sha256."""
        return self.path / "artifacts.jsonl"

    @property
    def live(self) -> Path:
        """What a run has that is not closed yet."""
        return self.path / ".live"

    @property
    def spool(self) -> Path:
        """What a run without a server told and its keeper reads."""
        return self.live / "spool"

    def segment(self, number: int) -> Path:
        """File of rows, numbered from 1."""
        return self.live / f"metrics-{number}.arrow"

    def segments(self) -> list[Path]:
        """Files of rows that are there, in order."""
        found = self.live.glob("metrics-*.arrow")
        return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))


def run_folder(base: Path, experiment: str, run: str) -> RunFolder:
    """Return where a run lies, or would lie.

    Raises:
        BadNameError: One of the names cannot be that of a folder.
    """
    return RunFolder(base / check_name("an experiment", experiment) / check_name("a run", run))


def experiment_folder(base: Path, name: str) -> Path:
    """Return where an experiment lies.

    Raises:
        NoSuchExperimentError: There is none of that name.
    """
    try:
        path = base / check_name("an experiment", name)
    except BadNameError as error:
        raise NoSuchExperimentError(name[:200], base) from error
    if not path.is_dir():
        raise NoSuchExperimentError(name, base)
    return path


def check_name(what: str, name: str) -> str:
    """Return the name if it can be that of a folder.

    Raises:
        BadNameError: It cannot.
    """
    is_short = 0 < len(name) <= _NAME_CHARACTERS_MAX
    if not is_short or name.startswith(".") or _BAD.search(name):
        raise BadNameError(what, name)
    if len(name.encode(errors="replace")) > _NAME_BYTES_MAX:
        raise BadNameError(what, name)
    return name


def safe_name(text: str, default: str) -> str:
    """Return a name as close to the text as a folder can have."""
    cleaned = _BAD.sub("_", text).strip().lstrip(".")[:_NAME_CHARACTERS_MAX]
    while len(cleaned.encode(errors="replace")) > _NAME_BYTES_MAX:
        cleaned = cleaned[:-1]
    return cleaned or default


def default_run_name(now: datetime) -> str:
    """Name a run after the local time of its start."""
    return now.strftime("%Y%m%d_%H%M%S")


def experiments(base: Path) -> Iterator[Path]:
    """Yield the folders of experiments, by name."""
    yield from _folders(base)


def runs(base: Path) -> Iterator[RunFolder]:
    """Yield the runs of all experiments, by name."""
    for experiment in experiments(base):
        for path in _folders(experiment):
            yield RunFolder(path)


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as found:
            names = [each.name for each in found if each.is_dir()]
    except FileNotFoundError:
        return []
    return [path / name for name in sorted(names) if not name.startswith(".")]
