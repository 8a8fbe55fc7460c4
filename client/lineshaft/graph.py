"""Graphs of filters: written by nodes and edges, compiled to a plan, run here or elsewhere."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lineshaft.filters import (
    Branched,
    Chain,
    Expression,
    Fork,
    Looped,
    Named,
    Part,
    Target,
    adapt,
    class_name,
    condition_of,
    expression,
    given_names,
)
from lineshaft.fitted import Fitted, run_graph
from lineshaft.graph_errors import (
    DuplicateEdgeError,
    DuplicateNodeError,
    EmptyGraphError,
    NestedTargetError,
    UnknownNodeError,
)
from lineshaft.levels import chains, levels, names_places
from lineshaft_protocol.seed.plans import (
    Branch,
    Execute,
    ExecutionPlan,
    Loop,
    LoopCondition,
    Parallel,
    Remote,
    RemoteTarget,
    Sequence,
    Tag,
    WhenSignaled,
)
from lineshaft_runtime.plans.edges import Edges

if TYPE_CHECKING:
    from lineshaft.requirements import Needs


class Compiled(NamedTuple):
    """A graph as a plan, and what a plan cannot say."""

    plan: ExecutionPlan
    edges: Edges


class Graph:
    """Filters as nodes, and which feeds which.

    A node without predecessors gets the input; one with several gets a tuple of their outputs in
    the order of the edges. The output is that of the node that feeds no other, or a tuple if there
    are several.

        graph = Graph().node("scale", Scaler()).node("model", Model(), target="gpu")
        graph.edge("scale", "model")
        fitted = graph.fit(x, y)
    """

    needs: "Needs | None" = None
    """Of the whole, beside what its filters need."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._edges: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, subject: object) -> "Graph":
        """Build a graph from what was written with `>>` and `|`.

        Raises:
            DuplicateNodeError: Two nodes were given one name.
        """
        part = expression(subject).part
        return _Writer({*given_names(part)}).graph(part)

    def node(self, node_id: str, subject: object, *, target: Target = None) -> "Graph":
        """Add a filter, function or estimator.

        Raises:
            DuplicateNodeError: The name is taken.
            NestedTargetError: It is a graph with targets of its own.
        """
        graph = getattr(subject, "graph", subject)
        if isinstance(graph, Graph) and names_places(graph.compile().plan):
            raise NestedTargetError(node_id)
        return self._add(node_id, _Node(subject, target))

    def loop(
        self,
        node_id: str,
        body: "Graph | Expression",
        *,
        max_iterations: int | None = None,
        until: str | LoopCondition | None = None,
        carry_from: str | None = None,
        target: Target = None,
    ) -> "Graph":
        """Add a loop; see `lineshaft.filters.loop`.

        Raises:
            DuplicateNodeError: The name is taken.
        """
        (graph,) = self._inner((body,), node_id)
        inner = _Loop(graph, max_iterations, condition_of(until), carry_from)
        return self._add(node_id, _Node(inner, target))

    def branch(
        self,
        node_id: str,
        condition: object,
        arms: "Mapping[str, Graph | Expression]",
        *,
        target: Target = None,
    ) -> "Graph":
        """Add a branch; see `lineshaft.filters.branch`.

        Raises:
            DuplicateNodeError: The name is taken.
        """
        graphs = self._inner(tuple(arms.values()), node_id)
        labelled = tuple(zip(arms, graphs, strict=True))
        return self._add(node_id, _Node(_Branch(condition, labelled), target))

    def edge(self, source: str, target: str) -> "Graph":
        """Feed the output of one node to another; both may be added later.

        Raises:
            DuplicateEdgeError: It does already.
        """
        sources = self._edges.get(target, ())
        if source in sources:
            raise DuplicateEdgeError(source, target)
        self._edges[target] = (*sources, source)
        return self

    def compile(self) -> Compiled:
        """Return the plan, level by level as upstream's clients do, and the edges beside it.

        Raises:
            GraphError: A circle, a name that is not there, or is there twice, or no node at all.
        """
        seen: set[str] = set()
        for node_id in self._names():
            if node_id in seen:
                raise DuplicateNodeError(node_id)
            seen.add(node_id)
        return Compiled(self._plan(), dict(self._all_edges()))

    @property
    def filters(self) -> dict[str, object]:
        """What to run for each node, of loops and branches too.

        Raises:
            NotAFilterError: A node's object cannot be run.
        """
        return dict(self._filters(is_last=True))

    def fit(self, x: object, y: object = None) -> "Fitted":
        """Fit all trainable nodes in this process.

        Raises:
            GraphError: The graph cannot be compiled.
            PlanError: A node failed.
        """
        return Fitted(self, run_graph(self, x, y=y, mode="fit").states)

    def forward(self, x: object) -> object:
        """Run the nodes in this process without having fitted any.

        Raises:
            GraphError: The graph cannot be compiled.
            PlanError: A node failed.
        """
        return run_graph(self, x).output

    def needs_within(self) -> "Iterator[Needs]":
        """List what this graph and those in its loops and branches need as wholes."""
        if self.needs is not None:
            yield self.needs
        for each in self._nodes.values():
            for inner in each.graphs():
                yield from inner.needs_within()

    def _add(self, node_id: str, added: "_Node") -> "Graph":
        if node_id in self._nodes:
            raise DuplicateNodeError(node_id)
        self._nodes[node_id] = added
        return self

    def _inner(self, bodies: "tuple[Graph | Expression, ...]", node_id: str) -> "list[Graph]":
        """Return graphs for expressions, whose made-up names are free in this graph."""
        taken = {*self._names(), node_id}
        for each in bodies:
            taken.update(
                each._names() if isinstance(each, Graph) else given_names(each.part)  # noqa: SLF001
            )
        writer = _Writer(taken)
        return [each if isinstance(each, Graph) else writer.graph(each.part) for each in bodies]

    def _names(self) -> Iterator[str]:
        for node_id, each in self._nodes.items():
            yield node_id
            for inner in each.graphs():
                yield from inner._names()  # noqa: SLF001 - of our own class

    def _all_edges(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for node_id, each in self._nodes.items():
            yield node_id, self._edges.get(node_id, ())
            for inner in each.graphs():
                yield from inner._all_edges()  # noqa: SLF001 - of our own class

    def _filters(self, *, is_last: bool) -> Iterator[tuple[str, object]]:
        feeding = {source for sources in self._edges.values() for source in sources}
        for node_id, each in self._nodes.items():
            is_end = is_last and node_id not in feeding
            match each.content:
                case _Loop():
                    pass
                case _Branch(condition=condition):
                    # Its prediction is what chooses the arm.
                    yield node_id, adapt(condition, is_last=True)
                case subject:
                    yield node_id, adapt(subject, is_last=is_end)
            for inner in each.graphs():
                yield from inner._filters(is_last=is_end)  # noqa: SLF001 - of our own class

    def _plan(self) -> ExecutionPlan:
        if not self._nodes:
            raise EmptyGraphError
        edges = self._checked_edges()
        places = {node_id: each.place for node_id, each in self._nodes.items()}
        plans: list[ExecutionPlan] = []
        for level in levels(edges, chains(edges, places)):
            side_by_side = tuple(self._chain_plan(chain) for chain in level)
            plans.append(side_by_side[0] if len(level) == 1 else Parallel(plans=side_by_side))
        return plans[0] if len(plans) == 1 else Sequence(plans=tuple(plans))

    def _checked_edges(self) -> dict[str, tuple[str, ...]]:
        known = tuple(self._nodes)
        for target, sources in self._edges.items():
            for node_id in (target, *sources):
                if node_id not in self._nodes:
                    raise UnknownNodeError(node_id, known)
        return {node_id: self._edges.get(node_id, ()) for node_id in self._nodes}

    def _chain_plan(self, chain: tuple[str, ...]) -> ExecutionPlan:
        plans = tuple(self._node_plan(node_id) for node_id in chain)
        plan = plans[0] if len(plans) == 1 else Sequence(plans=plans)
        place = self._nodes[chain[0]].place
        return plan if place is None else Remote(node_id=chain[-1], target=place, plan=plan)

    def _node_plan(self, node_id: str) -> ExecutionPlan:
        match self._nodes[node_id].content:
            case _Loop() as loop:
                return Loop(
                    node_id=node_id,
                    body=loop.body.plan_within(loop.named()),
                    max_iterations=loop.max_iterations,
                    until=loop.until,
                    carry_from=loop.carry_from,
                )
            case _Branch(arms=arms):
                return Branch(
                    node_id=node_id,
                    arms=tuple((label, arm.plan_within(())) for label, arm in arms),
                )
            case _:
                return Execute(node_id=node_id)

    def plan_within(self, named: tuple[str, ...]) -> ExecutionPlan:
        """Return the plan of a loop's body or an arm, in which these nodes must be.

        Raises:
            GraphError: It cannot be compiled, or a node is not there.
        """
        for node_id in named:
            if node_id not in self._nodes:
                raise UnknownNodeError(node_id, tuple(self._nodes))
        return self._plan()


@dataclasses.dataclass(frozen=True, slots=True)
class _Loop:
    body: Graph
    max_iterations: int | None
    until: LoopCondition
    carry_from: str | None

    def named(self) -> tuple[str, ...]:
        signal = (self.until.node,) if isinstance(self.until, WhenSignaled) else ()
        return signal if self.carry_from is None else (*signal, self.carry_from)


@dataclasses.dataclass(frozen=True, slots=True)
class _Branch:
    condition: object
    arms: tuple[tuple[str, Graph], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Node:
    content: object
    """A `_Loop`, a `_Branch`, or what the user wants to run."""
    target: Target

    @property
    def place(self) -> RemoteTarget | None:
        """Where it runs; upstream's word for "here" is a target, too."""
        if isinstance(self.target, str):
            return None if self.target == "local" else Tag(name=self.target)
        return self.target

    def graphs(self) -> tuple[Graph, ...]:
        """Return the graphs inside."""
        content = self.content
        if isinstance(content, _Loop):
            return (content.body,)
        return tuple(arm for _, arm in content.arms) if isinstance(content, _Branch) else ()


class _Writer:
    """Writes an expression into graphs, with a name of its own for each node."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def graph(self, part: Part) -> Graph:
        graph = Graph()
        self._write(graph, part, ())
        return graph

    def _write(self, graph: Graph, part: Part, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Add the part, fed by the sources, and return the nodes that feed what follows."""
        if isinstance(part, Chain):
            for link in part.links:
                sources = self._write(graph, link, sources)
            return sources
        if isinstance(part, Fork):
            ends = [self._write(graph, arm, sources) for arm in part.arms]
            return tuple(node_id for end in ends for node_id in end)
        node_id = self._write_node(graph, part)
        for source in sources:
            graph.edge(source, node_id)
        return (node_id,)

    def _write_node(self, graph: Graph, part: Named | Looped | Branched) -> str:
        match part:
            case Named():
                node_id = self._name(part.node_id, class_name(part.filter))
                graph.node(node_id, part.filter, target=part.target)
                return node_id
            case Looped():
                node_id = self._name(part.node_id, "loop")
                graph.loop(
                    node_id,
                    self.graph(part.body),
                    max_iterations=part.max_iterations,
                    until=part.until,
                    carry_from=part.carry_from,
                    target=part.target,
                )
                return node_id
            case Branched():
                condition = part.condition
                node_id = self._name(condition.node_id, class_name(condition.filter))
                arms = {label: self.graph(arm) for label, arm in part.arms}
                graph.branch(node_id, condition.filter, arms, target=condition.target)
                return node_id

    def _name(self, given: str | None, proposed: str) -> str:
        if given is not None:
            return given
        names = (proposed if count == 1 else f"{proposed}-{count}" for count in itertools.count(1))
        name = next(each for each in names if each not in self._taken)
        self._taken.add(name)
        return name
