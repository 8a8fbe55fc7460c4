"""Attempts of an earlier daemon, as they are found in the folders of runners."""

import json
from pathlib import Path
from typing import NamedTuple

from lineshaft_worker.execution.attempts import Attempt
from lineshaft_worker.execution.host import Host
from lineshaft_worker.execution.orders import AttemptKey, Shape
from lineshaft_worker.runner.files import DESCRIPTION, attempt_file
from lineshaft_worker.runner.frames import Done, FrameError, decode_one
from lineshaft_worker.runner.records import decode_current

OUTPUTS = "outputs"
"""What a job leaves in this folder beside its files is kept."""


class Adopted(NamedTuple):
    """An attempt of an earlier daemon that is still running."""

    key: AttemptKey
    lane: int
    started_at: float
    """Seconds since 1970."""


def describe(folder: Path, lane: int, shape: Shape) -> None:
    """Leave word for whom a runner was made. Raises OSError."""
    description = {"lane": lane, "shape": [shape.environment, shape.devices]}
    (folder / DESCRIPTION).write_text(json.dumps(description))


def read_description(folder: Path) -> tuple[int, Shape] | None:
    """Return lane and shape of a runner of an earlier daemon; None if they cannot be read."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        environment, devices = description["shape"]
        lane = int(description["lane"])
    except (OSError, ValueError, KeyError):
        return None
    return lane, Shape(environment, tuple(devices), (), (("", "unknown to this daemon"),))


def adopted_attempt(lane: int, host: Host, record: bytes) -> Attempt:
    """Return the attempt that a runner's `current` file tells of."""
    current = decode_current(record)
    return Attempt(
        key=AttemptKey(current.job_id, current.attempt),
        kind=current.kind,  # type: ignore[arg-type]  # written by our runner from an order
        lane=lane,
        ticket=current.ticket,
        host=host,
        folder=host.folder,
        run_s=current.run_s,
        memory_bytes=current.memory_bytes,
        began=current.started_monotonic,
        started_wall=current.started_wall,
        is_told=True,
        begins=current.begins,
        has_files=True,
    )


def attempt_of_done(lane: int, host: Host, done: Done) -> Attempt:
    """Return an attempt of an earlier daemon, of which only the end is known."""
    return Attempt(
        key=AttemptKey(done.job_id, done.attempt),
        kind=done.kind,  # type: ignore[arg-type]  # written by our runner from an order
        lane=lane,
        ticket=done.ticket,
        host=host,
        folder=host.folder,
        started_wall=done.started_wall,
        begins=done.begins,
        done=done,
        has_files=True,
    )


def read_done(path: Path) -> Done | None:
    """Return the end that was saved for an attempt, if it can be read."""
    try:
        frame = decode_one(path.read_bytes())
    except (OSError, FrameError):
        return None
    return frame if isinstance(frame, Done) else None


def ended_in(folder: Path) -> list[AttemptKey]:
    """Name the attempts whose saved ends lie in a runner's folder."""
    found = [read_done(path) for path in sorted(folder.glob("*.ended"))]
    return [AttemptKey(done.job_id, done.attempt) for done in found if done is not None]


def outputs_of(attempt: Attempt) -> Path | None:
    """Return the folder in which a job left what shall be kept, if it made one."""
    if attempt.kind != "pipeline" or attempt.folder is None:
        return None
    path = Path(attempt_file(str(attempt.folder), attempt.ticket, "work"), OUTPUTS)
    return path if path.is_dir() and not path.is_symlink() else None
