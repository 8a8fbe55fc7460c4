"""What a machine offers to its worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from lineshaft_worker.devices.cgroup import CgroupLimits, SystemFiles
from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuSurvey, NvmlUnavailable
from lineshaft_worker.devices.nvml import Nvml
from lineshaft_worker.devices.pythons import python_envs
from lineshaft_worker.devices.selection import (
    Restrictions,
    UnavailableDeviceError,
    limited,
    select,
    visible,
)

UNRESTRICTED = Restrictions()
SYSTEM_FILES = SystemFiles()
PYTHONS_S = 0.2


@dataclass(frozen=True, slots=True)
class MachineInventory:
    """What a worker may use of its machine."""

    host: str
    cpu_cores: float
    """Cores; a container's quota may leave a fraction."""

    ram_bytes: int
    gpus: tuple[GpuInfo, ...]
    gpu_faults: tuple[GpuFault, ...]
    """GPUs that are ours and cannot be used now."""

    no_gpu_reason: str | None
    """Why the driver could not be asked; `None` when it answered."""

    python_envs: tuple[str, ...]
    tags: tuple[str, ...]
    """`gpu` if there is one, `cpu`, then the operator's, each once."""

    boot_id: str
    """Another one after each start of the machine; empty where the kernel does not tell."""


class Inventory:
    """Looks at the machine. Look again after a fault: devices come and go."""

    def __init__(
        self,
        nvml: Nvml | NvmlUnavailable,
        *,
        environ: Mapping[str, str],
        files: SystemFiles = SYSTEM_FILES,
        pythons: tuple[str, ...] | None = None,
    ) -> None:
        self._nvml, self._pythons = nvml, pythons
        self._environ = environ
        self._files = files

    def detect(self, restrictions: Restrictions = UNRESTRICTED) -> MachineInventory:
        """Find what the worker may use. Takes seconds at worst: not for an event loop's thread.

        Raises:
            UnavailableDeviceError: The restrictions name more than the machine has.
        """
        limits = CgroupLimits.read(self._files)
        cores, memory_bytes = usable_cores(limits), usable_memory_bytes(limits)
        gpus, no_gpu_reason = self._gpus(restrictions)
        usual = ("gpu", "cpu") if gpus.gpus or gpus.faults else ("cpu",)
        return MachineInventory(
            host=socket.gethostname(),
            cpu_cores=limited(restrictions.cpus, cores, kind="CPUs", unit="cores"),
            ram_bytes=int(
                limited(restrictions.memory_bytes, memory_bytes, kind="memory", unit="bytes")
            ),
            gpus=gpus.gpus,
            gpu_faults=gpus.faults,
            no_gpu_reason=no_gpu_reason,
            # A worker should be ready at once: interpreters that must be started to tell their
            # version are left out when they are slow.
            python_envs=self._find_pythons(),
            tags=tuple(dict.fromkeys([*usual, *restrictions.tags])),
            boot_id=self._boot_id(),
        )

    def _find_pythons(self) -> tuple[str, ...]:
        if self._pythons is not None:
            return self._pythons
        return python_envs(self._environ, budget_s=PYTHONS_S)

    def _gpus(self, restrictions: Restrictions) -> tuple[GpuSurvey, str | None]:
        none = GpuSurvey((), ())
        if restrictions.gpus == 0:
            return none, None
        found = self._nvml if isinstance(self._nvml, NvmlUnavailable) else self._nvml.survey()
        if isinstance(found, NvmlUnavailable):
            if restrictions.gpus:
                wanted = f"GPUs ({restrictions.gpus})"
                raise UnavailableDeviceError("GPUs", wanted, f"none: {found.reason}")
            return none, found.reason
        allowed = visible(found, self._environ.get("CUDA_VISIBLE_DEVICES"))
        return select(allowed, restrictions.gpus), None

    def _boot_id(self) -> str:
        try:
            return self._files.boot_id.read_text(encoding="ascii").strip()
        except OSError:
            return ""


def usable_cores(limits: CgroupLimits) -> float:
    """Return the cores we may run on at once: the affinity mask, or a smaller quota."""
    cores = float(len(os.sched_getaffinity(0)))
    return cores if limits.cores is None else min(cores, limits.cores.amount)


def usable_memory_bytes(limits: CgroupLimits) -> int:
    """Return the machine's memory, or a smaller limit."""
    total = int(psutil.virtual_memory().total)
    return total if limits.memory_bytes is None else min(total, int(limits.memory_bytes.amount))
