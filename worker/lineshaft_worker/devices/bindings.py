"""The part of `pynvml` we call, with types; the package itself has none."""

# NVML's own names and its own manual.
# ruff: noqa: D102, N802, N815

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NewType, Protocol

import pynvml

Handle = NewType("Handle", object)
"""A device as the driver's library knows it; dead after the library was shut down."""

EventSet = NewType("EventSet", object)

UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
GPU_IS_LOST = 15
RESET_REQUIRED = 16
VERSION_MISMATCH = 18
GPU_NOT_FOUND = 28
UNKNOWN = 999

MEMORY_V2 = 0x02000028
MEMORY_ERROR_UNCORRECTED = 1
VOLATILE_ECC = 0
AFFINITY_NODE = 0
XID_EVENT = 8
TEMPERATURE_GPU = 0


class Memory(Protocol):
    """Bytes of a device."""

    total: int
    free: int
    used: int


class Utilization(Protocol):
    """Per cent of the time in which the device worked."""

    gpu: int


class Process(Protocol):
    """A process on a device."""

    pid: int
    usedGpuMemory: int | None


class PciInfo(Protocol):
    """Where a device is plugged in."""

    busId: str


class EventData(Protocol):
    """One event of a device."""

    device: Handle
    eventData: int


class Library(Protocol):
    """NVML's functions; each raises `NVMLError` with a code."""

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...
    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Handle: ...
    def nvmlDeviceGetUUID(self, handle: Handle) -> str: ...
    def nvmlDeviceGetName(self, handle: Handle) -> str: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int | None = None) -> Memory: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> Utilization: ...
    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Handle) -> int: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> Sequence[Process]: ...
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Handle) -> Sequence[Process]: ...
    def nvmlDeviceGetTotalEccErrors(self, handle: Handle, kind: int, counter: int) -> int: ...
    def nvmlDeviceGetMigMode(self, handle: Handle) -> Sequence[int]: ...
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int: ...
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, index: int) -> Handle: ...
    def nvmlDeviceGetPciInfo(self, handle: Handle) -> PciInfo: ...
    def nvmlDeviceGetMemoryAffinity(
        self, handle: Handle, size: int, scope: int
    ) -> Sequence[int]: ...
    def nvmlDeviceGetSupportedEventTypes(self, handle: Handle) -> int: ...
    def nvmlEventSetCreate(self) -> EventSet: ...
    def nvmlDeviceRegisterEvents(self, handle: Handle, types: int, events: EventSet) -> None: ...
    def nvmlEventSetWait_v2(self, events: EventSet, timeout_ms: int) -> EventData: ...
    def nvmlEventSetFree(self, events: EventSet) -> None: ...


if TYPE_CHECKING:

    class NVMLError(Exception):
        """A call failed; `value` is NVML's code."""

        value: int

    library: Library
else:
    NVMLError = pynvml.NVMLError
    library = pynvml
