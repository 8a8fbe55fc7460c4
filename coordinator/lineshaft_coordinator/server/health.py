"""How the coordinator is, for programs that look from time to time."""

from pydantic import JsonValue

from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.version import __version__

_GIB = 2**30


def health_view(shop: Shop) -> dict[str, JsonValue]:
    """What is told without a token: that we are well, and which GPUs the workers here have."""
    here = [worker for worker in shop.fleet.workers.values() if worker.is_here]
    gpus: list[JsonValue] = [
        {"name": gpu.name, "memory_total_gb": round(gpu.memory_bytes / _GIB, 2)}
        for worker in here
        if worker.capacity is not None
        for gpu in worker.capacity.gpus
    ]
    return {
        "status": "healthy",
        "service": "lineshaft",
        "version": __version__,
        "gpu_available": bool(gpus),
        "gpu_info": gpus,
    }
