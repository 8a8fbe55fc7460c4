"""Between the words of the wire and the words of the execution layer."""

import base64
import hashlib
import math
from collections.abc import Mapping
from typing import Literal, cast

from pydantic import JsonValue

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import BlobId, is_name
from lineshaft_protocol.jobs import JobSpec, Parent, Payload
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.wire import NUMBER_MAX, unchecked
from lineshaft_protocol.worker_messages import Assign
from lineshaft_runtime import redaction
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.daemon.cache import BlobCache
from lineshaft_worker.daemon.meeting import variables_of
from lineshaft_worker.execution import reports
from lineshaft_worker.execution.orders import AttemptKey as OrderKey
from lineshaft_worker.execution.orders import AttemptOrder, Restored
from lineshaft_worker.runner.files import PROCESSES_VARIABLE

ID_LENGTH_MAX = 100
TEXT_MAX = 64 * 1024
"""Longest traceback or message that travels, in characters."""


_result = unchecked(AttemptResult)
_STATUSES: Mapping[type, Literal["succeeded", "failed", "paused"]] = {
    reports.Succeeded: "succeeded",
    reports.Failed: "failed",
    reports.Paused: "paused",
}


def order_key(key: AttemptKey) -> OrderKey:
    """The same attempt, in the words of the execution layer."""
    return OrderKey(key.job_id, key.attempt)


def order_of(
    assign: Assign,
    cache: BlobCache,
    *,
    environment: str = "",
    event_count: int = 0,
    cpus: tuple[int, ...] = (),
) -> AttemptOrder:
    """What the execution layer is told to run.

    Args:
        assign: The attempt.
        cache: Has its blobs.
        environment: Key of the Python environment.
        event_count: Events that were told of it already.
        cpus: Those that it may run on; empty for all.

    Raises:
        OSError: A blob that was here is gone.
        ValueError: The job is not whole.
    """
    job = assign.job
    if job.kind == "function" and job.code is None:
        raise ValueError("a function comes without its code")
    wanted = job.resources
    return AttemptOrder(
        key=OrderKey(job.job_id, assign.attempt),
        kind=job.kind,
        name=job.name or job.job_id,
        payload=(
            cache.path(BlobId(job.payload.blob))
            if job.payload.blob is not None
            else job.payload.inline_bytes()
        ),
        env=_variables(assign),
        files=tuple(cache.path(BlobId(each)) for each in job.files or ()),
        code_id=job.code,
        code=cache.content(BlobId(job.code)) if job.code is not None else None,
        devices=assign.devices or (),
        environment=environment,
        event_count=event_count,
        cpus=cpus,
        run_s=job.timeouts.run_s if job.timeouts is not None else None,
        memory_bytes=(wanted.memory_bytes or None) if wanted is not None else None,
        lease_s=assign.lease_s,
        lease_grace_s=assign.lease_grace_s,
        checkpoint=_restored(assign.checkpoint, cache),
    )


def _variables(assign: Assign) -> dict[str, str]:
    job = assign.job
    if assign.gang is None and not (
        job.variables or job.secrets or assign.secrets or job.processes
    ):
        return {}  # As most have it, and there are thousands a second of them.
    count = {} if job.processes is None else {PROCESSES_VARIABLE: str(job.processes)}
    given = job.variables or {}
    return {**given, **_secret_variables(assign), **variables_of(assign.gang), **count}


def _restored(checkpoint: KeptFile | None, cache: BlobCache) -> Restored | None:
    if checkpoint is None or checkpoint.blob is None:
        return None
    facts = {
        "step": checkpoint.step,
        "metadata": checkpoint.metadata or {},
        "attempt": checkpoint.attempt,
    }
    blob = cache.path(BlobId(checkpoint.blob))
    return Restored(blob, checkpoint.name, checkpoint.is_folder, facts)


class SecretGoneError(LineshaftError):
    """A secret that a job names was removed after the job was submitted, or cannot be read."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the coordinator no longer has the secret {name}; keep it again with "
            f"'lineshaft secret set {name}', then submit the job again"
        )
        self.name = name


def _secret_variables(assign: Assign) -> dict[str, str]:
    wanted, given = assign.job.secrets or {}, assign.secrets or {}
    gone = [name for variable, name in wanted.items() if variable not in given]
    if gone:
        raise SecretGoneError(gone[0])
    return given | {redaction.ENVIRONMENT_VARIABLE: ",".join(given)} if given else {}


def result_of(
    ended: reports.AttemptEnded, *, gpu_peak_bytes: int | None = None
) -> tuple[AttemptResult, reports.ResultFile | None]:
    """What the coordinator is told of an end, and the file of a result that must be stored."""
    key, outcome = ended.key, ended.outcome
    payload: Payload | None = None
    failure: Failure | None = None
    file: reports.ResultFile | None = None
    reason: str | None = None
    match outcome:
        case reports.Succeeded(result=content):
            if isinstance(content, bytes):
                payload = Payload.of_bytes(content)
            else:
                file = content
        case reports.Failed(error=error):
            failure = failure_of(error)
        case reports.Stopped(reason=said):
            reason = said
        case reports.Paused():
            pass
    # The name of an end that was found is what a runner wrote, so it may be anything.
    make = _result if is_name(key.job_id) and 1 <= key.attempt <= NUMBER_MAX else AttemptResult
    result = make(
        job_id=key.job_id,
        attempt=key.attempt,
        status=_STATUSES.get(type(outcome), "stopped"),
        result=payload,
        failure=failure,
        reason=reason,
        # What a runner says may be the words of the code that it runs.
        run_s=ended.run_s if 0.0 <= ended.run_s < math.inf else 0.0,
        peak_memory_bytes=max(0, min(ended.peak_memory_bytes or 0, NUMBER_MAX)) or None,
        peak_gpu_memory_bytes=gpu_peak_bytes,
    )
    return result, file


def failure_of(error: reports.Failure) -> Failure:
    """Why an attempt failed, in the words of the wire."""
    return Failure(
        cause=error.cause,
        message=error.message[:TEXT_MAX],
        type_name=error.type_name,
        traceback=error.traceback[-TEXT_MAX:],
        pickled=base64.b64encode(error.pickled).decode() if error.pickled else None,
        exit_code=error.exit_code,
        signal_name=error.signal_name,
        last_lines=error.last_lines,
    )


def events_of(spoke: reports.AttemptEvents) -> tuple[JobEvent, ...]:
    """What an attempt said, in the words of the wire."""
    return tuple(
        JobEvent(
            job_id=spoke.key.job_id,
            attempt=spoke.key.attempt,
            seq=seq,
            at=at,
            kind=kind,
            body=cast("dict[str, JsonValue]", dict(body)),
        )
        for seq, at, kind, body in spoke.events
    )


def child_spec(asked: reports.ChildRequested, payload: Payload, parent: JobSpec | None) -> JobSpec:
    """The job that does a plan's Remote node.

    Its id is made of the attempt and the request, so that asking again asks for the same job.
    """
    target = cast("dict[str, str]", asked.target)  # as the runner wrote it
    tag, worker_id = target.get("tag"), target.get("worker_id")
    key = asked.key
    return JobSpec(
        job_id=child_id(key.job_id, key.attempt, asked.request),
        kind="plan",
        payload=payload,
        name=f"remote node of {parent.label if parent else key.job_id}"[:200],
        tags=(tag,) if tag is not None else None,
        worker_id=worker_id,
        priority=parent.priority if parent else 0,
        python=parent.python if parent else None,
        parent=Parent(job_id=key.job_id, attempt=key.attempt),
        environment=parent.environment if parent else None,
        # The files that its filters import when they are used.
        code=parent.code if parent and parent.kind != "function" else None,
    )


def child_id(job_id: str, attempt: int, request: int) -> str:
    """The id of the job for one request of one attempt."""
    return f"{_short(job_id)}.{attempt}.{request}"


def request_of(key: AttemptKey, child: str) -> int | None:
    """The request that a child's id names; ``None`` when the child is not of this attempt."""
    head, _, request = child.rpartition(".")
    is_ours = head == f"{_short(key.job_id)}.{key.attempt}" and request.isdecimal()
    return int(request) if is_ours else None


def _short(job_id: str) -> str:
    """Leave room for the numbers; long ids that begin alike must stay different."""
    if len(job_id) <= ID_LENGTH_MAX:
        return job_id
    return f"{job_id[:32]}-{hashlib.sha256(job_id.encode()).hexdigest()}"


def child_failure(outcome: Outcome) -> reports.Failure:
    """Why a child job has no result, in the words of the execution layer."""
    failure = outcome.failure
    if failure is None:
        message = f"the job for a remote node was {outcome.status}: {outcome.reason or ''}"
        return reports.Failure(cause="exception", type_name="RuntimeError", message=message)
    cause = failure.cause if failure.cause in _CAUSES else "exception"
    return reports.Failure(
        cause=cast("reports.FailureCause", cause),  # checked in the line above
        type_name=failure.type_name or "RuntimeError",
        message=failure.message,
        traceback=failure.traceback,
        pickled=base64.b64decode(failure.pickled) if failure.pickled else None,
        exit_code=failure.exit_code,
        signal_name=failure.signal_name,
        last_lines=failure.last_lines,
    )


_CAUSES = frozenset(
    {"exception", "exit", "signal", "oom", "timeout", "start", "unpickle", "result"}
)
