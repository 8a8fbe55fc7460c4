"""All connected workers, described as the one worker for which the gateway stands in."""

from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import Capabilities, Gpu, LoadMetrics

_GB = 10**9


def capabilities(shop: Shop) -> Capabilities:
    """The sum of what the connected workers have."""
    described = [_capabilities(worker) for worker in _here(shop)]
    return Capabilities(
        cpu_cores=sum(each.cpu_cores for each in described),
        ram_bytes=sum(each.ram_bytes for each in described),
        gpus=tuple(gpu for each in described for gpu in each.gpus),
        python_envs=tuple(dict.fromkeys(env for each in described for env in each.python_envs)),
        tags=tuple(dict.fromkeys(tag for each in described for tag in each.tags)),
    )


def registry(shop: Shop, *, address: str, at: datetime) -> list[JsonValue]:
    """The connected workers, as upstream's registry lists them.

    Args:
        shop: The core's state.
        address: Where plans are taken: ours, for our workers are not dialled.
        at: Wall time now; the core's own clock stands where it last did something.
    """
    return [
        {
            "id": worker.worker_id,
            "address": address,
            "capabilities": _json(_capabilities(worker)),
            "load": _load(worker),
            "active_plans": [*worker.lease_ids()],
            "last_heartbeat": _rfc3339(at - timedelta(seconds=shop.now - worker.heard_at)),
            "connected": True,
        }
        for worker in _here(shop)
    ]


def summary(shop: Shop) -> str:
    """The connected workers in one line, as upstream's registry has it."""
    total = capabilities(shop)
    return (
        f"{len(_here(shop))} workers ({total.cpu_cores} CPUs, {len(total.gpus)} GPUs, "
        f"{total.ram_bytes / _GB:.1f} GB RAM)"
    )


def _here(shop: Shop) -> list[Worker]:
    return [worker for _, worker in sorted(shop.fleet.workers.items()) if worker.is_here]


def _capabilities(worker: Worker) -> Capabilities:
    """What the worker said of itself; from what it offers, if that cannot be read."""
    assert worker.register is not None, "a worker that is here has registered"
    assert worker.capacity is not None, "a worker that is here offers something"
    try:
        return Capabilities.from_wire(worker.register.capabilities)
    except ProtocolError:
        capacity = worker.capacity
        return Capabilities(
            cpu_cores=max(1, int(capacity.cpus)),
            ram_bytes=capacity.memory_bytes,
            gpus=tuple(Gpu(name=gpu.name, memory_bytes=gpu.memory_bytes) for gpu in capacity.gpus),
            python_envs=(),
            tags=tuple(sorted(worker.tags)),
        )


def _load(worker: Worker) -> JsonValue:
    load = {
        **worker.load,
        "active_plans": len(worker.running),
        "queue_depth": len(worker.backlog),
    }
    try:
        return _json(LoadMetrics.from_wire(load))
    except ProtocolError:  # It has not said how busy it is, or not in a way that clients read.
        return None


def _json(model: Capabilities | LoadMetrics) -> JsonValue:
    described: JsonValue = model.model_dump(mode="json")
    return described


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
