"""What can go wrong while a plan runs."""

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.stream_frames import CHUNK_BYTES_MAX
from lineshaft_runtime.overriding import override


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


class ChunkFailedError(PlanError):
    """A chunk of a stream could not be taken through the plan; the error is the cause."""

    def __init__(self, chunk_index: int, original: BaseException) -> None:
        super().__init__(f"chunk {chunk_index}: {original}")
        self.chunk_index, self.original = chunk_index, original
        self.__cause__ = original  # Also after the way from a runner to the client.

    @override
    def __reduce__(self) -> tuple[type["ChunkFailedError"], tuple[int, BaseException]]:
        """Survive the way from a runner to the client, if the original exception does."""
        return ChunkFailedError, (self.chunk_index, self.original)


class ChunkTooLongError(PlanError):
    """A chunk of a stream, or a result, is longer than one may be."""

    def __init__(self, what: str, size_bytes: int) -> None:
        super().__init__(
            f"{what} has {size_bytes} bytes packed, and a chunk at most {CHUNK_BYTES_MAX}; "
            "make the chunks smaller"
        )
        self.what, self.size_bytes = what, size_bytes

    @override
    def __reduce__(self) -> tuple[type["ChunkTooLongError"], tuple[str, int]]:
        return ChunkTooLongError, (self.what, self.size_bytes)


class StreamStateLostError(PlanError):
    """The worker of a stream was lost, and with it what its filters had learned or collected."""

    def __init__(self, chunk_index: int) -> None:
        super().__init__(
            f"the stream cannot go on at chunk {chunk_index} on another worker: its filters keep "
            "a state from chunk to chunk, and that was lost with the worker; stream again from "
            "the first chunk"
        )
        self.chunk_index = chunk_index

    @override
    def __reduce__(self) -> tuple[type["StreamStateLostError"], tuple[int]]:
        return StreamStateLostError, (self.chunk_index,)


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
