"""Which CPUs are near a GPU: a program that feeds it from the far socket is slower for nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from lineshaft_worker.devices.gpu import GpuInfo

NODES = Path("/sys/devices/system/node")


def cpus_near(
    gpus: Sequence[GpuInfo],
    uuids: Collection[str],
    *,
    allowed: Collection[int],
    nodes: Path = NODES,
) -> tuple[int, ...]:
    """Return the CPUs on the memory nodes of these GPUs.

    Args:
        gpus: All GPUs of the machine.
        uuids: Those an attempt has.
        allowed: CPUs that we may use at all.
        nodes: Where the kernel describes memory nodes.

    Returns:
        Nothing if a GPU's node is unknown, or none of its CPUs are ours: then any CPU will do.
    """
    near: set[int] = set()
    for gpu in gpus:
        if gpu.uuid not in uuids:
            continue
        found = _cpus_of(gpu.numa_node, nodes)
        if not found:
            return ()
        near |= found
    return tuple(sorted(near.intersection(allowed)))


def _cpus_of(node: int | None, nodes: Path) -> set[int]:
    if node is None:
        return set()
    try:
        text = (nodes / f"node{node}" / "cpulist").read_text(encoding="ascii").strip()
        cpus: set[int] = set()
        for part in text.split(","):
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return set()
    return cpus
