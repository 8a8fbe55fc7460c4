"""What is known about a GPU: what it is, how it is, who is on it, and why it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """A GPU, or an instance of a GPU in MIG mode, that programs can be given."""

    index: int
    """Place in the driver's list, as `nvidia-smi` counts; an instance has its GPU's."""

    uuid: str
    """`GPU-…` or `MIG-…`; what belongs into `CUDA_VISIBLE_DEVICES`."""

    name: str
    memory_bytes: int
    mig: bool
    parent_uuid: str | None
    """The GPU an instance was cut from; `None` for a whole GPU."""

    numa_node: int | None
    """Host memory node nearest to the GPU; `None` where the driver does not tell."""

    pci_bus_id: str


@dataclass(frozen=True, slots=True)
class GpuFault:
    """A GPU that is there, or was, and cannot be used."""

    index: int
    uuid: str | None
    """`None` when the GPU failed before it ever told its name."""

    reason: str


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that uses a GPU."""

    pid: int
    """As the driver counts: in a container this is often the host's number, or hidden."""

    used_bytes: int | None
    """`None` when the driver does not tell."""

    kind: Literal["compute", "graphics", "both"]


@dataclass(frozen=True, slots=True)
class GpuReading:
    """How a GPU was at one moment."""

    uuid: str
    utilisation: float | None
    """0 to 1; `None` for MIG instances, for which the driver has no number."""

    memory_total_bytes: int
    memory_used_bytes: int
    """Without what the driver keeps for itself, where it tells the two apart."""

    memory_free_bytes: int
    processes: tuple[GpuProcess, ...]
    ecc_uncorrected: int | None
    """Uncorrected memory errors since the GPU was reset; `None` without ECC."""

    temperature_c: float | None = None
    """Of the whole GPU, also for an instance, in degrees Celsius; `None` without a sensor."""

    power_w: float | None = None
    """What the whole GPU takes, likewise, in watts."""


@dataclass(frozen=True, slots=True)
class GpuSurvey:
    """All devices of a machine, the good ones and the failing ones."""

    gpus: tuple[GpuInfo, ...]
    faults: tuple[GpuFault, ...]


@dataclass(frozen=True, slots=True)
class NvmlUnavailable:
    """Why the driver cannot be asked at all; a machine without GPUs is the usual case."""

    reason: str
