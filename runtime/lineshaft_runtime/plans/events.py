"""What a plan tells about itself while it runs."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias


@dataclasses.dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node has its input and is about to be called."""

    node_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class NodeCompleted:
    """A node has its output."""

    node_id: str
    run_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class NodeFailed:
    """A node raised; the plan ends once its parallel branches have ended."""

    node_id: str
    error: str
    run_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class BranchTaken:
    """A branch chose its arm."""

    node_id: str
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class LoopTurned:
    """A loop's body ran once more; the first time is 1."""

    node_id: str
    iteration: int


PlanEvent: TypeAlias = NodeStarted | NodeCompleted | NodeFailed | BranchTaken | LoopTurned
OnEvent: TypeAlias = Callable[[PlanEvent], None]
"""Called from the thread that runs the node: with parallel branches, from several."""
