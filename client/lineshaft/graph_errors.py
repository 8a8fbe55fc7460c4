"""Why a graph cannot be compiled."""

from lineshaft_protocol.errors import LineshaftError


class GraphError(LineshaftError):
    """A graph cannot be compiled."""


class NoGraphError(GraphError):
    """Something else was given than what is fitted and run."""

    def __init__(self, given: object) -> None:
        super().__init__(
            f"{given!r:.100} is no pipeline, graph or fitted one; make it one with "
            "lineshaft.Pipeline([('name', step), ...])"
        )
        self.given = given


class NoStepError(GraphError):
    """Something in a pipeline's list is no step."""

    def __init__(self, given: object) -> None:
        super().__init__(
            f"{given!r:.100} is no step of a pipeline; give it a name, as in "
            "Pipeline([('name', step), ...])"
        )
        self.given = given


class DuplicateNodeError(GraphError):
    """Two nodes have one name; names are unique in a graph, its loops and branches included."""

    def __init__(self, node_id: str) -> None:
        super().__init__(f"there are two nodes named {node_id!r}; give one another name")
        self.node_id = node_id


class DuplicateEdgeError(GraphError):
    """One node feeds another twice."""

    def __init__(self, source: str, target: str) -> None:
        super().__init__(f"node {source!r} already feeds {target!r}")
        self.source, self.target = source, target


class UnknownNodeError(GraphError):
    """An edge or a loop names a node that is not there."""

    def __init__(self, node_id: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no node {node_id!r}; there are: {', '.join(known) or 'none'}")
        self.node_id, self.known = node_id, known


class GraphCycleError(GraphError):
    """Nodes feed each other in a circle; what is to be repeated goes into a loop."""

    def __init__(self, node_ids: tuple[str, ...]) -> None:
        super().__init__(f"these nodes feed each other: {' -> '.join(node_ids)}")
        self.node_ids = node_ids


class EmptyGraphError(GraphError):
    """There is nothing to run."""

    def __init__(self) -> None:
        super().__init__("the graph, a loop's body or an arm has no nodes")


class NestedTargetError(GraphError):
    """A graph used as one node names a place for some of its own nodes."""

    def __init__(self, node_id: str) -> None:
        super().__init__(
            f"node {node_id!r} is a graph whose own nodes name where they run, and one node runs "
            "in one place; give the target to the node itself, or put its nodes into this graph"
        )
        self.node_id = node_id
