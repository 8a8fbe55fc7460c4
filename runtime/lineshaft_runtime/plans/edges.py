"""Which node feeds which: what a plan cannot say, and travels beside it.

`edges` maps each node to its predecessors. A plan from an upstream client has none, and then
means what upstream's compiler means (see docs/plans.md).
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue, TypeAdapter, ValidationError

from lineshaft_protocol.seed.plans import (
    Branch,
    Cached,
    Composite,
    EmptyPlan,
    Execute,
    ExecutionPlan,
    Loop,
    Parallel,
    Remote,
    Sequence,
    Step,
    Stream,
    node_ids,
)
from lineshaft_runtime.plans.errors import PlanShapeError

Edges: TypeAlias = Mapping[str, tuple[str, ...]]
"""Each node with its predecessors, in the order in which it gets their outputs.

No predecessor means the input of the scope: of the whole plan, the loop's turn or the branch's arm.
"""

_EDGES: Final = TypeAdapter(dict[str, tuple[str, ...]])


def read_edges(metadata: JsonValue) -> Edges | None:
    """Return the edges in a plan's metadata, or `None` if nobody put any there.

    Raises:
        PlanShapeError: `metadata.lineshaft.edges` does not map nodes to lists of nodes.
    """
    match metadata:
        case {"lineshaft": {"edges": edges}}:
            try:
                return _EDGES.validate_python(edges)
            except ValidationError as error:
                raise PlanShapeError(
                    "metadata.lineshaft.edges must map each node to a list of nodes"
                ) from error
        case _:
            return None


def sinks(plan: ExecutionPlan, edges: Edges) -> tuple[str, ...]:
    """Return the nodes of the plan's own scope that feed no other: together they are its output.

    In the order of the plan. Empty if the edges know none of its nodes.
    """
    fed_from = {name for node_id in node_ids(plan) for name in edges.get(node_id, ())}
    own = dict.fromkeys(_scope(plan, fed_from))
    return tuple(node_id for node_id in own if node_id in edges and node_id not in fed_from)


def entry(plan: ExecutionPlan, edges: Edges) -> tuple[str, ...] | None:
    """Return the predecessors of a part of a plan, as if it were one node.

    `None` if the edges know none of its nodes.

    Raises:
        PlanShapeError: Its nodes take different things from outside, so it has no single input.
    """
    inside = set(node_ids(plan))
    entries: dict[tuple[str, ...], None] = {}
    own = [node_id for node_id in dict.fromkeys(_scope(plan, inside)) if node_id in edges]
    for node_id in own:
        if not inside.issuperset(edges[node_id]) or not edges[node_id]:
            entries[edges[node_id]] = None
    for node_id in inside - set(own):
        if not inside.issuperset(edges.get(node_id, ())):
            raise PlanShapeError(
                f"node {node_id!r} is to run elsewhere inside a loop or branch, "
                f"but takes input from outside of it: {edges[node_id]}"
            )
    if len(entries) > 1 or any(inside & set(predecessors) for predecessors in entries):
        raise PlanShapeError(
            f"the nodes {sorted(own)} are to run elsewhere together, "
            f"but take their input from different nodes: {list(entries)}"
        )
    return next(iter(entries), None)


def inner_edges(plan: ExecutionPlan, edges: Edges) -> Edges:
    """Return the edges inside a part of a plan; what came from outside is now the scope's input."""
    inside = node_ids(plan)
    return {
        node_id: edges[node_id] if set(inside).issuperset(edges[node_id]) else ()
        for node_id in inside
        if node_id in edges
    }


def _scope(plan: ExecutionPlan, named: set[str]) -> Iterator[str]:
    """Yield the nodes whose outputs can be seen beside the plan, in the order of the plan.

    What is inside a loop, an arm or a handoff cannot. `Remote` is seen through, unless its own name
    is used (is in `named`).
    """
    match plan:
        case Sequence() | Parallel():
            for each in plan.plans:
                yield from _scope(each, named)
        case Execute() | Cached() | Loop() | Branch() | Step():
            yield plan.node_id
        case Remote():
            if plan.node_id in named and plan.node_id not in node_ids(plan.plan):
                yield plan.node_id
            else:
                yield from _scope(plan.plan, named)
        case Composite():
            yield from plan.node_ids
        case Stream():
            yield from plan.node_ids[-1:]
        case EmptyPlan():
            pass
