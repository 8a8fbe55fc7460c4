"""What an attempt needs before it can wait for a lane: its blobs, then its environment.

None of it takes a slot or a device. Blobs come over the session, so they are asked for again after
a cut; an environment is made here, whatever the session does.
"""

from collections.abc import Callable, Iterable

from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Failure
from lineshaft_worker.core.attempts import Attempt, Phase
from lineshaft_worker.core.io import (
    BlobsArrived,
    BlobsFailed,
    CancelPreparing,
    Effect,
    EnvironmentFailed,
    EnvironmentReady,
    FetchBlobs,
    PrepareEnvironment,
    SupplyNews,
)

IMPORTABLE_MAX = 10_000
"""Names of modules that are remembered; a client may make up any number."""


class Supplies:
    """Brings attempts from FETCHING to where they may wait.

    Args:
        python: Our own Python minor: what needs another one needs an environment.
        ready: Called with an attempt that has all it needs.
        failed: Called with one that can never have it.
    """

    def __init__(
        self,
        effects: list[Effect],
        *,
        python: str | None,
        ready: Callable[[Attempt], None],
        failed: Callable[[Attempt, Failure], None],
    ) -> None:
        self._effects, self._python = effects, python
        self._ready, self._failed = ready, failed
        self._blobs: dict[BlobId, None] = {}
        """Blobs that are in the worker's cache."""
        self._importable: dict[str, None] = {}
        """Modules that our own Python was seen to have: what is there is not looked for again."""

    def bring(self, attempt: Attempt) -> None:
        """Have what is missing fetched and made."""
        missing = tuple(blob_id for blob_id in attempt.blob_ids if blob_id not in self._blobs)
        if missing:
            self._effects.append(FetchBlobs(attempt.key, missing))
        else:
            self._prepare(attempt)

    def abandon(self, attempt: Attempt) -> None:
        """The attempt needs nothing any more."""
        if attempt.phase is Phase.PREPARING:
            self._effects.append(CancelPreparing(attempt.key))

    def forget(self, blob_id: BlobId) -> None:
        """A blob fell out of the cache."""
        self._blobs.pop(blob_id, None)

    def on_event(self, attempt: Attempt, event: SupplyNews) -> None:
        """Something came, or will not come."""
        match event:
            case BlobsArrived() if attempt.phase is Phase.FETCHING:
                if (code := attempt.assign.job.code) is not None:
                    self._blobs[BlobId(code)] = None
                self._prepare(attempt)
            case BlobsFailed(message=message) if attempt.phase is Phase.FETCHING:
                self._failed(attempt, Failure(cause="blob_missing", message=message))
            case EnvironmentReady() if attempt.phase is Phase.PREPARING:
                if not self._needs_environment(attempt.assign.job):
                    self._note(attempt.assign.job.modules or ())
                self._ready(attempt)
            case EnvironmentFailed(failure=failure) if attempt.phase is Phase.PREPARING:
                self._failed(attempt, failure)
            case _:
                pass  # It was stopped or settled meanwhile.

    def _prepare(self, attempt: Attempt) -> None:
        job = attempt.assign.job
        # Modules are looked for before it waits for a slot: what cannot run shall not take one.
        is_known = all(name in self._importable for name in job.modules or ())
        if is_known and not self._needs_environment(job):
            self._ready(attempt)
            return
        attempt.phase = Phase.PREPARING
        self._effects.append(PrepareEnvironment(attempt.key, attempt.assign))

    def _needs_environment(self, job: JobSpec) -> bool:
        is_other = None not in (job.python, self._python) and job.python != self._python
        return job.environment is not None or is_other

    def _note(self, names: Iterable[str]) -> None:
        if len(self._importable) > IMPORTABLE_MAX:
            self._importable.clear()
        self._importable.update(dict.fromkeys(names))
