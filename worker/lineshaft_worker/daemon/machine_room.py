"""The machine under the worker: what it offers and how busy it is."""

import asyncio
import os
import platform
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pydantic import JsonValue

from lineshaft_protocol.resources import GIB, Capacity, Gpu
from lineshaft_worker.devices.gpu import NvmlUnavailable
from lineshaft_worker.devices.inventory import Inventory, MachineInventory
from lineshaft_worker.devices.load import GpuLoad, LoadSample, LoadSampler
from lineshaft_worker.devices.nvml import Nvml
from lineshaft_worker.devices.occupancy import foreign_use
from lineshaft_worker.devices.selection import Restrictions


@dataclass(frozen=True, slots=True)
class Offer:
    """What this worker offers, after its operator's restrictions."""

    machine: MachineInventory
    capacity: Capacity
    tags: tuple[str, ...]
    capabilities: dict[str, JsonValue]


class MachineRoom:
    """Looks at CPUs, memory and GPUs.

    Args:
        slots: How many attempts may run at once; ``None`` means one for each CPU.
    """

    def __init__(self, restrictions: Restrictions, *, slots: int | None) -> None:
        self._nvml = Nvml.open()
        self._inventory = Inventory(self._nvml, environ=os.environ)
        self._restrictions, self._slots = restrictions, slots
        self._offer = self._look()
        self._sampler = LoadSampler(self._offer.machine.gpus, self._nvml)

    @property
    def offer(self) -> Offer:
        """What was found at the start."""
        return self._offer

    def _look(self) -> Offer:
        machine = self._inventory.detect(self._restrictions)
        faults = tuple(
            Gpu(
                uuid=fault.uuid or f"index-{fault.index}",
                name="?",
                memory_bytes=0,
                fault=fault.reason,
            )
            for fault in machine.gpu_faults
        )
        gpus = tuple(
            Gpu(uuid=gpu.uuid, name=gpu.name, memory_bytes=gpu.memory_bytes) for gpu in machine.gpus
        )
        capacity = Capacity(
            slots=self._slots or max(1, int(machine.cpu_cores)),
            cpus=machine.cpu_cores,
            memory_bytes=machine.ram_bytes,
            gpus=gpus + faults,
        )
        capabilities: dict[str, JsonValue] = {
            "cpu_cores": max(1, int(machine.cpu_cores)),
            "ram_bytes": machine.ram_bytes,
            "gpus": [{"name": gpu.name, "memory_bytes": gpu.memory_bytes} for gpu in machine.gpus],
            "python_envs": [*machine.python_envs],
            "tags": [*machine.tags],
        }
        return Offer(machine, capacity, machine.tags, capabilities)

    async def sample(
        self, devices: Callable[[], frozenset[str]]
    ) -> tuple[dict[str, JsonValue], Capacity]:
        """How busy the machine is, and what it offers now: GPUs that cannot be used are marked.

        Args:
            devices: Tells which GPUs our own runners may be using; nobody should use the others.
        """
        # Before and after: a runner may come or go while the driver is asked.
        ours = devices()
        sample = await asyncio.to_thread(self._sampler.sample)
        ours |= devices()
        faults = {gpu.uuid: gpu.fault or _occupied(gpu, ours) for gpu in sample.gpus}
        capacity = self._offer.capacity
        gpus = tuple(
            gpu if gpu.uuid not in faults else gpu.model_copy(update={"fault": faults[gpu.uuid]})
            for gpu in capacity.gpus
        )
        return _load(sample), capacity.model_copy(update={"gpus": gpus})

    def close(self) -> None:
        """Let go of the driver."""
        if not isinstance(self._nvml, NvmlUnavailable):
            self._nvml.close()


def _occupied(gpu: GpuLoad, ours: Collection[str]) -> str | None:
    # Whose a process is shows only where pids are not hidden, as they are in a container. So only
    # GPUs that no runner of ours may see are looked at: there, all memory is somebody else's, or
    # was not given back by an attempt that ended.
    use = foreign_use(gpu, ()) if gpu.uuid not in ours else None
    if use is None:
        return None
    pids = ", ".join(str(process.pid) for process in use.processes)
    who = f"by processes {pids}" if pids else "by nobody that the driver names"
    return f"{use.used_bytes / GIB:.3g} GiB of it are in use {who}"


def _load(sample: LoadSample) -> dict[str, JsonValue]:
    return {
        "cpu_usage": round(sample.cpu_usage, 4),
        "memory_usage": round(sample.memory_usage, 4),
        "gpu_usage": [gpu.utilisation for gpu in sample.gpus],
        "gpu_memory_used_bytes": [gpu.memory_used_bytes for gpu in sample.gpus],
        "timestamp": sample.timestamp.isoformat().replace("+00:00", "Z"),
    }


def own_python() -> str:
    """Our own Python minor, as ``3.11``."""
    return ".".join(platform.python_version_tuple()[:2])
