"""Xid events: the driver's notes about a GPU that did something wrong."""

from __future__ import annotations

import contextlib

from lineshaft_worker.devices import bindings
from lineshaft_worker.devices.bindings import EventSet, Handle, NVMLError, library

_IGNORED = frozenset(
    {14, 37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 152, 153, 157, 160, 161}
)
_RESTART_APP = frozenset(
    {8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84, 85}
    | {86, 88, 89, 94, *range(96, 106), *range(126, 136), 139}
)
APPLICATION_XIDS = _IGNORED | _RESTART_APP | {45}
"""Those with which the GPU goes on: the immediate action in NVIDIA's catalogue is IGNORE or
RESTART_APP (https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html), and 45, which
follows another error or a kill. What is not listed there is taken to be serious.

NVIDIA's Kubernetes device plugin also passes over 109 (context switch timeout); the catalogue
wants the GPU reset after it, so we do not.
"""

_EVENTS_MAX = 64  # In one look; a storm of events must not hold up the heartbeat.


class XidWatch:
    """Collects the last serious Xid of each GPU, beyond the library's re-initialisation."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._watched: set[str] = set()
        self._events: EventSet | None = None

    def open(self) -> None:
        """Begin after the library was initialised; without event support nothing is seen."""
        self._watched.clear()
        with contextlib.suppress(NVMLError):
            self._events = library.nvmlEventSetCreate()

    def close(self) -> None:
        """End before the library is shut down; what was seen is kept."""
        if self._events is not None:
            with contextlib.suppress(NVMLError):
                library.nvmlEventSetFree(self._events)
        self._events = None

    def watch(self, uuid: str, handle: Handle) -> None:
        """Register a whole GPU, once; instances have their GPU's events."""
        if self._events is None or uuid in self._watched:
            return
        try:
            if library.nvmlDeviceGetSupportedEventTypes(handle) & bindings.XID_EVENT:
                library.nvmlDeviceRegisterEvents(handle, bindings.XID_EVENT, self._events)
        except NVMLError:
            return  # It is asked again the next time; a device that is lost comes here first.
        self._watched.add(uuid)

    def collect(self) -> None:
        """Take what has happened since the last look, without waiting."""
        if self._events is None:
            return
        for _ in range(_EVENTS_MAX):
            try:
                event = library.nvmlEventSetWait_v2(self._events, 0)
            except NVMLError:
                return  # Nothing (more) has happened, or the devices are gone, as a reading shows.
            if event.eventData in APPLICATION_XIDS:
                continue
            try:
                uuids = {library.nvmlDeviceGetUUID(event.device)}
            except NVMLError:
                uuids = self._watched  # It cannot say which one: none of them can be trusted.
            for uuid in uuids:
                self._seen[uuid] = event.eventData

    def last(self, uuid: str) -> int | None:
        """Return the last serious Xid of a whole GPU, `None` if there was none."""
        return self._seen.get(uuid)

    def forget(self, uuid: str) -> None:
        """Trust the GPU again: it was reset, or a person says so."""
        self._seen.pop(uuid, None)
