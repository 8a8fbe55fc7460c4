"""What long attempts were started with, kept for the next daemon."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.worker_messages import Assign
from lineshaft_worker.core.io import AttemptKey


class Assigns:
    """One small file an attempt, while it runs.

    A function that needs nothing but a slot has none: should the daemon die, the next one knows
    its id, and that is all it needs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[AttemptKey, JobSpec] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, key: AttemptKey, assign: Assign) -> None:
        """Keep what an attempt is started with.

        Raises:
            OSError: The disk refused: it must not be started.
        """
        # Without payload and secrets: they are with the runner already, and secrets on no disk.
        lean = assign.model_copy(
            update={
                "job": assign.job.model_copy(update={"payload": Payload(inline="")}),
                "secrets": None,
            }
        )
        try:
            self._path(key).write_text(lean.model_dump_json(exclude_none=True))
        except OSError:
            self._path(key).unlink(missing_ok=True)
            raise
        self._known[key] = assign.job

    def known(self, key: AttemptKey) -> JobSpec | None:
        """The job of an attempt that was written or read here."""
        return self._known.get(key)

    def read(self, key: AttemptKey) -> Assign:
        """What an attempt was started with, as far as is known."""
        with contextlib.suppress(OSError, ValidationError):
            assign = Assign.model_validate_json(self._path(key).read_bytes())
            self._known[key] = assign.job
            return assign
        job = JobSpec(job_id=key.job_id, kind="function", payload=Payload(inline=""))
        return Assign(job=job, attempt=key.attempt, epoch=0)

    def keep_only(self, keys: Iterable[AttemptKey]) -> None:
        """Remove what is left of attempts that an earlier daemon did not see end."""
        kept = {self._path(key).name for key in keys}
        for path in self._folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def remove(self, key: AttemptKey) -> None:
        """The attempt is settled."""
        if self._known.pop(key, None) is not None:
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: AttemptKey) -> Path:
        # Ids may hold dots and colons but no slash, and never begin with a dot.
        return self._folder / f"{key.job_id}@{key.attempt}.json"
