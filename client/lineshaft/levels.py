"""The order of a graph: which nodes go together, and which may run side by side."""

import graphlib
from collections.abc import Mapping
from typing import cast

from lineshaft.graph_errors import GraphCycleError
from lineshaft_protocol.seed.plans import ExecutionPlan, Remote, RemoteTarget, subplans
from lineshaft_runtime.plans.edges import Edges


def chains(edges: Edges, places: Mapping[str, RemoteTarget | None]) -> list[tuple[str, ...]]:
    """Put nodes of one place together if each is fed by only the one before, and feeds no other.

    So a chain on a GPU is one job there, and what flows inside it never leaves that machine. A
    node that runs in place is a chain of its own.

    Raises:
        GraphCycleError: Nodes feed each other in a circle.
    """
    fed_count = dict.fromkeys(edges, 0)
    for sources in edges.values():
        for source in sources:
            fed_count[source] += 1
    by_end: dict[str, tuple[str, ...]] = {}
    for node_id in _in_order(edges):
        match edges[node_id]:
            case (source,) if (
                places[node_id] is not None
                and places[node_id] == places[source]
                and fed_count[source] == 1
            ):
                by_end[node_id] = (*by_end.pop(source), node_id)
            case _:
                by_end[node_id] = (node_id,)
    return list(by_end.values())


def levels(edges: Edges, parts: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Return chains by level: each is one level below the lowest of those that feed it.

    Within a level they are in the order in which the nodes were added.
    """
    part_of = {node_id: part for part in parts for node_id in part}
    feeders = {part: tuple(part_of[source] for source in edges[part[0]]) for part in parts}
    level_of: dict[tuple[str, ...], int] = {}
    for part in graphlib.TopologicalSorter(feeders).static_order():
        level_of[part] = max((level_of[each] + 1 for each in feeders[part]), default=0)
    found: list[list[tuple[str, ...]]] = [[] for _ in range(max(level_of.values()) + 1)]
    for node_id in edges:
        part = part_of[node_id]
        if part[0] == node_id:
            found[level_of[part]].append(part)
    return found


def _in_order(edges: Edges) -> tuple[str, ...]:
    try:
        return tuple(graphlib.TopologicalSorter(edges).static_order())
    except graphlib.CycleError as error:
        # The second argument is the circle, its first node again at the end.
        raise GraphCycleError(tuple(cast("list[str]", error.args[1]))) from error


def names_places(plan: ExecutionPlan) -> bool:
    """Whether any part of a plan names where it runs."""
    return any(isinstance(part, Remote) for part in subplans(plan))
