"""Plans: what to run in which order, with which filters, on which input.

A plan holds no edges between nodes, so it cannot say which output feeds which node; Lineshaft
writes the edges into the metadata beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Final, TypeAlias, TypeVar

from pydantic import JsonValue, PlainValidator
from typing_extensions import override

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed.references import InputSource
from lineshaft_protocol.seed.values import Base64, Value, to_base64
from lineshaft_protocol.seed.wire import (
    U32,
    U64,
    CacheKey,
    Dialect,
    Items,
    Pair,
    SeedModel,
    by_name,
    is_object,
    kind_of,
    read_tagged,
    variant_named,
)

Variant = TypeVar("Variant", bound=SeedModel)


class External(SeedModel):
    """A variant written as `{"Name": content}`, or as the bare name if it has no content."""

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        content = self.fields_to_wire(dialect)
        return {self.variant_name(): content} if content else self.variant_name()


class Unwrapped(External):
    """A variant whose content is not a struct but its only field."""

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        (only,) = self.fields_to_wire(dialect).values()
        return {self.variant_name(): only}


def read_external(data: object, variants: Mapping[str, type[Variant]]) -> Variant:
    """Read an externally tagged union.

    Raises:
        ProtocolError: Not one name with its content, an unknown name, or wrong content.
    """
    content: object = None
    if isinstance(data, str):
        variant = variant_named(data, variants)
    elif is_object(data) and len(data) == 1:
        ((name, content),) = data.items()
        variant = variant_named(name, variants)
    elif is_object(data):
        raise ProtocolError(f"invalid value: map with {len(data)} keys, expected a single key")
    else:
        raise ProtocolError(f"invalid type: {kind_of(data)}, expected a variant and its content")
    if not variant.model_fields:
        if content is not None:
            raise ProtocolError(f"invalid type: {kind_of(content)}, expected unit")
        return variant()
    if issubclass(variant, Unwrapped):
        (only,) = variant.model_fields
        return variant.from_wire({only: content})
    return variant.from_wire(content)


class Tag(Unwrapped):
    """Any worker with this tag."""

    name: str


class WorkerId(Unwrapped):
    """The worker of this name."""

    name: str


def read_remote_target(data: object) -> RemoteTarget:
    """Read where a `Remote` plan should run.

    Raises:
        ProtocolError: It is no target.
    """
    return data if isinstance(data, Tag | WorkerId) else read_external(data, _TARGETS)


RemoteTarget: TypeAlias = Annotated[Tag | WorkerId, PlainValidator(read_remote_target)]
_TARGETS: Final[Mapping[str, type[RemoteTarget]]] = by_name(Tag, WorkerId)


class BodyTerminal(SeedModel):
    """The loop ends when the output of its body says so."""

    tag: ClassVar[str | None] = "type"


class WhenSignaled(SeedModel):
    """The loop ends when this node says so."""

    tag: ClassVar[str | None] = "type"
    node: str


class Exhaust(SeedModel):
    """The loop runs as often as it may."""

    tag: ClassVar[str | None] = "type"


def read_loop_condition(data: object) -> LoopCondition:
    """Read when a loop ends.

    Raises:
        ProtocolError: It is no condition.
    """
    return read_tagged(data, tag="type", variants=_CONDITIONS)


LoopCondition: TypeAlias = Annotated[
    BodyTerminal | WhenSignaled | Exhaust, PlainValidator(read_loop_condition)
]
_CONDITIONS: Final[Mapping[str, type[LoopCondition]]] = by_name(BodyTerminal, WhenSignaled, Exhaust)


class Sequence(Unwrapped):
    """One after the other; the first error ends it."""

    plans: Items[ExecutionPlan]


class Parallel(Unwrapped):
    """Each on its own, with the same input."""

    plans: Items[ExecutionPlan]


class Execute(External):
    """Run one node."""

    node_id: str


class Cached(External):
    """Take the node's output from the worker's cache (dialects A and B)."""

    node_id: str
    key: CacheKey


class Loop(External):
    """Repeat the body, up to a count; `None` is the worker's own limit (100 upstream)."""

    since: ClassVar[Mapping[str, Dialect]] = {"until": "C", "carry_from": "C"}
    node_id: str
    body: ExecutionPlan
    max_iterations: U64 | None = None
    until: LoopCondition = BodyTerminal()
    carry_from: str | None = None


class Branch(External):
    """Run the node, then the arm that its output names."""

    node_id: str
    arms: Items[Pair[ExecutionPlan]]


class Remote(External):
    """Run the plan elsewhere."""

    node_id: str
    target: RemoteTarget
    plan: ExecutionPlan


class Composite(External):
    """Run the nodes as one (from 0.2.30 on)."""

    node_ids: Items[str]


class Stream(External):
    """Run the nodes on one chunk of the input after the other (from 0.2.44 on)."""

    node_ids: Items[str]
    chunk_size: U64


class Step(External):
    """One step of an agent and where it may hand over to (dialect C)."""

    node_id: str
    handoffs: Items[Pair[ExecutionPlan]] = ()

    @override
    def to_wire(self, dialect: Dialect = "A") -> object:
        return super().to_wire(dialect) if self.handoffs else {"Step": {"node_id": self.node_id}}


class EmptyPlan(External):
    """Do nothing; the output is the input."""

    variant: ClassVar[str] = "Empty"


def read_plan(data: object) -> ExecutionPlan:
    """Read a plan.

    Raises:
        ProtocolError: It is none, or one inside is none.
    """
    match data:
        case (
            Sequence() | Parallel() | Execute() | Cached() | Loop() | Branch()
            | Remote() | Composite() | Stream() | Step() | EmptyPlan()
        ):  # fmt: skip
            return data
        case _:
            return read_external(data, _PLANS)


ExecutionPlan: TypeAlias = Annotated[
    Sequence
    | Parallel
    | Execute
    | Cached
    | Loop
    | Branch
    | Remote
    | Composite
    | Stream
    | Step
    | EmptyPlan,
    PlainValidator(read_plan),
]
_PLANS: Final[Mapping[str, type[ExecutionPlan]]] = by_name(
    Sequence, Parallel, Execute, Cached, Loop, Branch, Remote, Composite, Stream, Step, EmptyPlan
)


def subplans(plan: ExecutionPlan) -> Iterator[ExecutionPlan]:
    """Yield the plan and every plan inside it, outermost first, in written order."""
    yield plan
    inner: tuple[ExecutionPlan, ...] = ()
    match plan:
        case Sequence() | Parallel():
            inner = plan.plans
        case Loop():
            inner = (plan.body,)
        case Branch():
            inner = tuple(arm for _, arm in plan.arms)
        case Remote():
            inner = (plan.plan,)
        case Step():
            inner = tuple(handoff for _, handoff in plan.handoffs)
        case Execute() | Cached() | Composite() | Stream() | EmptyPlan():
            pass
    for each in inner:
        yield from subplans(each)


def node_ids(plan: ExecutionPlan) -> tuple[str, ...]:
    """Return every node that the plan names, once, in the order of first mention."""
    mentions: list[str] = []
    for each in subplans(plan):
        match each:
            case Execute() | Cached() | Loop() | Branch() | Remote() | Step():
                mentions.append(each.node_id)
            case Composite() | Stream():
                mentions.extend(each.node_ids)
            case Sequence() | Parallel() | EmptyPlan():
                pass
    return tuple(dict.fromkeys(mentions))


class Forward(External):
    """Run the filters."""


class Fit(External):
    """Train the trainable filters, then run them."""

    since: ClassVar[Mapping[str, Dialect]] = {"batch_size": "B"}
    y: Value | None = None
    batch_size: U64 | None = None


def read_mode(data: object) -> ExecutionMode:
    """Read what a plan is run for.

    Raises:
        ProtocolError: It is no mode.
    """
    return data if isinstance(data, Forward | Fit) else read_external(data, _MODES)


ExecutionMode: TypeAlias = Annotated[Forward | Fit, PlainValidator(read_mode)]
_MODES: Final[Mapping[str, type[ExecutionMode]]] = by_name(Forward, Fit)


class SerializedFilter(SeedModel):
    """A node's code and state; the pickle is the user's, and never opened in this package."""

    since: ClassVar[Mapping[str, Dialect]] = {"config_hash": "C"}
    node_id: str
    pickled_filter: Base64
    state: Value | None = None
    requirements: Items[str] = ()
    trainable: bool = False
    config_hash: CacheKey | None = None

    @override
    def fields_to_wire(self, dialect: Dialect) -> dict[str, object]:
        fields = super().fields_to_wire(dialect)
        fields["pickled_filter"] = to_base64(self.pickled_filter)
        return fields


class SerializedPlan(SeedModel):
    """A plan as it is sent, in the dialect of whoever sent it."""

    since: ClassVar[Mapping[str, Dialect]] = {"protocol_version": "C", "seed": "C"}
    protocol_version: U32 = 0
    """0 in dialects A and B; dialect C refuses all but 1, so 1 is what C is sent instead of 0."""
    plan_id: str
    plan: ExecutionPlan
    input: InputSource | None = None
    filters: Items[SerializedFilter] = ()
    mode: ExecutionMode = Forward()
    seed: U64 | None = None
    metadata: JsonValue
    """Free-form; upstream's workers ignore it."""

    @classmethod
    @override
    def wire_order(cls, items: list[object]) -> tuple[str, ...]:
        names = tuple(cls.model_fields)
        # Only dialect C starts with a number, its version.
        if items and isinstance(items[0], int):
            return names
        return tuple(name for name in names if name not in cls.since)

    @override
    def fields_to_wire(self, dialect: Dialect) -> dict[str, object]:
        fields = super().fields_to_wire(dialect)
        if fields.get("protocol_version") == 0:
            fields["protocol_version"] = 1
        return fields


for _model in (Sequence, Parallel, Loop, Branch, Remote, Step, SerializedPlan):
    _model.model_rebuild()
