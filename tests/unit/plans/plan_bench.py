"""Filters with plain arithmetic, and one way to run plans over them."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from lineshaft_protocol.seed.plans import ExecutionPlan, read_plan
from lineshaft_runtime.plans.calling import NativeCalling
from lineshaft_runtime.plans.edges import Edges
from lineshaft_runtime.plans.events import PlanEvent
from lineshaft_runtime.plans.executor import PlanOutcome, RemoteCaller, run_plan
from lineshaft_runtime.plans.nodes import Mode


class Add:
    def __init__(self, number: object) -> None:
        self.number = number

    def forward(self, x: object) -> object:
        return x + self.number


class Mean:
    """Learns the mean, and takes it away: twice is the same as once."""

    def fit(self, x: list[float]) -> dict[str, float]:
        return {"mean": sum(x) / len(x)}

    def forward(self, x: list[float], state: dict[str, float]) -> list[float]:
        return [each - state["mean"] for each in x]


class Labels:
    """Learns the labels it was given."""

    def fit(self, x: object, y: object) -> object:
        return {"x": x, "y": y}

    def forward(self, x: object, state: object) -> object:
        return x


class Call:
    """A node that is a function."""

    def __init__(self, function: Callable[[object], object]) -> None:
        self.function = function

    def forward(self, x: object, state: object) -> object:
        return self.function(x)


@dataclasses.dataclass
class PlanBench:
    """Runs plans in wire form over filters by node."""

    events: list[PlanEvent] = dataclasses.field(default_factory=list)

    def run(
        self,
        plan: object,
        x: object,
        filters: Mapping[str, object],
        *,
        y: object = None,
        mode: Mode = "forward",
        edges: Edges | None = None,
        states: Mapping[str, object] | None = None,
        remote: RemoteCaller | None = None,
    ) -> PlanOutcome:
        read: ExecutionPlan = read_plan(plan)
        return run_plan(
            read, x, filters=filters, calling=NativeCalling(), states=states, y=y, mode=mode,
            edges=edges, remote=remote, on_event=self.events.append,
        )  # fmt: skip


def execute(*names: str) -> list[object]:
    return [{"Execute": {"node_id": name}} for name in names]


def sequence(*plans: object) -> object:
    return {"Sequence": [each for plan in plans for each in _listed(plan)]}


def parallel(*plans: object) -> object:
    return {"Parallel": [each for plan in plans for each in _listed(plan)]}


def _listed(plan: object) -> list[object]:
    return execute(plan) if isinstance(plan, str) else [plan]


def assert_same(one: object, other: object) -> None:
    """To the bit, where `==` does not say so."""
    assert type(one) is type(other)
    match one:
        case np.ndarray():
            assert isinstance(other, np.ndarray)
            assert (one.dtype, one.shape, one.tobytes()) == (
                other.dtype, other.shape, other.tobytes(),
            )  # fmt: skip
        case dict():
            assert isinstance(other, dict)
            assert list(one) == list(other)
            for key in one:
                assert_same(one[key], other[key])
        case _ if hasattr(one, "__dict__"):
            assert_same(vars(one), vars(other))
        case _:
            assert one == other
