"""NVIDIA's management library, made safe: values instead of exceptions, and it heals.

A driver may be reloaded, a GPU may fall off the bus, a container may lose its devices. The library
then answers errors until it is initialised again, so `Nvml` is either *connected* or *cut off with
a reason*. Any stale answer asks for a new initialisation; it happens at the start of a later call,
at most one a call and further apart each time in vain (1 s to 60 s, without end: machines heal).
What a GPU did wrong (Xid) outlives that, until the GPU itself was away and is back, hence reset.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from lineshaft_worker.devices import query
from lineshaft_worker.devices.bindings import Handle, NVMLError, library
from lineshaft_worker.devices.gpu import (
    GpuFault,
    GpuInfo,
    GpuReading,
    GpuSurvey,
    NvmlUnavailable,
)
from lineshaft_worker.devices.xid import XidWatch

RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0


class Nvml:
    """The machine's GPUs as the driver sees them; one for a process, safe for its threads.

    `open` it. While it is open the driver counts us as a user of every GPU, so a person who wants
    to reset a GPU or unload the driver must stop the worker, or close this, first.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._handles: dict[str, Handle] = {}
        self._wholes: set[str] = set()
        self._gone: set[str] = set()
        self._xids = XidWatch()
        self._connected = False
        self._reason = "it is not open"
        self._retry_at: float | None = None
        self._retry_s = RETRY_FIRST_S

    @classmethod
    def open(cls, *, clock: Callable[[], float] = time.monotonic) -> Nvml | NvmlUnavailable:
        """Load the library and connect to the driver.

        Args:
            clock: Seconds that only grow; paces new attempts after the driver was lost.

        Returns:
            The connection, or why there is none. Trying again later is cheap and may succeed:
            at boot a worker can start before the driver is loaded.
        """
        nvml = cls(clock=clock)
        return nvml if nvml._connect() else NvmlUnavailable(nvml._reason)

    def close(self) -> None:
        """Let go of the driver; the object is of no use after that."""
        with self._lock:
            self._disconnect("it is closed")
            self._retry_at = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def survey(self) -> GpuSurvey | NvmlUnavailable:
        """List the devices: whole GPUs, and instances of those in MIG mode."""
        with self._lock:
            if not self._ready():
                return NvmlUnavailable(self._reason)
            try:
                found = query.survey()
            except NVMLError as error:
                self._fail(error)
                return NvmlUnavailable(self._reason)
            for gpu in found.gpus:
                # Events count from now on: what happened between survey and first reading too.
                with contextlib.suppress(NVMLError):
                    self._watched(gpu)
            return found

    def read(self, gpus: Sequence[GpuInfo]) -> tuple[GpuReading | GpuFault, ...]:
        """Read how these GPUs are, in their order; a failing one spoils no other."""
        with self._lock:
            if not self._ready():
                return tuple(GpuFault(gpu.index, gpu.uuid, self._reason) for gpu in gpus)
            results = [self._read_one(gpu) for gpu in gpus]
            # After the readings: a GPU that is just back forgets what it did before, not now.
            self._xids.collect()
            if self._retry_at is None:
                self._retry_s = RETRY_FIRST_S
            return tuple(results)

    def last_xid(self, gpu: GpuInfo) -> int | None:
        """Return the last serious Xid of the GPU since it was reset, `None` if there was none."""
        with self._lock:
            return self._xids.last(gpu.parent_uuid or gpu.uuid)

    def forget_xid(self, gpu: GpuInfo) -> None:
        """Trust the GPU again after a person looked at it."""
        with self._lock:
            self._xids.forget(gpu.parent_uuid or gpu.uuid)

    def _read_one(self, gpu: GpuInfo) -> GpuReading | GpuFault:
        whole_uuid = gpu.parent_uuid or gpu.uuid
        try:
            parent = self._watched(gpu)
            if not gpu.mig and query.has_mig(parent):
                return GpuFault(gpu.index, gpu.uuid, "it was put into MIG mode since we looked")
            reading = query.reading(self._handle(gpu.uuid), gpu.uuid, parent=parent)
        except NVMLError as error:
            self._handles.pop(gpu.uuid, None)
            self._handles.pop(whole_uuid, None)
            if error.value in query.GONE_CODES:
                self._gone.add(whole_uuid)
            if error.value in query.STALE_CODES:
                self._ask_for_retry()
            return GpuFault(gpu.index, gpu.uuid, query.explain(error))
        if whole_uuid in self._gone:
            self._gone.discard(whole_uuid)
            self._xids.forget(whole_uuid)
        return reading

    def _watched(self, gpu: GpuInfo) -> Handle:
        """Return the handle of the whole GPU, whose events we collect."""
        uuid = gpu.parent_uuid or gpu.uuid
        handle = self._handle(uuid)
        self._xids.watch(uuid, handle)
        self._wholes.add(uuid)
        return handle

    def _handle(self, uuid: str) -> Handle:
        if uuid not in self._handles:
            self._handles[uuid] = library.nvmlDeviceGetHandleByUUID(uuid)
        return self._handles[uuid]

    def _ready(self) -> bool:
        if self._retry_at is not None and self._clock() >= self._retry_at:
            self._disconnect(self._reason)
            self._retry_at = None
            self._connect()
        return self._connected

    def _connect(self) -> bool:
        try:
            library.nvmlInit()
        except NVMLError as error:
            self._fail(error)
            return False
        self._connected = True
        self._xids.open()
        return True

    def _disconnect(self, reason: str) -> None:
        self._reason = reason
        self._handles.clear()
        if not self._connected:
            return
        self._connected = False
        self._xids.close()
        with contextlib.suppress(NVMLError):
            library.nvmlShutdown()

    def _fail(self, error: NVMLError) -> None:
        """Note that the driver as a whole does not answer."""
        if error.value in query.GONE_CODES:
            self._gone |= self._wholes
        self._disconnect(query.explain(error))
        self._ask_for_retry()

    def _ask_for_retry(self) -> None:
        if self._retry_at is None:
            self._retry_at = self._clock() + self._retry_s
            self._retry_s = min(self._retry_s * 2, RETRY_LONGEST_S)
