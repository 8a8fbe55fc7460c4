"""Counts and times what happens while the coordinator runs; nothing of it outlives the process.

Fed where the daemon commits. No count is kept by job, and what is remembered of live jobs goes with
them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from lineshaft_coordinator.core.io import Append, AppendEvents, Effect
from lineshaft_coordinator.core.ledger import Job, Leased
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptStarted,
    JobFinished,
    JobSubmitted,
    Record,
    ReturnCause,
)
from lineshaft_coordinator.metrics.exposition import Counter, Histogram
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.figures import ENVIRONMENT_BOUNDS_S

_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_LONG = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
OUTCOMES = ("succeeded", "failed", "cancelled")


@dataclass(slots=True)
class _Build:
    """An environment that is made for an attempt, on the worker's clock."""

    first_at: float
    last_at: float


class Meter:
    """The running counts.

    Args:
        leased: Jobs that workers have already: their attempts end in our time.
    """

    def __init__(self, leased: Iterable[str] = ()) -> None:
        self._leased = set(leased)
        self._submitted_at: dict[str, float] = {}
        self._builds: dict[str, _Build] = {}
        self.waits = Histogram(
            "lineshaft_job_wait_seconds",
            "From a job's acceptance to its first promise to a worker, other jobs included.",
            _LONG,
        )
        self.dispatches = Histogram(
            "lineshaft_dispatch_seconds",
            "From the decision to start an attempt to its message being handed to the connection.",
            _QUICK,
        )
        self.commits = Histogram(
            "lineshaft_commit_seconds", "One batch of the journal, until it is synced.", _QUICK
        )
        self.builds = Histogram(
            "lineshaft_env_build_seconds",
            "Environments of attempts: found on the worker (hit), or made there.",
            ENVIRONMENT_BOUNDS_S,
        )
        self.lags = Histogram(
            "lineshaft_event_loop_lag_seconds",
            "How late the event loop came to a timer, looked at once a second.",
            _QUICK,
        )
        causes = dict.fromkeys((*OUTCOMES, *get_args(ReturnCause)), 0)
        self.attempts = Counter(
            "lineshaft_attempts_total", "Attempts that are over, by what ended them.", "cause"
        )
        self.attempts.counts |= causes
        self.finished = Counter(
            "lineshaft_jobs_finished_total", "Jobs that ended since the start.", "status"
        )
        self.finished.counts |= dict.fromkeys(OUTCOMES, 0)

    @staticmethod
    def of_jobs(jobs: Iterable[tuple[str, Job]]) -> "Meter":
        """Begin after a restart, with the live jobs that the journal knows."""
        return Meter(job_id for job_id, job in jobs if isinstance(job.state, Leased))

    @property
    def families(self) -> tuple[Counter | Histogram, ...]:
        """What it counts, but for `builds`: workers count a part of that."""
        return (
            self.waits,
            self.dispatches,
            self.commits,
            self.lags,
            self.attempts,
            self.finished,
        )

    def on_commit(self, effects: Sequence[Effect], now: float) -> None:
        """Count what became true.

        Args:
            effects: Of one batch of the core, on disk now.
            now: Seconds, on a clock that never goes back.
        """
        for effect in effects:
            if type(effect) is Append:
                record = effect.record
                if type(record) is JobSubmitted:
                    self._submitted_at[record.job_id] = now
                else:
                    self._on_record(record, now)
            elif isinstance(effect, AppendEvents):
                for event in effect.events:
                    self._on_event(event)

    def _on_record(self, record: Record, now: float) -> None:
        job_id = record.job_id
        if type(record) is AttemptStarted:
            self._leased.add(job_id)
            # After a restart the clock is another one: those waits are not told.
            submitted_at = self._submitted_at.pop(job_id, None)
            if submitted_at is not None:
                self.waits.observe(now - submitted_at)
        elif type(record) is JobFinished:
            status = record.outcome.status
            self._submitted_at.pop(job_id, None)
            self._end_attempt(job_id, status)
            self.finished.add(status)
        elif type(record) is AttemptLeft:
            self._end_attempt(job_id, record.cause)

    def _end_attempt(self, job_id: str, cause: str) -> None:
        if self._builds:
            self._end_build(job_id)
        # A job may end while nobody runs it: then no attempt ends with it.
        if job_id in self._leased:
            self._leased.discard(job_id)
            self.attempts.add(cause)

    def _on_event(self, event: JobEvent) -> None:
        if event.kind == "progress" and event.body.get("is_preparing") is True:
            build = self._builds.setdefault(event.job_id, _Build(event.at, event.at))
            build.last_at = event.at
        elif self._builds:
            self._end_build(event.job_id)

    def _end_build(self, job_id: str) -> None:
        build = self._builds.pop(job_id, None)
        if build is not None:
            self.builds.observe(build.last_at - build.first_at)
