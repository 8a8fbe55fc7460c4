"""Calls the filters of single nodes, and keeps what they give."""

import contextlib
import dataclasses
import time
from collections import ChainMap
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Literal, TypeAlias

from lineshaft_runtime.plans.calling import BARRIER, Calling
from lineshaft_runtime.plans.errors import NodeFailedError, NodeNotFoundError, PlanShapeError
from lineshaft_runtime.plans.events import (
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    OnEvent,
    PlanEvent,
)

Mode: TypeAlias = Literal["forward", "fit"]

_OURS = f"{__package__}."


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What the nodes have given so far, as one scope and one thread see it."""

    values: ChainMap[str, object]
    """Each node's last output."""
    states: ChainMap[str, object]
    """What nodes have learned in this run."""
    x: object
    """The input of the scope."""

    def within(self, x: object) -> "Frame":
        """Return a scope inside, with an input of its own; what it gives is seen outside."""
        return Frame(self.values, self.states, x)

    def apart(self) -> "Frame":
        """Return the same scope for one thread; what it gives is seen after `merge`."""
        return Frame(self.values.new_child(), self.states.new_child(), self.x)

    def merge(self, branch: "Frame") -> None:
        """Take over what a thread gave."""
        self.values.update(branch.values.maps[0])
        self.states.update(branch.states.maps[0])


@dataclasses.dataclass(frozen=True, slots=True)
class NodeRunner:
    """Fits and runs nodes, one at a time or chunk by chunk."""

    filters: Mapping[str, object]
    calling: Calling
    states: Mapping[str, object]
    """What nodes have learned before this run."""
    y: object
    mode: Mode
    on_event: OnEvent | None

    def run(self, node_id: str, x: object, frame: Frame) -> object:
        """Fit the node if it is to be fitted, and return its output.

        Raises:
            NodeNotFoundError: It has no filter.
            NodeFailedError: Its filter raised.
        """
        node_filter = self._filter(node_id)
        with self._told((node_id,)):
            self._fit(node_id, node_filter, x, frame)
            output = self._forward(node_id, node_filter, x, frame)
        frame.values[node_id] = output
        return output

    def stream(self, names: tuple[str, ...], x: object, chunk_size: int, frame: Frame) -> object:
        """Take chunks of the input through the nodes and return their outputs as one.

        Raises:
            NodeNotFoundError: A node has no filter.
            NodeFailedError: A filter raised.
            PlanShapeError: The chunks would be empty.
        """
        if chunk_size == 0:
            raise PlanShapeError("the chunks of a stream need at least one row")
        for group in self._groups(names):
            with self._told(group):
                x = self._through(group, x, chunk_size, frame)
            frame.values[group[-1]] = x
        return x

    def has_state(self, node_id: str, frame: Frame) -> bool:
        """Whether the node has learned anything, in this run or before."""
        return node_id in frame.states or node_id in self.states

    def state(self, node_id: str, frame: Frame) -> object:
        """Return what the node learned last; `None` if it has learned nothing."""
        return frame.states[node_id] if node_id in frame.states else self.states.get(node_id)

    def emit(self, event: PlanEvent) -> None:
        """Tell whoever wants to know."""
        if self.on_event is not None:
            self.on_event(event)

    def _groups(self, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Put nodes together that can take one chunk after the other.

        A barrier sees everything. And in a fit each node does, one after the other, or it would
        learn from a part of the data.
        """
        groups: list[tuple[str, ...]] = []
        is_open = False
        for name in names:
            is_chunked = self.mode == "forward" and not self._is_barrier(name)
            if is_chunked and is_open:
                groups[-1] += (name,)
            else:
                groups.append((name,))
            is_open = is_chunked
        return groups

    def _through(self, group: tuple[str, ...], x: object, chunk_size: int, frame: Frame) -> object:
        filters = [(name, self._filter(name)) for name in group]
        for name, node_filter in filters:
            self._fit(name, node_filter, x, frame)
        is_whole = self._is_barrier(group[0])
        outputs: list[object] = []
        for chunk in [x] if is_whole else self.calling.chunks(x, chunk_size):
            output = chunk
            for name, node_filter in filters:
                output = self._forward(name, node_filter, output, frame)
            outputs.append(output)
        return self.calling.concatenate(outputs)

    def _is_barrier(self, node_id: str) -> bool:
        return getattr(self.filters.get(node_id), "_stream_mode", None) == BARRIER

    def _filter(self, node_id: str) -> object:
        if node_id not in self.filters:
            raise NodeNotFoundError(node_id)
        return self.filters[node_id]

    def _fit(self, node_id: str, node_filter: object, x: object, frame: Frame) -> None:
        if self.mode == "fit" and self.calling.is_trainable(node_id, node_filter):
            frame.states[node_id] = _guarded(
                node_id, "fit", lambda: self.calling.fit(node_filter, x, self.y)
            )

    def _forward(self, node_id: str, node_filter: object, x: object, frame: Frame) -> object:
        state = self.state(node_id, frame)
        return _guarded(node_id, "forward", lambda: self.calling.forward(node_filter, x, state))

    @contextlib.contextmanager
    def _told(self, names: tuple[str, ...]) -> Generator[None]:
        started_s = time.perf_counter()
        for name in names:
            self.emit(NodeStarted(name))
        try:
            yield
        except NodeFailedError as error:
            run_s = time.perf_counter() - started_s
            self.emit(NodeFailed(error.node_id, str(error), run_s))
            raise
        run_s = time.perf_counter() - started_s
        for name in names:
            self.emit(NodeCompleted(name, run_s))


def _guarded(node_id: str, method: str, call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as error:
        error.__traceback__ = _without_ours(error.__traceback__)
        raise NodeFailedError(node_id, method, error) from error


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own calls before the filter's: they say nothing to who wrote it."""
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        trace = trace.tb_next
    return trace
