"""What the filters of a graph need installed: collected into the one environment of its plan."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from lineshaft.filters import Function
from lineshaft.graph import Graph
from lineshaft.options import Options
from lineshaft.requirements import Needs, RequirementsLike, read_requirements
from lineshaft_runtime.requirements import RequirementsError


class ConflictingRequirementsError(RequirementsError):
    """Two parts of a plan cannot be had in one environment."""

    def __init__(self, one: str, other: str, reason: str) -> None:
        super().__init__(
            f"{one} and {other} do not go together: {reason}. A plan has one environment: let them "
            "agree, or run them as plans of their own"
        )
        self.one, self.other = one, other


def with_needs(options: Options, graph: Graph) -> Options:
    """Return the options of a job that runs a graph: what its filters need is added.

    Raises:
        ConflictingRequirementsError: Two of them cannot be had together.
        RequirementsError: A filter's requirements cannot be read.
        OSError: A file of them cannot be read.
    """
    found = list(_needs_of(graph, ""))
    if not found:
        return options
    if options.needs is not None:
        found.append(("the options", options.needs))
    return replace(options, needs=_merged(found))


def _merged(found: list[tuple[str, Needs]]) -> Needs:
    whole = Needs()
    for place, (other, needs) in enumerate(found):
        for one, earlier in found[:place]:
            # In pairs, so that the error names the two: plans have few filters that need something.
            try:
                earlier.merged(needs)
            except RequirementsError as error:
                raise ConflictingRequirementsError(one, other, error.reason) from None
        whole = whole.merged(needs)
    return whole


def _needs_of(graph: Graph, within: str) -> Iterator[tuple[str, Needs]]:
    for needs in graph.needs_within():
        yield f"{within}the pipeline", needs
    for node_id, found in graph.filters.items():
        subject = found.function if isinstance(found, Function) else found
        inner: object = getattr(subject, "graph", subject)
        if isinstance(inner, Graph):
            yield from _needs_of(inner, f"in node {node_id!r}, ")
            continue
        given: object = getattr(subject, "requirements", None)
        if given:
            named = f"{within}node {node_id!r}"
            try:
                yield named, read_requirements(cast("RequirementsLike", given))
            except RequirementsError as error:
                raise RequirementsError(f"{named}: {error}") from None
