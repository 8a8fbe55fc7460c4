"""What is not kept, whoever submits it: clients their jobs, running plans their children."""

from lineshaft_coordinator.core.gangs import gang_fault
from lineshaft_coordinator.core.placement import lacks, may_ever
from lineshaft_coordinator.core.plain import is_plain
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.client_messages import RefusalCode
from lineshaft_protocol.families import fault_of_item
from lineshaft_protocol.jobs import JobSpec


def refusal_of(shop: Shop, spec: JobSpec) -> tuple[RefusalCode, str] | None:
    """Why a new job is not kept; None if nothing speaks against it."""
    if len(shop.ledger.jobs) >= shop.settings.live_jobs_max:
        text = f"{shop.settings.live_jobs_max} jobs are waiting or running already"
        return "too_many_jobs", f"{text}; submit again when some have ended"
    plain = is_plain(spec)
    if not plain:
        fault = fault_of_item(spec) or gang_fault(shop, spec) or _processes_fault(spec)
        if fault is not None:
            return "invalid", fault
    return _unplaceable(shop, spec, shop.plain_shapes.of(spec) if plain else Shape.of(spec))


def _processes_fault(spec: JobSpec) -> str | None:
    """Why a job cannot run in several processes; None if it can, or does not want to."""
    count = spec.processes
    if count is None:
        return None
    if spec.kind != "pipeline":
        return f"a {spec.kind} runs in one process; only pipeline jobs take processes"
    gpus = spec.resources.gpus if spec.resources is not None else 0
    if gpus and gpus % count and count % gpus:
        text = f"{count} processes cannot share {gpus} GPUs evenly"
        return f"{text}; let one be a multiple of the other"
    return None


def _unplaceable(shop: Shop, spec: JobSpec, shape: Shape) -> tuple[RefusalCode, str] | None:
    """Refuse what no worker we have seen could ever run, unless its user wants to wait."""
    waits = spec.timeouts is not None and spec.timeouts.queue_s is not None
    settings = shop.settings
    grace_s = settings.recovery_s if shop.epoch > 1 else settings.first_workers_s
    is_recovering = shop.now < shop.started_at + grace_s
    if waits or is_recovering or not shop.fleet.known:
        return None
    able_count = 0
    # No more of them than it needs: this is asked for every job, of a thousand workers.
    for worker in shop.fleet.known.values():
        # One known only by its leases, since our restart, may be able to run anything.
        able_count += worker.capacity is None or may_ever(worker, shape)
        if able_count >= shape.nodes:
            return None
    if able_count:
        text = f"{spec.label} needs {shape.nodes} workers at once, and {able_count} could"
        text += f" ever run a part of it ({shape.resources})"
        return "unplaceable", f"{text}. Ask for fewer, or give queue_timeout to wait for more."
    nearest = min(
        shop.fleet.known.values(),
        key=lambda worker: sum(lack.is_for_ever for lack in lacks(worker, shape)),
    )
    why = "; ".join(str(lack) for lack in lacks(nearest, shape) if lack.is_for_ever)
    text = f"no worker could ever run {spec.label} ({shape.resources})"
    text += f": the nearest is {nearest.worker_id}, but {why}"
    return "unplaceable", f"{text}. Ask for less, or give queue_timeout to wait for one."
