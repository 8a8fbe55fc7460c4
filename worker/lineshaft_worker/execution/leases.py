"""How the daemon renews the leases of all that runs, for shims that outlive it.

Theory. A lease counts from the last heartbeat that the coordinator answered. That moment is one
number for all attempts, so the daemon writes it to one page, whatever is running; each shim reads
it when the lease of what its runner executes could be over, and ends the runner if it is. A daemon
that is dead or stands still writes nothing, so its attempts end all the same. The next daemon goes
on counting from what it finds here.

The moment is on the clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`).
"""

import mmap
import os
import time
from pathlib import Path
from typing import Self

from lineshaft_worker.execution import shim

PAGE_BYTES = 4096
_BOOT_AT = shim.LEASES.size
_BOOT_BYTES = 36


class LeasePage:
    """The page of one state folder, which must be ours."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page
        self._asleep_s = _asleep_s()

    @classmethod
    def open(cls, state_folder: Path) -> Self:
        """Open the page, or make it. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(state_folder / shim.LEASE_PAGE, flags, 0o600)
        try:
            # Room for all of it now: on a full disk to write to the page would be a SIGBUS.
            os.posix_fallocate(descriptor, 0, PAGE_BYTES)
            page = mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)
        boot = shim.boot_id().encode()[:_BOOT_BYTES].ljust(_BOOT_BYTES)
        place = slice(_BOOT_AT, _BOOT_AT + _BOOT_BYTES)
        if page[place] != boot:
            page[:_BOOT_AT] = shim.LEASES.pack(0.0, 0.0)
            page[place] = boot
        return cls(page)

    def since(self) -> float | None:
        """Return since when leases count, on `time.monotonic`; None if nobody has said so."""
        since, _ = shim.LEASES.unpack_from(self._page)
        return since - _asleep_s() if since else None

    def renew(self, since: float, otherwise_s: float) -> None:
        """Have all leases count from a moment.

        Args:
            since: When the heartbeat that was answered was sent, on `time.monotonic`.
            otherwise_s: The lease of attempts that were given without one.
        """
        # As it was before that heartbeat: if the machine slept since, the lease ends too early.
        self._page[:_BOOT_AT] = shim.LEASES.pack(since + self._asleep_s, otherwise_s)
        self._asleep_s = _asleep_s()

    def close(self) -> None:
        """Let go of it; what is written stays."""
        self._page.close()


def _asleep_s() -> float:
    """Return for how long the machine has slept since it was booted, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
