"""Where a live job is, in the words that clients are told."""

from lineshaft_coordinator.core.fleet import Lease
from lineshaft_coordinator.core.ledger import Job, Leased, Paused, Queued
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.client_messages import JobStateName, StateChanged
from lineshaft_protocol.ids import JobId


def state_of(shop: Shop, job_id: JobId, *, reason: str | None = None) -> StateChanged:
    """Where a live job is now."""
    job = shop.job(job_id)
    match job.state:
        case Queued():
            is_waiting = job_id in shop.blocked or job_id in shop.delayed or job_id in shop.arrays
            return StateChanged(
                job_id=job_id,
                state="waiting" if is_waiting else "queued",
                attempt=job.attempt_count,
                reason=reason,
            )
        case Paused(reason=why):
            return StateChanged(
                job_id=job_id,
                state="paused",
                attempt=job.attempt_count,
                reason=reason or why,
            )
        case Leased(attempt=attempt, worker_id=worker_id):
            lease = shop.fleet.workers[worker_id].lease_of(job_id)
            return StateChanged(
                job_id=job_id,
                state=leased_state(job, lease),
                attempt=attempt,
                worker_id=worker_id,
                reason=reason,
            )


def leased_state(job: Job, lease: Lease | None) -> JobStateName:
    """What a worker that has a job is doing with it."""
    if job.cancel_reason is not None:
        return "cancelling"
    if job.pause is not None:
        return "frozen" if lease is not None and lease.is_frozen else "pausing"
    return "running" if lease is not None and lease.is_started else "assigned"
