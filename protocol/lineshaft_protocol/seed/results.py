"""How a plan ended, and how to say so to a peer whose dialect is known, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, TypeAlias

from pydantic import Field, PlainValidator
from typing_extensions import override

from lineshaft_protocol.seed.plans import (
    Composite,
    Fit,
    SerializedPlan,
    Stream,
    subplans,
)
from lineshaft_protocol.seed.references import (
    DELIVERIES,
    InlineOutput,
    OutputDelivery,
    ReferenceOutput,
)
from lineshaft_protocol.seed.values import Value, read_value
from lineshaft_protocol.seed.wire import (
    U64,
    Dialect,
    SeedModel,
    UnencodableError,
    by_name,
    is_list,
    is_object,
    read_tagged,
)


def read_output(data: object) -> OutputDelivery:
    """Read an output of any dialect: a delivery, a bare value, or both in one object.

    Raises:
        ProtocolError: It is neither.
    """
    is_delivery = (
        isinstance(data, InlineOutput | ReferenceOutput)
        or (is_object(data) and "delivery" in data)
        or (is_list(data) and data[:1] in (["Inline"], ["Reference"]))
    )
    if is_delivery:
        return read_tagged(data, tag="delivery", variants=DELIVERIES)
    return InlineOutput(value=read_value(data))


def two_in_one_output(value: Value) -> dict[str, object]:
    """Return the output that dialect A reads as a bare value, B and C as an inline delivery.

    It holds the value twice, so for a big value of a peer whose dialect is known, use that form.
    """
    bare = value.to_wire()
    assert is_object(bare), "a value is written as an object"
    return {"delivery": "Inline", "value": bare, **bare}


class Success(SeedModel):
    """The plan ran to its end."""

    tag: ClassVar[str | None] = "status"
    output: Annotated[OutputDelivery, PlainValidator(read_output)]
    duration_ms: U64
    states: dict[str, Value] = Field(default_factory=dict)
    """The new state of each node that was trained."""

    @override
    def fields_to_wire(self, dialect: Dialect) -> dict[str, object]:
        fields = super().fields_to_wire(dialect)
        match self.output, dialect:
            case InlineOutput(value=value), "A":
                fields["output"] = value.to_wire(dialect)
            case InlineOutput(value=value), "unknown":
                fields["output"] = two_in_one_output(value)
            case _, "A":
                raise UnencodableError("dialect A has no output by reference")
            case _:
                pass
        return fields


class Failed(SeedModel):
    """The plan did not run to its end."""

    tag: ClassVar[str | None] = "status"
    error: str
    duration_ms: U64


def read_plan_result(data: object) -> PlanResult:
    """Read how a plan ended.

    Raises:
        ProtocolError: It says neither.
    """
    return read_tagged(data, tag="status", variants=_RESULTS)


PlanResult: TypeAlias = Annotated[Success | Failed, PlainValidator(read_plan_result)]
_RESULTS: Final[Mapping[str, type[PlanResult]]] = by_name(Success, Failed)


def dialect_of(plan: SerializedPlan) -> Dialect:
    """Tell the dialect of a plan's sender, where the plan gives it away.

    A is never told: nothing it writes is missing from early builds of B, so such a sender is
    `unknown` and gets the output in both forms.
    """
    if plan.protocol_version >= 1:
        return "C"
    if isinstance(plan.mode, Fit) and "batch_size" in plan.mode.model_fields_set:
        return "B"
    if any(isinstance(each, Composite | Stream) for each in subplans(plan.plan)):
        return "B"
    return "unknown"
