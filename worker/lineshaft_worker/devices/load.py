"""How busy the machine is right now."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from lineshaft_worker.devices.cgroup import (
    CgroupLimits,
    SystemFiles,
    cpu_used_s,
    memory_used_bytes,
)
from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuProcess, GpuReading, NvmlUnavailable
from lineshaft_worker.devices.inventory import SYSTEM_FILES, usable_cores, usable_memory_bytes
from lineshaft_worker.devices.nvml import Nvml

_INTERVAL_S_MIN = 0.05  # The kernel counts in ticks of 10 ms: shorter spans are mostly rounding.


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """How one GPU is; with a fault the numbers may be the empty ones."""

    uuid: str
    utilisation: float | None
    """0 to 1; `None` for MIG instances and unreadable GPUs."""

    memory_total_bytes: int
    memory_used_bytes: int
    memory_free_bytes: int
    processes: tuple[GpuProcess, ...]
    fault: str | None
    """Why nothing may run on it; `None` for a healthy GPU."""

    temperature_c: float | None = None
    power_w: float | None = None
    """Of the whole GPU; `None` where there is no sensor."""


@dataclass(frozen=True, slots=True)
class LoadSample:
    """How busy the part of the machine is that we may use."""

    timestamp: datetime
    cpu_usage: float
    """0 to 1, of our cores since the sample before."""

    memory_usage: float
    """0 to 1, of our memory."""

    gpus: tuple[GpuLoad, ...]


class LoadSampler:
    """Samples the machine. Blocks on a hanging driver, so call it from an executor's thread."""

    def __init__(
        self,
        gpus: Sequence[GpuInfo],
        nvml: Nvml | NvmlUnavailable,
        *,
        files: SystemFiles = SYSTEM_FILES,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._gpus = tuple(gpus)
        self._nvml = nvml
        self._files = files
        self._now = now
        self._lock = threading.Lock()
        self._cpu = _CpuUsage(clock, CgroupLimits.read(files))

    def sample(self) -> LoadSample:
        """Take one sample; a device that fails is a fault in it."""
        with self._lock:
            limits = CgroupLimits.read(self._files)
            return LoadSample(
                timestamp=self._now(),
                cpu_usage=self._cpu.since_last(limits),
                memory_usage=_memory_usage(limits),
                gpus=self._gpu_loads(),
            )

    def gpus(self) -> tuple[GpuLoad, ...]:
        """Look at the GPUs alone."""
        with self._lock:
            return self._gpu_loads()

    def _gpu_loads(self) -> tuple[GpuLoad, ...]:
        if isinstance(self._nvml, NvmlUnavailable):
            return tuple(_unreadable(gpu, self._nvml.reason) for gpu in self._gpus)
        nvml, gpus = self._nvml, self._gpus
        return tuple(
            _unreadable(gpu, answer.reason)
            if isinstance(answer, GpuFault)
            else _load(answer, _damage(answer, nvml.last_xid(gpu)))
            for gpu, answer in zip(gpus, nvml.read(gpus), strict=True)
        )


class _CpuUsage:
    """Turns growing counters into a share of the time between two looks.

    Not `psutil.cpu_percent`: it keeps one state a thread, and an executor has many.
    """

    def __init__(self, clock: Callable[[], float], limits: CgroupLimits) -> None:
        self._clock = clock
        self._usage = 0.0
        self._folder: Path | None = _counted(limits)
        self._before = clock(), _busy_s(limits)

    def since_last(self, limits: CgroupLimits) -> float:
        folder = _counted(limits)
        at, busy_s = self._clock(), _busy_s(limits)
        before_at, before_busy_s = self._before
        if folder != self._folder:
            # Another counter since a limit came or went: this is its first look.
            self._folder, self._before = folder, (at, busy_s)
        elif at - before_at >= _INTERVAL_S_MIN:
            share = (busy_s - before_busy_s) / ((at - before_at) * usable_cores(limits))
            self._usage = min(max(share, 0.0), 1.0)
            self._before = at, busy_s
        return self._usage


def _counted(limits: CgroupLimits) -> Path | None:
    return None if limits.cores is None else limits.cores.folder


def _busy_s(limits: CgroupLimits) -> float:
    """Return the processor time used so far, by our group or on the cores we may run on."""
    used_s = None if limits.cores is None else cpu_used_s(limits.cores.folder)
    if used_s is not None:
        return used_s
    ours = os.sched_getaffinity(0)
    return sum(
        times.user + times.nice + times.system
        for core, times in enumerate(psutil.cpu_times(percpu=True))
        if core in ours
    )


def _memory_usage(limits: CgroupLimits) -> float:
    if limits.memory_bytes is not None:
        used = memory_used_bytes(limits.memory_bytes.folder)
        if used is not None:
            return min(used / max(usable_memory_bytes(limits), 1), 1.0)
    return min(max(psutil.virtual_memory().percent / 100, 0.0), 1.0)


def _damage(reading: GpuReading, xid: int | None) -> str | None:
    """Say why a GPU that answers must not be used."""
    if xid is not None:
        return f"the driver reported Xid {xid}; see NVIDIA's list of Xid errors"
    if reading.ecc_uncorrected:
        return (
            f"{reading.ecc_uncorrected} uncorrected memory errors since it was reset;"
            " reset it (nvidia-smi --gpu-reset)"
        )
    return None


def _load(reading: GpuReading, fault: str | None) -> GpuLoad:
    return GpuLoad(
        uuid=reading.uuid,
        utilisation=reading.utilisation,
        memory_total_bytes=reading.memory_total_bytes,
        memory_used_bytes=reading.memory_used_bytes,
        memory_free_bytes=reading.memory_free_bytes,
        processes=reading.processes,
        fault=fault,
        temperature_c=reading.temperature_c,
        power_w=reading.power_w,
    )


def _unreadable(gpu: GpuInfo, reason: str) -> GpuLoad:
    return GpuLoad(
        uuid=gpu.uuid,
        utilisation=None,
        memory_total_bytes=gpu.memory_bytes,
        memory_used_bytes=0,
        memory_free_bytes=0,
        processes=(),
        fault=reason,
    )
