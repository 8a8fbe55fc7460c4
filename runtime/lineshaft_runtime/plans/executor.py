"""Runs a plan over live filters, in the client's process or in a runner: the same code in both.

Three things travel through a plan. The *incoming* value is the sequential one: the output of what
stands before. A *frame* holds every node's output and fitted state so far, and the input of the
scope (the plan, a loop's turn, an arm). The *edges*, where there are any, decide which of them a
node really gets.

Parallel branches run in threads. Each writes into a frame of its own on top of the common one; they
are merged in the order of the plan when all have ended, so the outcome never depends on timing.
"""

import contextvars
import dataclasses
from collections import ChainMap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, cast

from lineshaft_protocol.seed.plans import (
    BodyTerminal,
    Branch,
    Cached,
    Composite,
    EmptyPlan,
    Execute,
    ExecutionPlan,
    Exhaust,
    Loop,
    Parallel,
    Remote,
    RemoteTarget,
    Sequence,
    Step,
    Stream,
    WhenSignaled,
    node_ids,
)
from lineshaft_runtime.plans.calling import Calling
from lineshaft_runtime.plans.edges import Edges, entry, inner_edges, sinks
from lineshaft_runtime.plans.errors import (
    CachedValueMissingError,
    NodeFailedError,
    PlanError,
    PlanShapeError,
)
from lineshaft_runtime.plans.events import BranchTaken, LoopTurned, OnEvent
from lineshaft_runtime.plans.nodes import Frame, Mode, NodeRunner

LOOP_TURNS_DEFAULT = 100
"""For loops that name no limit."""
THREADS_MAX = 64
"""Of one `Parallel`; more branches than that take turns."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What a plan leaves behind."""

    output: object
    """Of the one node that feeds no other; of several, a tuple in the order of the plan."""
    states: Mapping[str, object]
    """What the trainable nodes learned; empty for a forward."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteCall:
    """A part of a plan that is to run elsewhere: complete in itself, with one input."""

    target: RemoteTarget
    plan: ExecutionPlan
    filters: Mapping[str, object]
    states: Mapping[str, object]
    x: object
    y: object
    mode: Mode
    edges: Edges | None
    calling: Calling


class RemoteCaller(Protocol):
    """Runs a part of a plan elsewhere, and waits for it; called from several threads at once."""

    def __call__(self, call: RemoteCall, /) -> PlanOutcome:
        """Return what the part gave.

        Raises:
            PlanError: It failed there.
        """
        ...


def run_plan(  # noqa: PLR0913 - the parts of one call; a class would only hold them once more
    plan: ExecutionPlan,
    x: object,
    *,
    filters: Mapping[str, object],
    calling: Calling,
    states: Mapping[str, object] | None = None,
    y: object = None,
    mode: Mode = "forward",
    edges: Edges | None = None,
    remote: RemoteCaller | None = None,
    on_event: OnEvent | None = None,
) -> PlanOutcome:
    """Run a plan.

    Args:
        plan: What to run.
        x: The input of the plan.
        filters: The object of each node.
        calling: How they are called, and what they return means.
        states: What trainable nodes have learned earlier.
        y: The labels; every trainable node gets them in a fit.
        mode: "fit" fits each trainable node before it is run.
        edges: Which node feeds which; without them the plan's order decides (docs/plans.md).
        remote: Runs `Remote` parts; without it they run here.
        on_event: Told what happens, from the threads in which it happens.

    Raises:
        NodeFailedError: A filter raised.
        NodeNotFoundError: A node has no filter.
        CachedValueMissingError: A `Cached` node has given no output in this run.
        PlanShapeError: The plan and its edges contradict each other.
    """
    nodes = NodeRunner(filters, calling, states or {}, y, mode, on_event)
    frame = Frame(ChainMap(), ChainMap(), x)
    output = _Run(nodes, edges, remote).scope(plan, x, frame)
    return PlanOutcome(output, dict(frame.states))


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    nodes: NodeRunner
    edges: Edges | None
    remote: RemoteCaller | None

    def scope(self, plan: ExecutionPlan, x: object, frame: Frame) -> object:
        """Run a plan that has an input and an output of its own."""
        frame = frame.within(x)
        output = self._run(plan, x, frame)
        ends = sinks(plan, self.edges) if self.edges else ()
        if not ends:
            return output
        outputs = tuple(self._output_of(node_id, frame) for node_id in ends)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(self, plan: ExecutionPlan, incoming: object, frame: Frame) -> object:
        match plan:
            case Sequence():
                return self._sequence(plan, incoming, frame)
            case Parallel():
                return self._parallel(plan, incoming, frame)
            case Execute() | Cached() | Composite() | Stream():
                return self._nodes(plan, incoming, frame)
            case Loop():
                return self._loop(plan, self._x(plan.node_id, incoming, frame), frame)
            case Branch():
                return self._branch(plan, incoming, frame)
            case Step():
                return self._step(plan, incoming, frame)
            case Remote():
                return self._elsewhere(plan, incoming, frame)
            case EmptyPlan():
                return incoming

    def _sequence(self, plan: Sequence, incoming: object, frame: Frame) -> object:
        before: ExecutionPlan = EmptyPlan()
        for each in plan.plans:
            if self.edges is None and isinstance(before, Parallel) and isinstance(each, Execute):
                incoming = self._joined_fork(before, incoming, frame)
            incoming = self._run(each, incoming, frame)
            before = each
        return incoming

    def _joined_fork(self, fork: Parallel, incoming: object, frame: Frame) -> object:
        names = [each.node_id for each in fork.plans if isinstance(each, Execute)]
        if len(names) < max(2, len(fork.plans)):
            return incoming
        return self.nodes.calling.join_fork({name: frame.values[name] for name in names})

    def _nodes(
        self, plan: Execute | Cached | Composite | Stream, incoming: object, frame: Frame
    ) -> object:
        match plan:
            case Execute(node_id=node_id):
                return self.nodes.run(node_id, self._x(node_id, incoming, frame), frame)
            case Cached(node_id=node_id):
                if node_id not in frame.values:
                    raise CachedValueMissingError(node_id)
                return frame.values[node_id]
            case Composite(node_ids=names):
                # All but the first are fed by the one before, whatever edges say: it is one unit.
                x = self._x(names[0], incoming, frame) if names else incoming
                for name in names:
                    x = self.nodes.run(name, x, frame)
                return x
            case Stream(node_ids=names):
                x = self._x(names[0], incoming, frame) if names else incoming
                return self.nodes.stream(names, x, plan.chunk_size, frame)

    def _x(self, node_id: str, incoming: object, frame: Frame) -> object:
        predecessors = None if self.edges is None else self.edges.get(node_id)
        return incoming if predecessors is None else self._joined(predecessors, node_id, frame)

    def _joined(self, predecessors: tuple[str, ...], node_id: str, frame: Frame) -> object:
        if not predecessors:
            return frame.x
        for each in predecessors:
            if each not in frame.values:
                raise PlanShapeError(
                    f"node {node_id!r} takes input from {each!r}, which has given none by then"
                )
        values = tuple(frame.values[each] for each in predecessors)
        return values[0] if len(values) == 1 else self.nodes.calling.join(values)

    def _output_of(self, node_id: str, frame: Frame) -> object:
        assert node_id in frame.values, f"node {node_id} of this scope has run"
        return frame.values[node_id]

    def _parallel(self, plan: Parallel, incoming: object, frame: Frame) -> object:
        if not plan.plans:
            return incoming
        branches = [(each, frame.apart()) for each in plan.plans]
        with ThreadPoolExecutor(min(len(branches), THREADS_MAX), "lineshaft-branch") as threads:
            futures = [
                # The context carries which run and job this is, for `lineshaft.run`.
                threads.submit(contextvars.copy_context().run, self._run, each, incoming, branch)
                for each, branch in branches
            ]
        # All have ended. The first error in the order of the plan wins, whichever came first.
        outputs = [future.result() for future in futures]
        for _, branch in branches:
            frame.merge(branch)
        return outputs[-1]

    def _loop(self, plan: Loop, carry: object, frame: Frame) -> object:
        limit = LOOP_TURNS_DEFAULT if plan.max_iterations is None else plan.max_iterations
        for iteration in range(1, limit + 1):
            output = self.scope(plan.body, carry, frame)
            carry = output
            if plan.carry_from is not None:
                carry = self._joined((plan.carry_from,), plan.node_id, frame)
            carry = self.nodes.calling.handed_on(carry)
            self.nodes.emit(LoopTurned(plan.node_id, iteration))
            if self._has_ended(plan, output, frame):
                break
        frame.values[plan.node_id] = carry
        return carry

    def _has_ended(self, plan: Loop, output: object, frame: Frame) -> bool:
        match plan.until:
            case BodyTerminal():
                return self.nodes.calling.ends_loop(output)
            case WhenSignaled(node=node_id):
                # The node may be in an arm that was not taken.
                return node_id in frame.values and self.nodes.calling.ends_loop(
                    frame.values[node_id]
                )
            case Exhaust():
                return False

    def _branch(self, plan: Branch, incoming: object, frame: Frame) -> object:
        node_id = plan.node_id
        x = self._x(node_id, incoming, frame)
        output = self.nodes.run(node_id, x, frame)
        arms = dict(reversed(plan.arms))
        if not arms:
            return output
        label = self.nodes.calling.label(output)
        taken = next(
            (each for each in (label, "default", "else") if each in arms and label is not None),
            plan.arms[0][0],
        )
        self.nodes.emit(BranchTaken(node_id, taken))
        return self._continue(node_id, arms[taken], self.nodes.calling.for_arm(x, output), frame)

    def _step(self, plan: Step, incoming: object, frame: Frame) -> object:
        node_id = plan.node_id
        output = self.nodes.run(node_id, self._x(node_id, incoming, frame), frame)
        handoffs = dict(reversed(plan.handoffs))
        label = self.nodes.calling.label(output)
        if label not in handoffs:
            return output
        self.nodes.emit(BranchTaken(node_id, label))
        return self._continue(node_id, handoffs[label], self.nodes.calling.handed_on(output), frame)

    def _continue(self, node_id: str, plan: ExecutionPlan, x: object, frame: Frame) -> object:
        # Inside the arm the node's name means what chose it; after it, what the arm gave.
        frame.values[node_id] = x
        frame.values[node_id] = self.scope(plan, x, frame)
        return frame.values[node_id]

    def _elsewhere(self, plan: Remote, incoming: object, frame: Frame) -> object:
        predecessors = entry(plan.plan, self.edges) if self.edges else None
        x = incoming
        if predecessors is not None:
            x = self._joined(predecessors, plan.node_id, frame)
        names = node_ids(plan.plan)
        nodes = self.nodes
        call = RemoteCall(
            plan.target,
            plan.plan,
            {name: nodes.filters[name] for name in names if name in nodes.filters},
            {name: nodes.state(name, frame) for name in names if nodes.has_state(name, frame)},
            x,
            nodes.y,
            nodes.mode,
            inner_edges(plan.plan, self.edges) if self.edges else None,
            nodes.calling,
        )
        outcome = self._call(plan.node_id, call)
        frame.states.update(outcome.states)
        ends = sinks(plan.plan, call.edges) if call.edges else ()
        outputs: tuple[object, ...] = (outcome.output,)
        if len(ends) > 1:
            outputs = cast("tuple[object, ...]", outcome.output)  # As `scope` gives it there.
        frame.values.update(zip(ends, outputs, strict=False))
        frame.values[plan.node_id] = outcome.output
        return outcome.output

    def _call(self, node_id: str, call: RemoteCall) -> PlanOutcome:
        if self.remote is None:
            # The same cut as for a real one, so that a plan means the same in both.
            return run_plan(
                call.plan,
                call.x,
                filters=call.filters,
                calling=call.calling,
                states=call.states,
                y=call.y,
                mode=call.mode,
                edges=call.edges,
                on_event=self.nodes.on_event,
            )
        try:
            return self.remote(call)
        except PlanError:
            raise
        except Exception as error:
            raise NodeFailedError(node_id, "remote", error) from error
