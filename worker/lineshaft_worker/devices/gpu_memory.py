"""How much memory of its GPUs an attempt has: pure questions about a look."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lineshaft_worker.devices.load import GpuLoad
from lineshaft_worker.devices.occupancy import unowned_bytes


def used_by(gpus: Sequence[GpuLoad], pids: Collection[int], *, is_alone: bool) -> int | None:
    """Return what these processes have on these GPUs together; None if that cannot be told.

    Args:
        gpus: How the attempt's GPUs are.
        pids: Its processes.
        is_alone: Whether nobody else may be on the GPUs. Then memory of processes that the driver
            hides, or names by numbers of another namespace, counts as the attempt's.
    """
    told = [_used_of(gpu, pids, is_alone=is_alone) for gpu in gpus if gpu.fault is None]
    known = [amount for amount in told if amount is not None]
    return sum(known) if known else None


def _used_of(gpu: GpuLoad, pids: Collection[int], *, is_alone: bool) -> int | None:
    mine = [process for process in gpu.processes if process.pid in pids]
    if is_alone and (not mine or any(process.used_bytes is None for process in mine)):
        return gpu.memory_used_bytes if gpu.processes or unowned_bytes(gpu) else 0
    amounts = [process.used_bytes for process in mine if process.used_bytes is not None]
    return sum(amounts) if amounts else None
