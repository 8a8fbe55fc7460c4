"""From what the core decided to what the store keeps."""

from collections.abc import Mapping, Sequence

from lineshaft_coordinator.core.io import Append, AppendEvents, Effect
from lineshaft_coordinator.core.ledger import Job
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    JobFinished,
    JobSubmitted,
    encode,
)
from lineshaft_coordinator.journal import event_row
from lineshaft_coordinator.store.interface import Batch, EventRow, JobRow
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.worker_messages import Ended


class Facts:
    """Turns effects into batches of the store.

    A job's row is written when it is submitted and when it ends; between the two the ledger
    knows better, and two writes a job are a third less than three.

    Args:
        live: The ledger's jobs.
    """

    def __init__(self, live: Mapping[JobId, Job]) -> None:
        self._specs: dict[str, tuple[JobSpec, str, str]] = {
            job_id: (job.spec, job.client_id, job.owner or "") for job_id, job in live.items()
        }

    def batch(self, effects: Sequence[Effect], at: float) -> Batch | None:
        """Collect what must be durable before anything of these effects is visible.

        Args:
            effects: Of one batch of the core.
            at: Wall time, in seconds since 1970.
        """
        records: list[tuple[str, float, bytes]] = []
        rows: dict[str, JobRow] = {}
        events: list[EventRow] = []
        for effect in effects:
            if type(effect) is Append:
                record = effect.record
                job_id = record.job_id
                records.append((job_id, at, encode(record)))
                # By type: to ask whether a model is of another class takes five times as long.
                if type(record) is JobSubmitted:
                    said = record.job, record.client_id, record.owner or ""
                    self._specs[job_id] = said
                    rows[job_id] = _row(*said, at)
                elif type(record) is JobFinished:
                    rows[job_id] = self._final_row(job_id, record.outcome, at)
                elif type(record) is AttemptLeft and record.cause == "failed":
                    rows[job_id] = _row(*self._specs[job_id], at, error=record.reason)
            elif isinstance(effect, AppendEvents):
                events += [event_row(event) for event in effect.events]
        if not records and not events:
            return None
        return Batch(records=records, rows=tuple(rows.values()), events=events)

    def _final_row(self, job_id: str, outcome: Outcome, at: float) -> JobRow:
        spec, client_id, owner = self._specs.pop(job_id)
        failure, tags, is_live = outcome.failure, spec.tags, False
        error = failure.message if failure is not None else None
        # By place: with thirteen names it takes twice as long, and there are two for every job.
        return JobRow(
            job_id,
            is_live,
            outcome.status,
            spec.name or "",
            spec.kind,
            client_id,
            at,  # The first row says when it was submitted; this cannot change that.
            at,
            outcome.worker_id,
            outcome.attempt,
            ",".join(tags) if tags else "",
            error or outcome.reason or "",
            owner,
        )


def _row(
    spec: JobSpec, client_id: str, owner: str, at: float, *, error: str | None = None
) -> JobRow:
    tags = ",".join(spec.tags) if spec.tags else ""
    is_live, attempt = True, 0
    return JobRow(
        spec.job_id,
        is_live,
        "queued",
        spec.name or "",
        spec.kind,
        client_id,
        at,
        None,  # It has not ended,
        None,  # and no worker has it.
        attempt,
        tags,
        error,
        owner,
    )


def without_result(ended: Ended, blob: str) -> Ended:
    """What an end means whose result nobody can ever have: the attempt failed."""
    text = f"its worker named {blob} as its result, which was never stored here"
    failure = Failure(cause="result_missing", message=text)
    missing = {"status": "failed", "result": None, "failure": failure}
    return ended.model_copy(update={"result": ended.result.model_copy(update=missing)})
