"""Running a graph: here, or packed as a job that runs elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lineshaft_runtime.packing import BytesLike
from lineshaft_runtime.plans.calling import NativeCalling
from lineshaft_runtime.plans.executor import PlanOutcome, RemoteCaller, run_plan
from lineshaft_runtime.plans.nodes import Mode
from lineshaft_runtime.plans.work import plan_payload

if TYPE_CHECKING:
    from lineshaft.graph import Graph


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A graph and what its nodes have learned; it can be pickled."""

    graph: Graph
    states: Mapping[str, object]
    """By node."""

    def forward(self, x: object) -> object:
        """Run the nodes in this process.

        Raises:
            PlanError: A node failed.
        """
        return run_graph(self.graph, x, states=self.states).output

    def payload(self, x: object) -> list[BytesLike]:
        """Return the payload of a job that runs the nodes elsewhere.

        Raises:
            CannotPackError: A filter, a state or the input cannot leave the process.
        """
        return graph_payload(self.graph, x, states=self.states)


def run_graph(
    graph: Graph,
    x: object,
    *,
    y: object = None,
    mode: Mode = "forward",
    states: Mapping[str, object] | None = None,
    remote: RemoteCaller | None = None,
) -> PlanOutcome:
    """Compile a graph and run it in this process.

    Raises:
        GraphError: The graph cannot be compiled.
        PlanError: A node failed.
    """
    plan, edges = graph.compile()
    return run_plan(
        plan,
        x,
        filters=graph.filters,
        calling=NativeCalling(),
        states=states,
        y=y,
        mode=mode,
        edges=edges,
        remote=remote,
    )


def graph_payload(
    graph: Graph,
    x: object,
    *,
    y: object = None,
    mode: Mode = "forward",
    states: Mapping[str, object] | None = None,
) -> list[BytesLike]:
    """Return the payload of a job that runs a graph elsewhere; a fit gives only states.

    Raises:
        GraphError: The graph cannot be compiled.
        CannotPackError: A filter, a state or the data cannot leave the process.
    """
    plan, edges = graph.compile()
    return plan_payload(
        plan,
        x,
        filters=graph.filters,
        states=states,
        y=y,
        mode=mode,
        edges=edges,
        gives_output=mode == "forward",
    )
