"""A plan as the payload of a job: what a client packs, and what a runner does with it."""

import pickle
import time
from collections.abc import Mapping
from platform import python_version
from typing import TypedDict, cast

from lineshaft_protocol.seed.plans import ExecutionPlan, Fit, SerializedPlan, read_plan
from lineshaft_protocol.seed.references import (
    InlineInput,
    InlineOutput,
    InlineRef,
    ReferenceInput,
)
from lineshaft_protocol.seed.results import Success, dialect_of
from lineshaft_protocol.seed.values import Empty, Value
from lineshaft_protocol.seed.wire import decode_json, encode_json
from lineshaft_runtime.packing import BytesLike, PackingError, pack, pack_bytes, unpack
from lineshaft_runtime.plans import soma_standin
from lineshaft_runtime.plans.calling import Calling, NativeCalling
from lineshaft_runtime.plans.edges import Edges, read_edges
from lineshaft_runtime.plans.errors import PlanShapeError
from lineshaft_runtime.plans.events import OnEvent
from lineshaft_runtime.plans.executor import PlanOutcome, RemoteCall, RemoteCaller, run_plan
from lineshaft_runtime.plans.nodes import Mode
from lineshaft_runtime.plans.pickled_code import is_of_this_python
from lineshaft_runtime.plans.seed_calling import SeedCalling, argument


def plan_payload(  # noqa: PLR0913 - the parts of one message
    plan: ExecutionPlan,
    x: object,
    *,
    filters: Mapping[str, object],
    states: Mapping[str, object] | None = None,
    y: object = None,
    mode: Mode = "forward",
    edges: Edges | None = None,
    calling: Calling | None = None,
    gives_output: bool = True,
) -> list[BytesLike]:
    """Return the payload of a job that runs the plan; the arguments are those of `run_plan`.

    Without `gives_output` the result holds only the states: the output of a fit is as large as its
    data, and seldom wanted.

    Raises:
        CannotPackError: A filter, a state or the data cannot leave the process; the error names
            the part.
    """
    parts: Parts = {
        "plan": plan.to_wire("C"),
        # Each on its own: one that cannot be packed is named by its node, and what two nodes
        # share is shared nowhere, wherever they run.
        "filters": {
            node_id: pack_bytes(node_filter, name=f"the filter of node {node_id!r}")
            for node_id, node_filter in filters.items()
        },
        "x": x,
        "y": y,
        "states": dict(states or {}),
        "mode": mode,
        "edges": None if edges is None else dict(edges),
        "calling": NativeCalling() if calling is None else calling,
        "gives_output": gives_output,
    }
    return pack(parts, name="plan")


def call_payload(call: RemoteCall) -> list[BytesLike]:
    """Return the payload of the child job that runs a `Remote` part of a plan.

    Raises:
        CannotPackError: A filter, a state or the data cannot leave the process.
    """
    return plan_payload(
        call.plan,
        call.x,
        filters=call.filters,
        states=call.states,
        y=call.y,
        mode=call.mode,
        edges=call.edges,
        calling=call.calling,
    )


def execute_payload(
    payload: BytesLike,
    *,
    remote: RemoteCaller | None = None,
    on_event: OnEvent | None = None,
) -> list[BytesLike]:
    """Run a plan job and return its result: call this in a runner only, for it runs user code.

    A payload of an upstream client is a JSON `SerializedPlan`; its result is a JSON `PlanResult`.
    Any other is packed by `plan_payload`, and its result is for `read_outcome`.

    Args:
        payload: What the job was submitted with.
        remote: Runs `Remote` parts as jobs of their own; without it they run here.
        on_event: Told what happens, from the threads in which it happens.

    Raises:
        PlanError: The plan failed; `NodeFailedError` has the filter's exception as its cause.
        PackingError: The payload is damaged, or names a module that is not installed here.
        ProtocolError: The JSON is no plan.
        CannotPackError: The output cannot leave the process.
    """
    if bytes(memoryview(payload)[:1]) == b"{":
        return [_execute_seed(bytes(payload), remote, on_event)]
    parts = read_parts(payload)
    outcome = run_plan(
        read_plan(parts["plan"]),
        parts["x"],
        filters={
            node_id: unpacked_filter(node_id, data) for node_id, data in parts["filters"].items()
        },
        calling=parts["calling"],
        states=parts["states"],
        y=parts["y"],
        mode=parts["mode"],
        edges=parts["edges"],
        remote=remote,
        on_event=on_event,
    )
    output = outcome.output if parts["gives_output"] else None
    result: _Result = {"output": output, "states": dict(outcome.states)}
    return pack(result, name="result")


def read_outcome(result: BytesLike) -> PlanOutcome:
    """Return what a plan job of `plan_payload` gave.

    Raises:
        PackingError: It is no such result, or cannot be unpacked here.
    """
    parts = unpack(result)
    if isinstance(parts, dict) and _Result.__required_keys__ == parts.keys():
        read = cast("_Result", parts)  # Unpacking has run code of its sender, so there is trust.
        return PlanOutcome(read["output"], read["states"])
    raise PackingError("the packed value is not the result of a plan")


class Parts(TypedDict):
    """The payload of a plan job."""

    plan: object
    filters: dict[str, bytes]
    x: object
    y: object
    states: dict[str, object]
    mode: Mode
    edges: dict[str, tuple[str, ...]] | None
    calling: Calling
    gives_output: bool


class _Result(TypedDict):
    output: object
    states: dict[str, object]


def read_parts(payload: BytesLike) -> Parts:
    """Return what `plan_payload` packed.

    Raises:
        PackingError: It is something else, or cannot be unpacked here.
    """
    parts = unpack(payload)
    if isinstance(parts, dict) and Parts.__required_keys__ == parts.keys():
        return cast("Parts", parts)  # Unpacking has run code of its sender, so there is trust.
    raise PackingError("the packed value is not a plan")


def _execute_seed(payload: bytes, remote: RemoteCaller | None, on_event: OnEvent | None) -> bytes:
    started_s = time.monotonic()
    serialized = SerializedPlan.from_wire(decode_json(payload))
    soma_standin.install()
    dialect = dialect_of(serialized)
    calling = SeedCalling(
        {each.node_id: each.trainable for each in serialized.filters}, dialect=dialect
    )
    is_fit = isinstance(serialized.mode, Fit)
    outcome = run_plan(
        serialized.plan,
        _input(serialized),
        filters={
            each.node_id: unpickled_filter(each.node_id, each.pickled_filter)
            for each in serialized.filters
        },
        calling=calling,
        states={each.node_id: each.state for each in serialized.filters if each.state},
        y=serialized.mode.y if isinstance(serialized.mode, Fit) else None,
        mode="fit" if is_fit else "forward",
        edges=read_edges(serialized.metadata),
        remote=remote,
        on_event=on_event,
    )
    output = outcome.output
    if isinstance(output, tuple):  # Of several nodes that feed no other.
        output = calling.value(argument(cast("tuple[object, ...]", output)))
    success = Success(
        output=InlineOutput(value=cast("Value", output)),
        duration_ms=int(1000 * (time.monotonic() - started_s)),
        states=cast("dict[str, Value]", dict(outcome.states)),
    )
    return encode_json(success.to_wire(dialect)).encode()


def _input(serialized: SerializedPlan) -> Value:
    match serialized.input:
        case None:
            return Empty()
        case InlineInput(value=value):
            return value
        case ReferenceInput(data_ref=InlineRef(value=value)):
            return value
        case ReferenceInput(data_ref=data_ref):
            raise PlanShapeError(
                f"the plan's input is a {data_ref.variant_name()} reference, "
                "and must be fetched before the plan comes here"
            )


def unpacked_filter(node_id: str, data: bytes) -> object:
    """Return the filter of a node.

    Raises:
        PackingError: It cannot be unpacked here; the error names the node.
    """
    try:
        return unpack(data)
    except PackingError as error:
        raise PackingError(f"the filter of node {node_id!r}: {error.reason}") from error


def unpickled_filter(node_id: str, pickled: bytes) -> object:
    """Return the filter of a node of an upstream client's plan.

    Raises:
        PackingError: It cannot be unpickled here; the error names the node.
    """
    if not is_of_this_python(pickled):
        raise PackingError(
            f"the filter of node {node_id!r} was pickled by another version of Python than this "
            f"worker's, {python_version()}, which cannot run its code; start a worker under the "
            "minor version of your program's Python"
        )
    try:
        return cast("object", pickle.loads(pickled))  # noqa: S301 - only runners come here
    except Exception as error:
        raise PackingError(
            f"the filter of node {node_id!r} cannot be unpickled: {type(error).__name__}: {error}"
        ) from error
