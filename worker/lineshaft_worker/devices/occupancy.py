"""Who is on a GPU: pure questions about a sample, asked before a start and after an end.

A process counts as ours only by its pid. Where the driver shows no processes (in a container), or
pids of another namespace, their memory has no owner we know; it then counts as used by others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from lineshaft_worker.devices.gpu import GpuProcess
from lineshaft_worker.devices.load import GpuLoad, LoadSample

SLACK_BYTES = 256 * 1024**2
"""Memory without an owner that a healthy idle GPU may show: the driver's, a display's."""


@dataclass(frozen=True, slots=True)
class ForeignUse:
    """What others than our attempts do on a GPU."""

    uuid: str
    processes: tuple[GpuProcess, ...]
    used_bytes: int
    """Memory of their processes as far as told, and memory without a process."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an ended attempt left on a GPU, or why that cannot be said."""

    uuid: str
    pids: tuple[int, ...]
    used_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A GPU on which nothing may be started until the reason is gone."""

    uuid: str
    reason: str
    since: datetime


def foreign_uses(sample: LoadSample, own_pids: Collection[int]) -> tuple[ForeignUse, ...]:
    """Return the GPUs that others use; one that cannot be read is not among them.

    Args:
        sample: How the machine is.
        own_pids: All processes of all our attempts.
    """
    uses = [foreign_use(gpu, own_pids) for gpu in sample.gpus]
    return tuple(use for use in uses if use is not None)


def foreign_use(
    gpu: GpuLoad, own_pids: Collection[int], *, slack_bytes: int = SLACK_BYTES
) -> ForeignUse | None:
    """Return what others do on one GPU, `None` if nothing."""
    others = tuple(process for process in gpu.processes if process.pid not in own_pids)
    nobodys = unowned_bytes(gpu)
    if nobodys <= slack_bytes:
        nobodys = 0
    if not others and not nobodys:
        return None
    return ForeignUse(gpu.uuid, others, sum(p.used_bytes or 0 for p in others) + nobodys)


def is_free_for(
    gpu: GpuLoad,
    memory_bytes: int,
    *,
    exclusive: bool,
    own_pids: Collection[int],
) -> bool:
    """May an attempt be started on the GPU now? `obstacle` says why not."""
    return obstacle(gpu, memory_bytes, exclusive=exclusive, own_pids=own_pids) is None


def obstacle(
    gpu: GpuLoad,
    memory_bytes: int,
    *,
    exclusive: bool,
    own_pids: Collection[int],
    promised_bytes: int = 0,
) -> str | None:
    """Say why an attempt cannot be started on the GPU now; `None` if it can.

    Args:
        gpu: How the GPU is.
        memory_bytes: What the attempt needs on it; 0 if it did not say.
        exclusive: Whether it wants the GPU for itself: no process of others, nobody's memory.
        own_pids: Processes that may be there: those of attempts that share the GPU.
        promised_bytes: Memory given to those attempts, whether they have taken it yet or not.
    """
    if gpu.fault is not None:
        return gpu.fault
    if exclusive and (use := foreign_use(gpu, own_pids)) is not None:
        return f"used by others: {_who(use.processes)}, {_mib(use.used_bytes)}"
    taken = sum(p.used_bytes or 0 for p in gpu.processes if p.pid in own_pids)
    free_bytes = gpu.memory_free_bytes - max(0, promised_bytes - taken)
    if memory_bytes > free_bytes:
        return f"{_mib(memory_bytes)} needed, {_mib(max(free_bytes, 0))} free"
    return None


def leftover(
    gpu: GpuLoad,
    attempt_pids: Collection[int],
    *,
    unowned_before_bytes: int = 0,
    slack_bytes: int = SLACK_BYTES,
) -> Leftover | None:
    """Check after an attempt's end that nothing of it is left; `None` is the proof.

    Args:
        gpu: How the GPU is after the end.
        attempt_pids: Every process the attempt ever had.
        unowned_before_bytes: `unowned_bytes` of the GPU before the attempt started.
        slack_bytes: How much more than before may be without an owner.

    Returns:
        What is left. A GPU that cannot be read proves nothing, so that is a leftover as well.
    """
    if gpu.fault is not None:
        return Leftover(gpu.uuid, (), 0, f"its memory cannot be checked: {gpu.fault}")
    left = tuple(process for process in gpu.processes if process.pid in attempt_pids)
    if left:
        used = sum(process.used_bytes or 0 for process in left)
        reason = f"an ended attempt still holds {_mib(used)}: {_who(left)}"
        return Leftover(gpu.uuid, tuple(process.pid for process in left), used, reason)
    grown = unowned_bytes(gpu) - unowned_before_bytes
    if grown > slack_bytes:
        reason = f"{_mib(grown)} were not given back, and no process holds them"
        return Leftover(gpu.uuid, (), grown, reason)
    return None


def unowned_bytes(gpu: GpuLoad) -> int:
    """Return used memory that no listed process accounts for.

    A process whose amount is hidden may own all of it, so with one there is nothing unowned.
    """
    if any(process.used_bytes is None for process in gpu.processes):
        return 0
    owned = sum(process.used_bytes or 0 for process in gpu.processes)
    return max(0, gpu.memory_used_bytes - owned)


def quarantine(
    gpu: GpuLoad, left: Leftover | None, *, before: Quarantine | None, now: datetime
) -> Quarantine | None:
    """Decide whether nothing may be started on the GPU; heals when neither reason holds.

    Args:
        gpu: How the GPU is.
        left: What the last attempt on it left, as checked with the same sample.
        before: The quarantine so far; its beginning stays as long as the GPU does not heal.
        now: The beginning of a new one.
    """
    reason = gpu.fault
    if reason is None:
        if left is None:
            return None
        reason = left.reason
    return Quarantine(gpu.uuid, reason, now if before is None else before.since)


def _who(processes: tuple[GpuProcess, ...]) -> str:
    return ", ".join(f"process {p.pid}" for p in processes) or "no process we can see"


def _mib(amount: int) -> str:
    return f"{amount / 1024**2:.0f} MiB"
