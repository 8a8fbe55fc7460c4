"""An attempt as the daemon holds it, from its order to its settlement."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lineshaft_worker.execution.orders import AttemptKey, AttemptOrder, Kind
from lineshaft_worker.execution.tail import Tail
from lineshaft_worker.runner.frames import Done

if TYPE_CHECKING:
    from lineshaft_worker.execution.host import Host

PauseMode = Literal["none", "checkpoint", "freeze"]
Verdict = Literal["stop", "timeout", "memory"]
"""Why we end it."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt that was started or found, and is not settled."""

    key: AttemptKey
    kind: Kind
    lane: int
    ticket: int = 0
    """Its number within its runner; 0 while it waits for one."""
    order: AttemptOrder | None = None
    """None for an attempt that an earlier daemon started."""
    host: "Host | None" = None
    folder: Path | None = None
    run_s: float | None = None
    memory_bytes: int | None = None
    began: float | None = None
    """When its turn came, on the monotonic clock."""
    started_wall: float = 0.0
    is_told: bool = False
    """AttemptBegan was reported."""
    verdict: Verdict | None = None
    pause: PauseMode = "none"
    """What it is asked to do."""
    pause_told: PauseMode = "none"
    """What its processes were told of that."""
    is_answer_due: bool = False
    """It was asked again to stand still, and who asked was not answered."""
    froze_at: float | None = None
    """Since when its processes stand still, on the monotonic clock."""
    tail: Tail | None = None
    begins: list[int] = field(default_factory=list[int])
    done: Done | None = None
    has_files: bool = False
    """There is something to delete once it is settled."""
    is_left_out: bool = False
    """The runner was given it, and never began it."""
    is_saved: bool = False
    """Its end is on the disk, and outlives a loss of power."""
    done_at: float = 0.0
    """When the runner said so, on the monotonic clock."""
    is_over: bool = False
    """Its end was reported, or is about to be."""

    @property
    def lease_s(self) -> float:
        """For how long nobody else is given its job; 0 if that is not known."""
        return (self.order.lease_s if self.order is not None else None) or 0.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Facts of an end besides the outcome."""

    ends: list[int] | None = None
    """Where the attempt's part of the runner's files ends; None if it never ran."""
    run_s: float = 0.0
    peak_bytes: int | None = None
    is_gone: bool = True
    """No process of the attempt is left."""
    gone_pid: int | None = None
    """The runner's process, which has ended too; None if it goes on."""
