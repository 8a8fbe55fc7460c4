"""The coordinator's store: what is committed stays, whatever happens to the process."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from lineshaft_coordinator.core.records import JobFinished, JobSubmitted, Record, decode, encode
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome

UNREADABLE_RUNS, UNREADABLE_JOBS = 0.5, 0.3
"""In how many runs the history has such records, and of how many of its jobs."""


def token_of(client: str) -> str:
    """Id of the token that a client has."""
    return f"token-of-{client}"


@dataclass(slots=True)
class Disk:
    """Records in the order of their commits, and events by job, attempt and number.

    Of some jobs that have ended a record cannot be read: it is damaged, or of a newer version.
    """

    seed: int = 0
    epoch: int = 0
    is_full: bool = False
    journal: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    events: dict[str, dict[tuple[int, int], JobEvent]] = field(
        default_factory=dict[str, dict[tuple[int, int], JobEvent]]
    )
    specs: dict[str, JobSpec] = field(default_factory=dict[str, JobSpec])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])

    def commit(self, records: Sequence[Record], events: Iterable[JobEvent]) -> list[Record]:
        """Make a batch durable; returns the records as a reader will find them."""
        kept: list[Record] = []
        for record in records:
            line = encode(record)
            self.journal.append((record.job_id, line))
            read = decode(line)
            kept.append(read)
            if isinstance(read, JobSubmitted):
                self.specs.setdefault(read.job_id, read.job)
            elif isinstance(read, JobFinished):
                self.outcomes.setdefault(read.job_id, read.outcome)
        for event in events:
            self.events.setdefault(event.job_id, {}).setdefault((event.attempt, event.seq), event)
        return kept

    def live_records(self) -> list[Record]:
        """The records of the jobs that have not ended, in order."""
        return [decode(line) for job_id, line in self.journal if job_id not in self.outcomes]

    def is_unreadable(self, job_id: str) -> bool:
        """Whether the history cannot say what became of a job."""
        # Drawn by names: it is the same whenever somebody looks, and moves no other dice.
        is_such_a_run = Random(f"{self.seed}/unreadable").random() < UNREADABLE_RUNS
        dice = Random(f"{self.seed}/{job_id}/unreadable")
        return is_such_a_run and job_id in self.outcomes and dice.random() < UNREADABLE_JOBS

    def find(self, job_id: JobId) -> tuple[JobSpec | None, Outcome | None]:
        """What the whole history says of a job."""
        return self.specs.get(job_id), self.outcomes.get(job_id)

    def events_after(self, job_id: str, attempt: int, seq: int) -> tuple[JobEvent, ...]:
        """The job's events after (attempt, seq), in order."""
        kept = self.events.get(job_id, {})
        return tuple(kept[key] for key in sorted(kept) if key > (attempt, seq))
