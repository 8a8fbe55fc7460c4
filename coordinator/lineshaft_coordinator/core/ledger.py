"""The durable truth about jobs: a fold over journal records, changed by ``apply`` alone.

States of a live job, and who moves it:

    Queued ── AttemptStarted ──► Leased ── AttemptLeft ──► Queued, or Paused if its user wants it
       │ ▲                          │
       │ └── JobResumed ─── Paused ◄┼── PauseRequested of a Queued job
       │                      │     │
       └────── JobFinished ───┴─────┴──► out of ``jobs``, into ``recent``

A leased job that is asked to pause stays leased, with ``pause`` set, until its attempt is over:
whatever ends it without an outcome, its slot is free and the job waits for its user. A job comes
back from a preemption by itself: it goes from Leased to Queued.

A leased job has a place, or gets it by AttemptPlaced once its worker has prepared it.

A job that comes after others is Queued here too: what it waits for is read from its spec.
``cancel_reason`` is set beside the state: a leased job that was cancelled stays leased until its
worker says that the attempt is really over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from sys import intern

from lineshaft_coordinator.core.lately import Done, Lately
from lineshaft_coordinator.core.plain import is_plain
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptPlaced,
    AttemptStarted,
    CancelRequested,
    FileKept,
    JobFinished,
    JobResumed,
    JobSubmitted,
    PauseRequested,
    PauseWithdrawn,
    Record,
)
from lineshaft_protocol.ids import ClientId, JobId, WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.values import value

LiveRecord = (
    AttemptPlaced
    | AttemptLeft
    | PauseRequested
    | PauseWithdrawn
    | JobResumed
    | FileKept
    | CancelRequested
)
"""What is said of a job that stays live, besides the start of an attempt."""


@value()
class Queued:
    """No worker has it."""


@value()
class Leased:
    """One worker has it, and no other may."""

    attempt: int
    worker_id: WorkerId
    devices: tuple[str, ...]
    incarnation: str | None
    """Which start of the worker's daemon was told of it."""
    is_placed: bool = True
    """Whether it has a slot and its devices; else it is prepared, and may not begin."""


@value()
class Paused:
    """No worker has it, and none gets it before its user says so."""

    reason: str


JobState = Queued | Leased | Paused

QUEUED = Queued()
"""One for all jobs: there is nothing to tell two of them apart."""


@dataclass(slots=True)
class Job:
    """A live job."""

    spec: JobSpec
    client_id: ClientId
    owner: str | None = None
    """Id of the token by which it was submitted, one string for all jobs of it."""
    state: JobState = QUEUED
    attempt_count: int = 0
    failed_count: int = 0
    lost_count: int = 0
    cancel_reason: str | None = None
    pause: PauseRequested | None = None
    """What the attempt it has now is asked to do."""
    files: dict[str, KeptFile] = field(default_factory=dict)
    """Checkpoints and artifacts that are kept, by id, the oldest first."""
    chosen: str | None = None
    """Id of the checkpoint from which its user wants it to go on, until it saves another."""
    is_plain: bool = False
    """Whether it asks for a slot and nothing else, see `plain`."""

    @property
    def checkpoints(self) -> list[KeptFile]:
        """Those from which it can go on, the oldest first."""
        return [f for f in self.files.values() if f.kind == "checkpoint" and f.blob is not None]

    @property
    def checkpoint(self) -> KeptFile | None:
        """From which it goes on: the one that was chosen, or the last one that was stored."""
        if not self.files:
            return None
        if self.chosen is not None:
            return self.files[self.chosen]
        return next(reversed(self.checkpoints), None)


class CorruptJournalError(Exception):
    """A record contradicts the records before it."""


@dataclass(slots=True)
class Ledger:
    """All live jobs, and the last ones that ended."""

    jobs: dict[JobId, Job] = field(default_factory=dict)
    paused_count: int = 0
    """How many of them are paused."""
    recent: Lately = field(default_factory=Lately, compare=False)

    @classmethod
    def replay(cls, records: Iterable[Record]) -> "Ledger":
        """Build the ledger from the journal's records.

        Raises:
            CorruptJournalError: They contradict each other.
        """
        ledger = cls()
        for record in records:
            ledger.apply(record)
        return ledger

    def apply(self, record: Record) -> None:
        """Take one record in; the only way a job changes.

        Raises:
            CorruptJournalError: It does not follow from what is there.
        """
        job_id = JobId(record.job_id)
        job = self.jobs.get(job_id)
        # By type: to ask whether a model is of another class takes five times as long.
        if type(record) is JobSubmitted:
            if job is not None:
                raise CorruptJournalError(f"{job_id} was submitted twice")
            spec, owner = record.job, record.owner
            self.jobs[job_id] = Job(
                spec,
                ClientId(record.client_id),
                None if owner is None else intern(owner),
                is_plain=is_plain(spec),
            )
            return
        if job is None:
            raise CorruptJournalError(f"{record!r} is about no live job")
        if type(record) is AttemptStarted:
            self._start(job, record)  # Which no paused job is.
            return
        if type(record) is JobFinished:
            self.paused_count -= isinstance(job.state, Paused)
            del self.jobs[job_id]
            self.recent.add(job_id, Done(job.spec, record.outcome))
            return
        assert not isinstance(record, JobSubmitted | AttemptStarted | JobFinished), "see above"
        self.paused_count -= isinstance(job.state, Paused)
        self._change(job, record)
        self.paused_count += isinstance(job.state, Paused)

    def _change(self, job: Job, record: LiveRecord) -> None:
        match record:
            case AttemptPlaced():
                self._place(job, record)
            case AttemptLeft():
                self._leave(job, record)
            case PauseRequested() | PauseWithdrawn() | JobResumed():
                self._pause(job, record)
            case FileKept():
                self._keep(job, record)
            case CancelRequested():
                job.cancel_reason = record.reason

    def _start(self, job: Job, record: AttemptStarted) -> None:
        attempt = record.attempt
        if type(job.state) is not Queued or attempt != job.attempt_count + 1:
            raise CorruptJournalError(f"{record!r} does not follow {job!r}")
        job.attempt_count = attempt
        job.state = Leased(
            attempt,
            WorkerId(record.worker_id),
            record.devices or (),
            record.incarnation,
            is_placed=not record.is_unplaced,
        )

    def _place(self, job: Job, record: AttemptPlaced) -> None:
        match job.state:
            case Leased(attempt=record.attempt, is_placed=False) as state:
                job.state = replace(state, devices=record.devices or (), is_placed=True)
            case _:
                raise CorruptJournalError(f"{record!r} does not follow {job!r}")

    def _leave(self, job: Job, record: AttemptLeft) -> None:
        if not isinstance(job.state, Leased) or job.state.attempt != record.attempt:
            raise CorruptJournalError(f"{record!r} does not follow {job!r}")
        order = job.pause if job.pause is not None and job.pause.cause == "user" else None
        job.state = QUEUED if order is None else Paused(order.reason)
        job.pause = None
        job.failed_count += record.cause == "failed"
        job.lost_count += record.cause == "worker_lost"

    def _pause(self, job: Job, record: PauseRequested | PauseWithdrawn | JobResumed) -> None:
        match record, job.state:
            case PauseRequested(reason=reason), Queued():
                job.state = Paused(reason)
            case PauseRequested(), Leased():
                job.pause = record
            case PauseWithdrawn(), Leased() if job.pause is not None:
                job.pause = None
            case JobResumed(checkpoint=checkpoint), Paused():
                if checkpoint is not None and checkpoint not in job.files:
                    raise CorruptJournalError(f"{record!r} names no file of {job!r}")
                job.state, job.chosen = QUEUED, checkpoint or job.chosen
            case _:
                raise CorruptJournalError(f"{record!r} does not follow {job!r}")

    def _keep(self, job: Job, record: FileKept) -> None:
        if record.file.file_id in job.files or any(
            name not in job.files for name in record.dropped
        ):
            raise CorruptJournalError(f"{record!r} does not follow {job!r}")
        job.files[record.file.file_id] = record.file
        if record.file.kind == "checkpoint" and record.file.blob is not None:
            job.chosen = None
        for file_id in record.dropped:
            del job.files[file_id]
