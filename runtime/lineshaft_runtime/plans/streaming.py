"""A plan that chunks pass through, one after the other, in a runner that is kept for them.

A filter says by `_stream_mode` what a chunk means to it:

- "fixed" (the default): what it gives for a chunk depends on the chunk and the fitted state only;
- "evolving": it changes with each chunk. It has `advance(x, state)`, which returns output and new
  state; or its `forward` may change the state it is given, which is a copy of the stream's own;
- "barrier": it needs all chunks. In a chain, the filters before it take chunk by chunk; it, and all
  after it, run once, on the chunks put together. In other graphs the whole plan runs at the end.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from lineshaft_protocol.seed.msgpack_frames import decode_msgpack, encode_msgpack
from lineshaft_protocol.seed.plans import (
    Execute,
    ExecutionPlan,
    SerializedPlan,
    node_ids,
    read_plan,
)
from lineshaft_protocol.seed.plans import Sequence as PlanSequence
from lineshaft_protocol.seed.results import dialect_of
from lineshaft_protocol.seed.values import Value, read_value
from lineshaft_protocol.seed.wire import decode_json
from lineshaft_protocol.stream_frames import CHUNK_BYTES_MAX
from lineshaft_runtime.packer import Packer
from lineshaft_runtime.packing import BytesLike, unpack
from lineshaft_runtime.plans import soma_standin
from lineshaft_runtime.plans.calling import BARRIER, Calling
from lineshaft_runtime.plans.edges import Edges, read_edges
from lineshaft_runtime.plans.errors import (
    ChunkFailedError,
    ChunkTooLongError,
    NodeFailedError,
    NodeNotFoundError,
)
from lineshaft_runtime.plans.executor import RemoteCaller, run_plan
from lineshaft_runtime.plans.seed_calling import SeedCalling, argument
from lineshaft_runtime.plans.work import read_parts, unpacked_filter, unpickled_filter

EVOLVING = "evolving"


class ChunkCoding(Protocol):
    """How the values of a stream are written."""

    def read(self, data: BytesLike) -> object:
        """Return the value of a chunk."""
        ...

    def write(self, value: object) -> list[BytesLike]:
        """Return a result as buffers."""
        ...


class StreamPlan:
    """Takes chunks through a plan, in order."""

    def __init__(
        self,
        plan: ExecutionPlan,
        *,
        filters: Mapping[str, object],
        states: Mapping[str, object],
        edges: Edges | None,
        calling: Calling,
        coding: ChunkCoding,
        remote: RemoteCaller | None = None,
        has_modes: bool = True,
    ) -> None:
        """Make the filters ready.

        Args:
            plan: What each chunk passes through.
            filters: The object of each node.
            states: What they have learned.
            edges: Which node feeds which, as for `run_plan`.
            calling: How filters are called.
            coding: How values are written.
            remote: Runs `Remote` parts elsewhere.
            has_modes: Whether `_stream_mode` counts; without, all filters are fixed.
        """
        self._calling, self._coding = calling, coding
        self._evolving = {
            name: _Evolving(each, states.get(name), calling)
            for name, each in filters.items()
            if has_modes and _mode_of(each) == EVOLVING and name in node_ids(plan)
        }
        self._filters = {**filters, **self._evolving}
        self._states = {key: each for key, each in states.items() if key not in self._evolving}
        self._plan, self._edges, self._remote = plan, edges, remote
        barriers = [
            name for name in node_ids(plan) if has_modes and _mode_of(filters.get(name)) == BARRIER
        ]
        self.has_barrier = bool(barriers)
        """Whether there is one result, at the end, instead of one for each chunk."""
        self._held: list[object] = []
        self._index = 0
        self._head: tuple[str, ...] | None = _chain(plan, edges)
        self._tail: tuple[str, ...] = ()
        if self._head is not None and barriers:
            position = min(map(self._head.index, barriers))
            self._head, self._tail = self._head[:position], self._head[position:]

    @property
    def is_stateful(self) -> bool:
        """Whether a chunk means something else after others than without them."""
        return self.has_barrier or bool(self._evolving)

    @property
    def states(self) -> Mapping[str, object]:
        """What evolving filters have become, by node."""
        return {name: each.state for name, each in self._evolving.items()}

    def start(self, index: int) -> None:
        """Number chunks from here on."""
        self._index = index

    def take(self, data: BytesLike) -> list[BytesLike] | None:
        """Take a chunk through; returns its result, or None where that comes at the end.

        Raises:
            ChunkFailedError: Anything went wrong; it names the chunk.
        """
        index = self._index
        self._index += 1
        try:
            if self.has_barrier:
                self._held.append(self._through_head(self._coding.read(data)))
                return None
            return _checked(self._coding.write(self._through_head(self._coding.read(data))))
        except Exception as error:
            raise ChunkFailedError(index, error) from error

    def finish(self) -> list[BytesLike] | None:
        """Return what comes at the end, if something does.

        Raises:
            PlanError: A filter failed.
        """
        if not self.has_barrier or not self._held:
            return None
        held, self._held = self._held, []
        whole = self._calling.concatenate(held)
        output = self._through(self._tail, whole) if self._head is not None else self._run(whole)
        return _checked(self._coding.write(output))

    def _through_head(self, x: object) -> object:
        if self._head is not None:
            return self._through(self._head, x)
        return x if self.has_barrier else self._run(x)

    def _through(self, names: tuple[str, ...], x: object) -> object:
        forward, filters, states = self._calling.forward, self._filters, self._states
        for name in names:
            if name not in filters:
                raise NodeNotFoundError(name)
            try:
                x = forward(filters[name], x, states.get(name))
            except Exception as error:
                raise NodeFailedError(name, "forward", error) from error
        return x

    def _run(self, x: object) -> object:
        return run_plan(
            self._plan,
            x,
            filters=self._filters,
            calling=self._calling,
            states=self._states,
            edges=self._edges,
            remote=self._remote,
        ).output


def open_stream(payload: BytesLike, *, remote: RemoteCaller | None = None) -> StreamPlan:
    """Make ready what the payload of a stream's job describes; runs user code.

    Raises:
        PackingError: The payload is damaged, or names a module that is not installed here.
        ProtocolError: The JSON is no plan.
    """
    if bytes(memoryview(payload)[:1]) == b"{":
        return _open_seed(bytes(payload), remote)
    parts = read_parts(payload)
    return StreamPlan(
        read_plan(parts["plan"]),
        filters={name: unpacked_filter(name, data) for name, data in parts["filters"].items()},
        states=parts["states"],
        edges=parts["edges"],
        calling=parts["calling"],
        coding=PackedChunks(),
        remote=remote,
    )


class PackedChunks:
    """Values of our own clients: Python objects."""

    def __init__(self) -> None:
        self._packer = Packer()

    def read(self, data: BytesLike) -> object:
        """Unpack; arrays lie on the data."""
        return unpack(data)

    def write(self, value: object) -> list[BytesLike]:
        """Pack; the buffers are views of the value."""
        return self._packer.pack(value, name="result")


class SeedChunks:
    """Values of the seed protocol, as msgpack."""

    def __init__(self, calling: SeedCalling) -> None:
        self._calling = calling

    def read(self, data: BytesLike) -> Value:
        """Read a value."""
        return read_value(decode_msgpack(bytes(data)))

    def write(self, value: object) -> list[BytesLike]:
        """Write a value; several, of nodes that feed no other, become one."""
        if isinstance(value, tuple):
            value = self._calling.value(argument(cast("tuple[object, ...]", value)))
        return [encode_msgpack(cast("Value", value).to_wire("C"))]


def _open_seed(payload: bytes, remote: RemoteCaller | None) -> StreamPlan:
    serialized = SerializedPlan.from_wire(decode_json(payload))
    soma_standin.install()
    calling = SeedCalling(
        {each.node_id: each.trainable for each in serialized.filters},
        dialect=dialect_of(serialized),
    )
    return StreamPlan(
        serialized.plan,
        filters={
            each.node_id: unpickled_filter(each.node_id, each.pickled_filter)
            for each in serialized.filters
        },
        states={each.node_id: each.state for each in serialized.filters if each.state},
        edges=read_edges(serialized.metadata),
        calling=calling,
        coding=SeedChunks(calling),
        remote=remote,
        # Upstream's workers take every filter for fixed, and answer each chunk.
        has_modes=False,
    )


class _Evolving:
    """A filter with a state of the stream's own, which changes from chunk to chunk."""

    _kind = "stateless"

    def __init__(self, node_filter: object, state: object, calling: Calling) -> None:
        self._calling = calling
        self._advance = cast(
            "Callable[[object, object], tuple[object, object]] | None",
            getattr(node_filter, "advance", None),
        )
        # One that is given no state has it on itself: then both are one copy.
        self._filter = copy.deepcopy(node_filter) if state is None else node_filter
        self.state = copy.deepcopy(state)

    def forward(self, x: object) -> object:
        if self._advance is not None:
            output, self.state = self._advance(x, self.state)
            return output
        return self._calling.forward(self._filter, x, self.state)


def _mode_of(node_filter: object) -> object:
    return getattr(node_filter, "_stream_mode", None)


def _chain(plan: ExecutionPlan, edges: Edges | None) -> tuple[str, ...] | None:
    """Return the nodes of a plan that is nothing but one node after the other, else None."""
    parts: Sequence[ExecutionPlan] = plan.plans if isinstance(plan, PlanSequence) else (plan,)
    names = tuple(each.node_id for each in parts if isinstance(each, Execute))
    if len(names) != len(parts) or len(set(names)) != len(names):
        return None
    for before, name in zip((None, *names), names, strict=False):
        if edges is not None and edges.get(name, ()) != (() if before is None else (before,)):
            return None
    return names


def _checked(buffers: list[BytesLike]) -> list[BytesLike]:
    size = sum(memoryview(buffer).nbytes for buffer in buffers)
    if size > CHUNK_BYTES_MAX:
        raise ChunkTooLongError("the result", size)
    return buffers
