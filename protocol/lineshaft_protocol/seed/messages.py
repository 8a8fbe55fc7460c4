"""The text messages between a client and a worker, by direction.

The client dials, the worker answers; "coordinator" is upstream's word for this client. Messages
that upstream only has on paper (`Heartbeat`, `Event`) are read, but must not be sent to upstream's
clients, which take them for a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, TypeAlias

from pydantic import JsonValue
from typing_extensions import override

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed.capabilities import Capabilities, LoadMetrics, PythonPipelineJob
from lineshaft_protocol.seed.events import Event
from lineshaft_protocol.seed.plans import SerializedPlan
from lineshaft_protocol.seed.results import PlanResult
from lineshaft_protocol.seed.values import Value
from lineshaft_protocol.seed.wire import (
    U32,
    U64,
    Dialect,
    Items,
    SeedModel,
    by_name,
    decode_json,
    encode_json,
    is_object,
    read_tagged,
)


class _Message(SeedModel):
    tag: ClassVar[str | None] = "type"


class Register(_Message):
    """Who the worker is; only ever the answer to `StatusRequest`."""

    worker_id: str
    capabilities: Capabilities


class Heartbeat(_Message):
    """The worker lives."""

    worker_id: str
    load: LoadMetrics


class EventMessage(_Message):
    """Something happened in a plan."""

    variant: ClassVar[str] = "Event"
    worker_id: str
    plan_id: str
    event: Event


class PlanResultMessage(_Message):
    """The one answer to `AssignPlan`."""

    variant: ClassVar[str] = "PlanResult"
    worker_id: str
    plan_id: str
    result: PlanResult


class JobProgress(_Message):
    """A phase of a Python job begins."""

    worker_id: str
    job_id: str
    phase: str
    step: U32
    total: U32
    metrics: JsonValue


class JobResult(_Message):
    """A Python job ended."""

    worker_id: str
    job_id: str
    success: bool
    metrics: JsonValue
    output: str
    duration_ms: U64


class StateResult(_Message):
    """The answer to `GetState` (from dialect B on)."""

    worker_id: str
    plan_id: str
    states: dict[str, Value]


class GradientsResult(_Message):
    """The answer to `GetGradients` (from dialect B on)."""

    worker_id: str
    plan_id: str
    gradients: dict[str, Value]


class Error(_Message):
    """The request failed: `{"error": …}` in dialects A and B, a message of this name in C."""

    message: str

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        if dialect in ("A", "B"):
            return {"error": self.message}
        return super().to_wire(dialect)


class Ack(_Message):
    """Done (dialect C)."""

    worker_id: str


class Pong(_Message):
    """The answer to `Ping`."""


class ShutdownAck(_Message):
    """The answer to `Shutdown`, the last the worker says."""


class CancelNotImplemented(SeedModel):
    """The answer of upstream's workers to `CancelPlan`; dialect C says it as an `Error`."""

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        if dialect in ("A", "B"):
            return {"status": "cancel_not_implemented"}
        return Error(message="cancelling a running plan is not implemented").to_wire(dialect)


class Registered(_Message):
    """The worker was noticed; it answers nothing."""

    worker_id: str


class AssignPlan(_Message):
    """Run this plan."""

    plan: SerializedPlan


class AssignPythonJob(_Message):
    """Run this Python job."""

    job: PythonPipelineJob


class CancelPlan(_Message):
    """Stop this plan."""

    plan_id: str


class StatusRequest(_Message):
    """Say who you are."""


class Ping(_Message):
    """Say that you live."""


class Shutdown(_Message):
    """End the worker's process."""

    reason: str


class GetState(_Message):
    """Send the states of these nodes (from dialect B on)."""

    plan_id: str
    node_ids: Items[str]


class SetState(_Message):
    """Replace the states of these nodes (from dialect B on)."""

    plan_id: str
    states: dict[str, Value]


class GetGradients(_Message):
    """Send the gradients of these nodes (from dialect B on)."""

    plan_id: str
    node_ids: Items[str]


class ApplyGradients(_Message):
    """Apply these gradients (from dialect B on)."""

    plan_id: str
    gradients: dict[str, Value]


FromWorker: TypeAlias = (
    Register
    | Heartbeat
    | EventMessage
    | PlanResultMessage
    | JobProgress
    | JobResult
    | StateResult
    | GradientsResult
    | Error
    | Ack
    | Pong
    | ShutdownAck
    | CancelNotImplemented
)
ToWorker: TypeAlias = (
    Registered
    | AssignPlan
    | AssignPythonJob
    | CancelPlan
    | StatusRequest
    | Ping
    | Shutdown
    | GetState
    | SetState
    | GetGradients
    | ApplyGradients
)


def decode_to_worker(text: str | bytes) -> ToWorker:
    """Read what a client sent to a worker.

    Raises:
        ProtocolError: It is no such message; answer with `error_reply`.
    """
    return read_tagged(decode_json(text), tag="type", variants=_TO_WORKER)


def decode_from_worker(text: str | bytes) -> FromWorker:
    """Read what a worker sent to a client.

    Raises:
        ProtocolError: It is no such message; upstream's clients skip it, and wait for ever.
    """
    try:
        data = decode_json(text)
    except ProtocolError:
        return _unescaped_error(text)
    return _read_reply(data)


def encode(message: FromWorker | ToWorker, *, dialect: Dialect = "A") -> str:
    """Write a message.

    Args:
        message: What to say.
        dialect: The peer's, if known. `unknown` writes a plan with the fields of all dialects and
            an output in both forms, which every peer can read.

    Raises:
        UnencodableError: It holds what JSON or the dialect cannot carry, such as NaN.
    """
    text = encode_json(message.to_wire(dialect))
    # Upstream writes these two by hand, with a space; a peer may compare them as text.
    if isinstance(message, Error | CancelNotImplemented) and text.startswith(('{"e', '{"s')):
        return text.replace('":', '": ', 1)
    return text


def error_reply(error: ProtocolError, *, dialect: Dialect = "A") -> str:
    """Return the answer to a text frame that is no message, in upstream's words."""
    return encode(Error(message=f"invalid message: {error.reason}"), dialect=dialect)


def stream_error_reply(error: ProtocolError) -> str:
    """Return dialect C's answer, a text frame, to a binary frame that is no stream message.

    Workers of A and B answer nothing at all, so their clients expect nothing.
    """
    return encode(Error(message=f"decoding a stream frame: {error.reason}"), dialect="C")


_TO_WORKER: Final[Mapping[str, type[ToWorker]]] = by_name(
    Registered,
    AssignPlan,
    AssignPythonJob,
    CancelPlan,
    StatusRequest,
    Ping,
    Shutdown,
    GetState,
    SetState,
    GetGradients,
    ApplyGradients,
)
_FROM_WORKER: Final[Mapping[str, type[FromWorker]]] = by_name(
    Register,
    Heartbeat,
    EventMessage,
    PlanResultMessage,
    JobProgress,
    JobResult,
    StateResult,
    GradientsResult,
    Error,
    Ack,
    Pong,
    ShutdownAck,
)


def _unescaped_error(text: str | bytes) -> Error:
    """Read the error of upstream's A and B workers that is no JSON, for a quote in its text."""
    message = text if isinstance(text, str) else text.decode(errors="replace")
    start, end = '{"error": "', '"}'
    if not (message.startswith(start) and message.endswith(end)):
        decode_json(text)
    return Error(message=message.removeprefix(start).removesuffix(end))


def _read_reply(data: object) -> FromWorker:
    if is_object(data) and "type" not in data:
        if data.get("status") == "cancel_not_implemented":
            return CancelNotImplemented()
        if "error" in data:
            return Error.from_wire({"message": data["error"]})
    return read_tagged(data, tag="type", variants=_FROM_WORKER)
