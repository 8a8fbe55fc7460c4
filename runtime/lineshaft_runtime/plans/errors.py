"""What can go wrong while a plan runs."""

from typing_extensions import override

from lineshaft_protocol.errors import LineshaftError


class PlanError(LineshaftError):
    """A plan ended without an output."""


class NodeFailedError(PlanError):
    """A filter raised; the original exception is the cause."""

    def __init__(self, node_id: str, method: str, original: BaseException) -> None:
        super().__init__(
            f"node {node_id!r} failed in {method}: {type(original).__name__}: {original}"
        )
        self.node_id, self.method, self.original = node_id, method, original
        self.__cause__ = original  # Also after the way from a runner to the client.

    @override
    def __reduce__(self) -> tuple[type["NodeFailedError"], tuple[str, str, BaseException]]:
        """Survive the way from a runner to the client, if the original exception does."""
        return NodeFailedError, (self.node_id, self.method, self.original)


class NodeNotFoundError(PlanError):
    """A plan names a node that came without a filter."""

    def __init__(self, node_id: str) -> None:
        # The wording is the seed protocol's, for those who match on it.
        super().__init__(f"node `{node_id}` not found in graph")
        self.node_id = node_id

    @override
    def __reduce__(self) -> tuple[type["NodeNotFoundError"], tuple[str]]:
        return NodeNotFoundError, (self.node_id,)


class CachedValueMissingError(PlanError):
    """A plan takes a node's output from the cache of its run, and there is none."""

    def __init__(self, node_id: str) -> None:
        # The wording is the seed protocol's.
        super().__init__(f"cache error: expected cached value for node `{node_id}` not found")
        self.node_id = node_id

    @override
    def __reduce__(self) -> tuple[type["CachedValueMissingError"], tuple[str]]:
        return CachedValueMissingError, (self.node_id,)


class PlanShapeError(PlanError):
    """A plan and its edges contradict each other."""


class ValueNotSendableError(PlanError):
    """A value cannot be written in the seed protocol without losing part of it."""
