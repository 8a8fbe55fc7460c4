"""Jobs, records and messages in a few words."""

import base64

from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptStarted,
    CancelRequested,
    JobFinished,
    JobSubmitted,
    ReturnCause,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec, Payload
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.resources import GIB, Capacity, Gpu
from lineshaft_protocol.worker_messages import Ended

CODE = "a" * 64


def job(job_id: str, **wanted: object) -> JobSpec:
    """A job that asks for nothing special, but for what is said."""
    fields: dict[str, object] = {"kind": "function", "payload": Payload(inline="eA=="), **wanted}
    return JobSpec.model_validate({"job_id": job_id, **fields})


def capacity(
    *, slots: int = 1, cpus: float = 8.0, gpus: int = 0, faulty: tuple[int, ...] = ()
) -> Capacity:
    """A machine with GPUs of 24 GiB each, named g0, g1 and so on."""
    return Capacity(
        slots=slots,
        cpus=cpus,
        memory_bytes=32 * GIB,
        gpus=tuple(
            Gpu(
                uuid=f"g{number}",
                name="test",
                memory_bytes=24 * GIB,
                fault="fell off the bus" if number in faulty else None,
            )
            for number in range(gpus)
        ),
    )


# --- records ---


def submitted(job_id: str, *, by: str = "c", **wanted: object) -> JobSubmitted:
    return JobSubmitted(job_id=job_id, client_id=by, job=job(job_id, **wanted))


def started(
    job_id: str,
    attempt: int,
    *,
    on: str,
    devices: tuple[str, ...] | None = None,
    incarnation: str = "i1",
) -> AttemptStarted:
    return AttemptStarted(
        job_id=job_id,
        attempt=attempt,
        worker_id=on,
        epoch=1,
        devices=devices,
        incarnation=incarnation,
    )


def left(job_id: str, attempt: int, cause: ReturnCause, reason: str = "") -> AttemptLeft:
    return AttemptLeft(job_id=job_id, attempt=attempt, cause=cause, reason=reason)


def cancel_requested(job_id: str, reason: str = "enough") -> CancelRequested:
    return CancelRequested(job_id=job_id, reason=reason)


def finished(outcome: Outcome) -> JobFinished:
    return JobFinished(job_id=outcome.job_id, outcome=outcome)


# --- ends ---


def _returned(job_id: str, attempt: int) -> Payload:
    return Payload(inline=base64.b64encode(f"{job_id}#{attempt}".encode()).decode())


def result(
    job_id: str, attempt: int, status: str = "succeeded", run_s: float = 1.0
) -> AttemptResult:
    failure = Failure(cause="exception", message="it raised") if status == "failed" else None
    payload = _returned(job_id, attempt) if status == "succeeded" else None
    return AttemptResult.model_validate(
        {
            "job_id": job_id,
            "attempt": attempt,
            "status": status,
            "result": payload,
            "failure": failure,
            "run_s": run_s,
        }
    )


def ended(job_id: str, attempt: int, status: str = "succeeded", run_s: float = 1.0) -> Ended:
    return Ended(result=result(job_id, attempt, status, run_s))


def succeeded(job_id: str, attempt: int, *, on: str, run_s: float = 1.0) -> Outcome:
    return Outcome(
        job_id=job_id,
        status="succeeded",
        attempt=attempt,
        result=_returned(job_id, attempt),
        worker_id=on,
        run_s=run_s,
    )


def cancelled(
    job_id: str, attempt: int, *, reason: str = "enough", on: str | None = None
) -> Outcome:
    return Outcome(job_id=job_id, status="cancelled", attempt=attempt, reason=reason, worker_id=on)


def event(job_id: str, attempt: int, seq: int) -> JobEvent:
    return JobEvent(job_id=job_id, attempt=attempt, seq=seq, at=0.0, kind="log", body={})
