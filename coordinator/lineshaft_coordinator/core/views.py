"""What people and programs may see of the core: plain data, no changes."""

from pydantic import JsonValue

from lineshaft_coordinator.core.arrays import limited_item
from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.ledger import Job, Leased, Paused
from lineshaft_coordinator.core.placement import lacks, may_ever, preparing_lacks
from lineshaft_coordinator.core.records import PauseRequested
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.core.states import leased_state
from lineshaft_protocol.ids import JobId

NEAREST_MAX = 5


def job_state(shop: Shop, job_id: JobId, job: Job) -> str:
    """Where a live job is: one word."""
    if isinstance(job.state, Leased):
        lease = shop.fleet.workers[job.state.worker_id].lease_of(job_id)
        state = leased_state(job, lease)
        is_prepared = (lease is not None and lease.doing) or not job.state.is_placed
        return "preparing" if is_prepared and state == "assigned" else state
    if isinstance(job.state, Paused):
        return "paused"
    is_waiting = job_id in shop.blocked or job_id in shop.delayed or job_id in shop.arrays
    return "waiting" if is_waiting else "queued"


def job_view(shop: Shop, job_id: JobId) -> dict[str, JsonValue] | None:
    """A live job; ``None`` when it is not live."""
    job = shop.ledger.jobs.get(job_id)
    if job is None:
        return None
    leased = job.state if isinstance(job.state, Leased) else None
    return {
        "job_id": job_id,
        "name": job.spec.name,
        "kind": job.spec.kind,
        "client_id": job.client_id,
        "owner": job.owner,
        "status": job_state(shop, job_id, job),
        "attempt": job.attempt_count,
        "worker_id": leased.worker_id if leased else None,
        "devices": [*(leased.devices if leased else ())],
        "priority": job.spec.priority,
        "failed_attempts": job.failed_count,
        "lost_workers": job.lost_count,
        "nodes": job.spec.nodes or 1,
        "processes": job.spec.processes or 1,
        "checkpoint_step": job.checkpoint.step if job.checkpoint is not None else None,
    }


def worker_view(shop: Shop, worker: Worker) -> dict[str, JsonValue]:
    """A worker, here or away."""
    capacity = worker.capacity
    return {
        "worker_id": worker.worker_id,
        "status": _worker_status(worker),
        "tags": [*sorted(worker.tags)],
        "pythons": [*worker.pythons],
        "slots": capacity.slots if capacity else 0,
        "used_slots": worker.used_slots,
        "waiting": len(worker.backlog),
        "cpus": capacity.cpus if capacity else 0.0,
        "memory_bytes": capacity.memory_bytes if capacity else 0,
        "gpus": [
            {
                "uuid": gpu.uuid,
                "name": gpu.name,
                "memory_bytes": gpu.memory_bytes,
                "fault": gpu.fault,
                "jobs": use.job_count if (use := worker.devices.get(gpu.uuid)) else 0,
            }
            for gpu in (capacity.gpus if capacity else ())
        ],
        "silent_s": round(shop.now - worker.heard_at, 3) if worker.is_here else None,
        "load": worker.load,
        "jobs": [*worker.lease_ids()],
        "lineshaft": worker.register.versions.lineshaft if worker.register else "",
        "isolation": worker.register.capabilities.get("isolation") if worker.register else None,
    }


def _worker_status(worker: Worker) -> str:
    if not worker.is_here:
        return "away"
    if worker.is_draining:
        return "draining"
    return "busy" if worker.running else "idle"


def workers_view(shop: Shop) -> list[JsonValue]:
    """All workers that are here, or that have jobs."""
    return [worker_view(shop, worker) for _, worker in sorted(shop.fleet.workers.items())]


def why(shop: Shop, job_id: JobId, *, shows_output: bool = True) -> dict[str, JsonValue] | None:
    """Why a live job is where it is, in sentences; ``None`` when it is not live.

    Without ``shows_output`` no words of its code, or of what builds its environment, are in them.
    """
    job = shop.ledger.jobs.get(job_id)
    if job is None:
        return None
    state = job_state(shop, job_id, job)
    reasons: list[JsonValue] = []
    if isinstance(job.state, Leased):
        reasons += _why_leased(shop, job_id, job, job.state, shows_output=shows_output)
    elif isinstance(job.state, Paused):
        where = _from_where(job)
        reasons.append(
            f"it was {job.state.reason}; {where} once 'lineshaft resume {job_id}' says so"
        )
    elif job.spec.part is not None:
        lead_id = job.spec.part.job_id
        text = f"it is a part of job {lead_id} and starts with it"
        reasons.append(f"{text}; 'lineshaft why {lead_id}' tells more")
    elif job_id in shop.blocked:
        reasons += [
            f"it comes after job {other}, which is "
            f"{job_state(shop, other, shop.ledger.jobs[other])}; 'lineshaft why {other}' tells more"
            for other in shop.blocked[job_id]
        ]
    elif job_id in shop.delayed:
        reasons.append(_why_delayed(shop, job_id, job))
    elif job_id in shop.arrays:
        reasons.append(_why_held(shop, job_id, job))
    else:
        reasons += _why_queued(shop, job_id, job)
    return {"job_id": job_id, "status": state, "reasons": reasons}


def _why_delayed(shop: Shop, job_id: JobId, job: Job) -> str:
    at = shop.deadlines.at(("retry", job_id))
    when = "soon" if at is None else f"in {max(0.0, at - shop.now):.1f} s"
    count = f"{job.failed_count} of its attempts failed, {job.spec.retries} may"
    told = f"'lineshaft story {job_id}' tells why they failed"
    return f"{count}; the next one may begin {when}; {told}"


def _why_held(shop: Shop, job_id: JobId, job: Job) -> str:
    item, line = limited_item(job.spec), job.spec.line
    assert item is not None, "only an item waits for its array"
    waiting = shop.arrays.waiting(item.array_id)
    of_what = f"items of array {item.array_id}" if line is None else f"jobs of line {line.name}"
    return (
        f"at most {item.at_most} {of_what} may be under way, and "
        f"{len(shop.arrays.under_way(item.array_id))} are; it is number "
        f"{waiting.index(job_id) + 1} of {len(waiting)} that wait for one of them; "
        f"'lineshaft jobs --array {item.array_id}' shows them"
    )


def _why_leased(
    shop: Shop, job_id: JobId, job: Job, state: Leased, *, shows_output: bool
) -> list[JsonValue]:
    worker, gang = shop.fleet.workers[state.worker_id], shop.gang_of(job_id)
    if not worker.is_here:
        return [_why_away(shop, job, worker)]
    if job.cancel_reason is not None:
        return [
            f"it was cancelled ({job.cancel_reason}); worker {state.worker_id} is ending it and "
            "says so when no process of it is left"
        ]
    if gang is not None and gang.is_broken:
        why = (gang.reason if shows_output else "") or "its gang has ended"
        return [f"worker {state.worker_id} is ending it: {why}; all of its ranks start over then"]
    if job.pause is not None:
        return [_why_pausing(worker, job_id, job.pause)]
    lease = worker.lease_of(job_id)
    if lease is not None and not lease.is_started and (lease.doing or not state.is_placed):
        doing = f" ({lease.doing})" if shows_output and lease.doing else ""
        text = f"worker {state.worker_id} prepares its environment{doing}"
        if not state.is_placed:
            text += ", and no slot or GPU is taken for it meanwhile"
        return [f"{text}; 'lineshaft logs {job_id}' shows how far it is"]
    if job_id in worker.backlog:
        return [f"worker {state.worker_id} has it and runs it in its next free slot"]
    if lease is not None and not lease.is_started:
        text = f"worker {state.worker_id} was given attempt {state.attempt}"
        return [f"{text} and has not said that it runs; if it is lost, the job starts elsewhere"]
    return [f"worker {state.worker_id} runs attempt {state.attempt}"]


def _why_away(shop: Shop, job: Job, worker: Worker) -> str:
    wait_s = shop.settings.lost_after_s_of(job.spec)
    text = f"worker {worker.worker_id} has it and is not connected"
    if job.cancel_reason is not None:
        text = f"it was cancelled ({job.cancel_reason}); {text}"
        return f"{text}; when that lasts longer than {wait_s:g} s it counts as ended"
    return f"{text}; the job starts elsewhere when that lasts longer than {wait_s:g} s"


def _why_pausing(worker: Worker, job_id: JobId, pause: PauseRequested) -> str:
    lease = worker.lease_of(job_id)
    if lease is not None and lease.is_frozen:
        return (
            f"it is frozen on worker {worker.worker_id} ({pause.reason}) and keeps its memory and "
            f"GPUs; 'lineshaft resume {job_id}' lets it go on"
        )
    if pause.mode == "freeze":
        text = f"worker {worker.worker_id} is to freeze it ({pause.reason})"
    else:
        text = (
            f"it is asked to save a checkpoint and end ({pause.reason}); "
            f"worker {worker.worker_id} runs it until then"
        )
    return f"{text}; 'lineshaft resume {job_id}' lets it go on"


def _from_where(job: Job) -> str:
    checkpoint = job.checkpoint
    if checkpoint is None:
        return "it starts from its beginning"
    step = "" if checkpoint.step is None else f" at step {checkpoint.step}"
    return f"it goes on from checkpoint {checkpoint.name}{step}"


def _why_queued(shop: Shop, job_id: JobId, job: Job) -> list[JsonValue]:
    shape = Shape.of(job.spec)
    here = [worker for worker in shop.fleet.workers.values() if worker.is_here]
    if shop.is_stopping:
        return ["the coordinator is being stopped and starts nothing; it does when it is back"]
    if not here:
        return ["no worker is connected; 'lineshaft-worker' on a machine connects one"]
    able = [worker for worker in here if may_ever(worker, shape)]
    reasons: list[JsonValue] = []
    if not able:
        text = f"no connected worker could ever run it (it asks for {shape.resources})"
        reasons.append(f"{text}; connect one that can, or 'lineshaft cancel {job_id}'")
    ahead = _jobs_ahead(shop, job_id, shape)
    if able and ahead:
        text = "1 job that asks" if ahead == 1 else f"{ahead} jobs that ask"
        goes = "goes" if ahead == 1 else "go"
        reasons.append(f"{text} for the same {goes} before it; a higher priority passes them")
    if shape.nodes > 1:
        free = sum(worker.capacity is not None and not lacks(worker, shape) for worker in here)
        reasons.append(f"it needs {shape.nodes} workers at once; {free} could start a part now")
    nearest = sorted(here, key=lambda worker: _distance(worker, shape))[:NEAREST_MAX]
    for worker in nearest:
        found = lacks(worker, shape)
        found += preparing_lacks(worker, shape, shop.settings.preparing_max)
        if found:
            reasons.append(f"worker {worker.worker_id}: {'; '.join(map(str, found))}")
    if able and reasons:
        reasons.append("it starts when there is room; 'lineshaft workers' shows who has how much")
    return reasons or [f"worker {nearest[0].worker_id} has room for it; it is its turn next"]


def _distance(worker: Worker, shape: Shape) -> tuple[int, int]:
    found = lacks(worker, shape)
    return (sum(lack.is_for_ever for lack in found), len(found))


def _jobs_ahead(shop: Shop, job_id: JobId, shape: Shape) -> int:
    queue = shop.queues.by_shape.get(shape)
    return 0 if queue is None else shop.queues.ahead_of(job_id)
