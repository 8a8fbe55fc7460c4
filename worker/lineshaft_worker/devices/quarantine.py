"""GPUs that nothing is placed on because an ended attempt did not give their memory back."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lineshaft_protocol.resources import GIB
from lineshaft_worker.devices.load import GpuLoad
from lineshaft_worker.devices.occupancy import SLACK_BYTES, foreign_use, unowned_bytes


@dataclass(frozen=True, slots=True)
class _Blame:
    reason: str
    gone_pid: int | None
    """The process that should hold nothing any more; None if nobody in particular."""


@dataclass(frozen=True, slots=True)
class Pardon:
    """What was on a GPU when an operator said that it may be used all the same."""

    pids: frozenset[int]
    unowned_bytes: int
    """Memory that the driver ascribes to no process."""


class Quarantine:
    """Remembers why a GPU is out of use, until a look at it shows that the reason is gone."""

    def __init__(self) -> None:
        self._blames: dict[str, _Blame] = {}
        self._pardons: dict[str, Pardon] = {}

    def reason(self, uuid: str) -> str | None:
        """Say why nothing may be placed on the GPU; None if it may."""
        blame = self._blames.get(uuid)
        return None if blame is None else blame.reason

    def add(self, uuid: str, reason: str, gone_pid: int | None) -> None:
        """Put a GPU out of use."""
        self._blames[uuid] = _Blame(reason, gone_pid)

    def blame(self, uuids: Sequence[str], reason: str) -> None:
        """Put several out of use, for what is no process's fault."""
        for uuid in uuids:
            self.add(uuid, reason, None)

    def forgive(self, gpu: GpuLoad) -> None:
        """Take what is on a GPU now for granted, and forget what it was blamed for."""
        self._blames.pop(gpu.uuid, None)
        pids = frozenset(process.pid for process in gpu.processes)
        self._pardons[gpu.uuid] = Pardon(pids, unowned_bytes(gpu))

    def pardon(self, uuid: str) -> Pardon | None:
        """Return what may be on a GPU though it is nobody's of ours."""
        return self._pardons.get(uuid)

    def heal(self, gpus: Sequence[GpuLoad], ours: Collection[str]) -> list[str]:
        """Take back into use what is well again; returns those.

        Args:
            gpus: A look that was taken after they were put out of use.
            ours: GPUs that a runner of ours may see.
        """
        well = [
            gpu.uuid
            for gpu in gpus
            if (blame := self._blames.get(gpu.uuid)) is not None
            and gpu.fault is None
            and left_on(gpu, ours, blame.gone_pid, self.pardon(gpu.uuid)) is None
        ]
        for uuid in well:
            del self._blames[uuid]
        return well


def left_on(
    gpu: GpuLoad, ours: Collection[str], gone_pid: int | None, pardon: Pardon | None = None
) -> str | None:
    """Say what an ended attempt left on a GPU; None if nothing that can be told.

    Where other runners of ours may see the GPU, only memory of the ended process itself is known
    not to be theirs. A GPU that cannot be read is not judged: its fault keeps it out of use.
    """
    if gpu.fault is not None:
        return None
    if pardon is not None and gone_pid in pardon.pids:
        return occupied(gpu, ours, pardon)
    held = sum(p.used_bytes or 0 for p in gpu.processes if p.pid == gone_pid)
    if any(process.pid == gone_pid for process in gpu.processes):
        return f"process {gone_pid}, which is gone, still holds {held / GIB:.3g} GiB of it"
    return occupied(gpu, ours, pardon)


def occupied(gpu: GpuLoad, ours: Collection[str], pardon: Pardon | None = None) -> str | None:
    """Say that somebody uses a GPU which no runner of ours may see; None if nobody does.

    Whose a process is shows only where pids are not hidden, as they are in a container. So only
    GPUs that no runner of ours may see are looked at: there, all memory is somebody else's, or was
    not given back by an attempt that ended.
    """
    if gpu.uuid in ours:
        return None
    pardoned = pardon or Pardon(frozenset(), 0)
    slack_bytes = SLACK_BYTES + pardoned.unowned_bytes
    use = foreign_use(gpu, pardoned.pids, slack_bytes=slack_bytes)
    if use is None:
        return None
    pids = ", ".join(str(process.pid) for process in use.processes)
    who = f"by processes {pids}" if pids else "by nobody that the driver names"
    return f"{use.used_bytes / GIB:.3g} GiB of it are in use {who}"
