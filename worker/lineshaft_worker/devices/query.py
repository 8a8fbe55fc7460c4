"""Questions to one device, answered as values; what a driver does not know is `None`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

from lineshaft_worker.devices import bindings
from lineshaft_worker.devices.bindings import Handle, Memory, NVMLError, Process, library
from lineshaft_worker.devices.gpu import GpuFault, GpuInfo, GpuProcess, GpuReading, GpuSurvey

T = TypeVar("T")

GONE_CODES = frozenset(
    {
        bindings.UNINITIALIZED,
        bindings.NOT_FOUND,
        bindings.DRIVER_NOT_LOADED,
        bindings.GPU_IS_LOST,
        bindings.RESET_REQUIRED,
        bindings.GPU_NOT_FOUND,
    }
)
"""The device left the driver; when it is back, it was reset."""

STALE_CODES = GONE_CODES | {bindings.UNKNOWN}
"""Only a library that is initialised again may see the device again."""

_REASONS = {
    bindings.UNINITIALIZED: "the driver was reloaded",
    bindings.NOT_FOUND: "the driver no longer lists it",
    bindings.DRIVER_NOT_LOADED: "no NVIDIA driver is loaded",
    bindings.LIBRARY_NOT_FOUND: "NVIDIA's library libnvidia-ml.so.1 is not installed",
    bindings.GPU_IS_LOST: "the GPU is lost: it fell off the bus or cannot be reached",
    bindings.RESET_REQUIRED: "the GPU must be reset (nvidia-smi --gpu-reset)",
    bindings.VERSION_MISMATCH: (
        "the driver was upgraded under a running process: restart the worker, or the machine"
    ),
    bindings.GPU_NOT_FOUND: "the driver finds no such GPU",
    bindings.UNKNOWN: (
        "the driver answered 'unknown error'; in a container, `systemctl daemon-reload` on the"
        " host takes the GPUs away: restart the container"
    ),
}


def explain(error: NVMLError) -> str:
    """Say what happened and what to do, in one line that starts in lower case."""
    return _REASONS.get(error.value, f"NVML error {error.value}: {error}")


def survey() -> GpuSurvey:
    """List all devices; one that fails is named among the faults.

    Raises:
        NVMLError: The driver as a whole does not answer.
    """
    gpus: list[GpuInfo] = []
    faults: list[GpuFault] = []
    for index in range(library.nvmlDeviceGetCount()):
        uuid: str | None = None
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            uuid = library.nvmlDeviceGetUUID(handle)
            if not has_mig(handle):
                gpus.append(_info(handle, index, whole=handle, parent_uuid=None))
                continue
            instances = [
                _info(part, index, whole=handle, parent_uuid=uuid) for part in _instances(handle)
            ]
        except NVMLError as error:
            faults.append(GpuFault(index, uuid, explain(error)))
            continue
        gpus += instances
        if not instances:
            faults.append(GpuFault(index, uuid, "it is in MIG mode and has no instances"))
    return GpuSurvey(tuple(gpus), tuple(faults))


def reading(handle: Handle, uuid: str, *, parent: Handle) -> GpuReading:
    """Read how a device is now.

    Args:
        handle: The device.
        uuid: Its name, for the answer.
        parent: The GPU an instance was cut from; for a whole GPU the device itself.

    Raises:
        NVMLError: The device cannot be read; its code says whether it is gone.
    """
    memory = _memory(handle)
    rates = known(lambda: library.nvmlDeviceGetUtilizationRates(handle))
    errors = known(
        lambda: library.nvmlDeviceGetTotalEccErrors(
            parent, bindings.MEMORY_ERROR_UNCORRECTED, bindings.VOLATILE_ECC
        )
    )
    degrees = _sensed(lambda: library.nvmlDeviceGetTemperature(parent, bindings.TEMPERATURE_GPU))
    milliwatts = _sensed(lambda: library.nvmlDeviceGetPowerUsage(parent))
    return GpuReading(
        uuid,
        utilisation=None if rates is None else min(rates.gpu / 100, 1.0),
        memory_total_bytes=memory.total,
        memory_used_bytes=memory.used,
        memory_free_bytes=memory.free,
        processes=_processes(handle),
        ecc_uncorrected=errors,
        temperature_c=degrees,
        power_w=None if milliwatts is None else milliwatts / 1000,
    )


def known(ask: Callable[[], T]) -> T | None:
    """Ask for what not every device, driver or user may know; `None` if it does not.

    Raises:
        NVMLError: The device does not answer at all.
    """
    try:
        return ask()
    except NVMLError as error:
        if error.value in STALE_CODES:
            raise
        return None


def _sensed(ask: Callable[[], int]) -> int | None:
    # A GPU works without its sensors, and some answer 'unknown error' for the one they lack.
    try:
        return ask()
    except NVMLError:
        return None


def has_mig(handle: Handle) -> bool:
    """Is the GPU cut into instances, so that it cannot be used as a whole?"""
    mode = known(lambda: library.nvmlDeviceGetMigMode(handle))
    return mode is not None and mode[0] == 1


def _instances(handle: Handle) -> Iterator[Handle]:
    for place in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield library.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except NVMLError as error:
            # The places are not filled in order: a gap says nothing about those behind it.
            if error.value not in (bindings.NOT_FOUND, bindings.INVALID_ARGUMENT):
                raise


def _info(handle: Handle, index: int, *, whole: Handle, parent_uuid: str | None) -> GpuInfo:
    pci = known(lambda: library.nvmlDeviceGetPciInfo(whole))
    return GpuInfo(
        index=index,
        uuid=library.nvmlDeviceGetUUID(handle),
        name=library.nvmlDeviceGetName(handle),
        memory_bytes=_memory(handle).total,
        mig=parent_uuid is not None,
        parent_uuid=parent_uuid,
        numa_node=_numa_node(whole),
        pci_bus_id="" if pci is None else pci.busId,
    )


def _numa_node(handle: Handle) -> int | None:
    # Not nvmlDeviceGetNumaNodeId: that is the node which a Grace GPU's own memory forms.
    words = known(lambda: library.nvmlDeviceGetMemoryAffinity(handle, 16, bindings.AFFINITY_NODE))
    for place, word in enumerate(words or ()):
        if word:
            return place * 64 + (word & -word).bit_length() - 1
    return None


def _memory(handle: Handle) -> Memory:
    # Version 2 keeps the driver's own reserve (hundreds of MiB) apart from what programs use.
    apart = known(lambda: library.nvmlDeviceGetMemoryInfo(handle, bindings.MEMORY_V2))
    return library.nvmlDeviceGetMemoryInfo(handle) if apart is None else apart


def _processes(handle: Handle) -> tuple[GpuProcess, ...]:
    # A driver that cannot list them leaves their memory without an owner, which `occupancy`
    # counts as used by others: the safe side.
    compute = known(lambda: library.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
    graphics = known(lambda: library.nvmlDeviceGetGraphicsRunningProcesses(handle)) or ()
    found: dict[int, GpuProcess] = {}
    kinds: tuple[tuple[Literal["compute", "graphics"], Sequence[Process]], ...]
    kinds = (("compute", compute), ("graphics", graphics))
    for kind, processes in kinds:
        for process in processes:
            found[process.pid] = _merged(
                found.get(process.pid), GpuProcess(process.pid, process.usedGpuMemory, kind)
            )
    return tuple(found[pid] for pid in sorted(found))


def _merged(before: GpuProcess | None, process: GpuProcess) -> GpuProcess:
    # MIG lists a process once per compute instance; a desktop program is in both lists with the
    # same memory. The larger number is right for the second and never too large for the first.
    if before is None:
        return process
    amounts = [amount for amount in (before.used_bytes, process.used_bytes) if amount is not None]
    kind = process.kind if process.kind == before.kind else "both"
    return GpuProcess(process.pid, max(amounts, default=None), kind)
