"""What the tests of the store put into it."""

from lineshaft_coordinator.store.interface import Batch, EventRow, JobRow


def row(
    job_id: str,
    *,
    is_live: bool = True,
    status: str = "queued",
    submitted_at: float = 1.0,
    finished_at: float | None = None,
    worker_id: str | None = None,
    client_id: str = "c1",
    name: str = "train",
    attempt: int = 0,
    error: str | None = None,
    owner: str = "",
) -> JobRow:
    return JobRow(
        job_id=job_id,
        is_live=is_live,
        status=status,
        name=name,
        kind="plan",
        client_id=client_id,
        submitted_at=submitted_at,
        finished_at=finished_at,
        worker_id=worker_id,
        attempt=attempt,
        tags="nightly,gpu",
        error=error,
        owner=owner,
    )


def submitted(job_id: str, record: bytes = b"submitted", at: float = 1.0) -> Batch:
    return Batch(records=[(job_id, at, record)], rows=[row(job_id, submitted_at=at)])


def finished(job_id: str, at: float, record: bytes = b"finished") -> Batch:
    done = row(job_id, is_live=False, status="done", finished_at=at)
    return Batch(records=[(job_id, at, record)], rows=[done])


def event(job_id: str, seq: int, *, attempt: int = 1, body: bytes = b"{}") -> EventRow:
    return EventRow(job_id, attempt, seq, 5.0 + seq, body)
