"""Whatever is said in the seed dialect is understood the same, drawn at random from seeds."""

import json
from random import Random

import msgpack
import pytest
from pydantic import JsonValue

from lineshaft_protocol.seed import (
    AssignPlan,
    BodyTerminal,
    Branch,
    Bytes,
    Cached,
    CachedRef,
    ChunkData,
    Composite,
    Dialect,
    Empty,
    EmptyPlan,
    EventMessage,
    Execute,
    ExecutionPlan,
    Exhaust,
    Failed,
    Fit,
    Forward,
    InlineInput,
    InlineOutput,
    Json,
    LocalRef,
    Loop,
    NodeStarted,
    Object,
    OpaqueEvent,
    Packed,
    Parallel,
    PlanResult,
    PlanResultMessage,
    ReferenceInput,
    Remote,
    S3Ref,
    Sequence,
    SerializedFilter,
    SerializedPlan,
    Step,
    Stream,
    StreamBegin,
    Success,
    Tag,
    Tensor,
    Text,
    Value,
    WhenSignaled,
    WorkerId,
    ZarrRef,
    decode_from_worker,
    decode_stream,
    decode_to_worker,
    dialect_of,
    encode,
    encode_stream,
    node_ids,
    read_event,
    two_in_one_output,
)

DIALECTS: tuple[Dialect, ...] = ("A", "B", "C", "unknown")


def draw_text(random: Random) -> str:
    alphabet = 'ab"\\\n\u0000é\U0001f600 /{[:,]}'
    return "".join(random.choice(alphabet) for _ in range(random.randrange(6)))


def draw_json(random: Random, depth: int = 3) -> JsonValue:
    kinds = 8 if depth else 6
    match random.randrange(kinds):
        case 0:
            return None
        case 1:
            return random.random() < 0.5
        case 2:
            return random.choice([0, -1, 2**63, 2**64 - 1, -(2**63), 127, 128])
        case 3:
            return random.choice([0.0, -0.0, 1e16, 1e-7, 5e-324, 1.7976931348623157e308, 0.1])
        case 4 | 5:
            return draw_text(random)
        case 6:
            return [draw_json(random, depth - 1) for _ in range(random.randrange(4))]
        case _:
            count = random.randrange(4)
            return {draw_text(random): draw_json(random, depth - 1) for _ in range(count)}


def draw_value(random: Random) -> Value:
    data = random.randbytes(random.randrange(5))
    rows = random.randrange(4)
    choices: list[Value] = [
        Tensor(values=tuple(random.gauss(0, 1e9) for _ in range(2 * rows)), shape=(rows, 2)),
        Json(data=draw_json(random)),
        Bytes(data=data),
        Object(data=data),
        Packed(data=data),
        Text(data=draw_text(random)),
        Empty(),
    ]
    return random.choice(choices)


def draw_plan(random: Random, depth: int = 4) -> ExecutionPlan:
    node = draw_text(random)

    def inner() -> ExecutionPlan:
        return draw_plan(random, depth - 1)

    def pairs() -> tuple[tuple[str, ExecutionPlan], ...]:
        return tuple((draw_text(random), inner()) for _ in range(random.randrange(3)))

    match random.randrange(11 if depth else 5):
        case 0:
            return Execute(node_id=node)
        case 1:
            return Cached(node_id=node, key=random.randbytes(32))
        case 2:
            return Composite(node_ids=(node, draw_text(random)))
        case 3:
            return Stream(node_ids=(node,), chunk_size=random.randrange(2**64))
        case 4:
            return EmptyPlan()
        case 5:
            return Sequence(plans=tuple(inner() for _ in range(random.randrange(3))))
        case 6:
            return Parallel(plans=tuple(inner() for _ in range(random.randrange(3))))
        case 7:
            return Loop(
                node_id=node,
                body=inner(),
                max_iterations=random.choice([None, 3]),
                until=random.choice([BodyTerminal(), WhenSignaled(node=node), Exhaust()]),
                carry_from=random.choice([None, node]),
            )
        case 8:
            return Branch(node_id=node, arms=pairs())
        case 9:
            target = random.choice([Tag(name="gpu"), WorkerId(name=node)])
            return Remote(node_id=node, target=target, plan=inner())
        case _:
            return Step(node_id=node, handoffs=pairs())


def draw_serialized_plan(random: Random) -> SerializedPlan:
    references = [
        LocalRef(path="/x"),
        CachedRef(cache_key=random.randbytes(32)),
        S3Ref(bucket="b", key="k"),
        ZarrRef(bucket="b", array_path="a", region="eu"),
    ]
    filters = tuple(
        SerializedFilter(
            node_id=draw_text(random),
            pickled_filter=random.randbytes(random.randrange(5)),
            state=random.choice([None, draw_value(random)]),
            requirements=(draw_text(random),) * random.randrange(2),
            trainable=random.random() < 0.5,
            config_hash=random.choice([None, random.randbytes(32)]),
        )
        for _ in range(random.randrange(3))
    )
    return SerializedPlan(
        protocol_version=1,
        plan_id=draw_text(random),
        plan=draw_plan(random),
        input=random.choice(
            [
                None,
                InlineInput(value=draw_value(random)),
                ReferenceInput(data_ref=random.choice(references)),
            ]
        ),
        filters=filters,
        mode=random.choice([Forward(), Fit(y=draw_value(random), batch_size=2), Fit()]),
        seed=random.choice([None, 5]),
        metadata=draw_json(random),
    )


def draw_result(random: Random) -> PlanResult:
    if random.random() < 0.2:
        return Failed(error=draw_text(random), duration_ms=1)
    states = {draw_text(random): draw_value(random) for _ in range(random.randrange(3))}
    output = InlineOutput(value=draw_value(random))
    return Success(output=output, duration_ms=random.randrange(2**64), states=states)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_plan_arrives_as_it_was_sent(dialect: Dialect) -> None:
    random = Random(f"plans {dialect}")
    for _ in range(150):
        plan = draw_serialized_plan(random)
        message = AssignPlan(plan=plan)
        begin = StreamBegin(stream_id="s", plan_id="p", total_chunks=None, plan=plan)

        assert decode_to_worker(encode(message, dialect=dialect)) == message
        assert decode_stream(encode_stream(begin, dialect=dialect)) == begin


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_result_arrives_as_it_was_sent(dialect: Dialect) -> None:
    random = Random(f"results {dialect}")
    for _ in range(300):
        message = PlanResultMessage(worker_id="w", plan_id="p", result=draw_result(random))
        chunk = ChunkData(stream_id="s", chunk_index=1, value=draw_value(random))

        assert decode_from_worker(encode(message, dialect=dialect)) == message
        assert decode_stream(encode_stream(chunk, dialect=dialect)) == chunk


def positional(document: object) -> object:
    """Write a named document the way dialects A and B pack it: no field names."""
    match document:
        case {"type": "Json" as name, "data": data}:
            return [name, data]
        case {"type": name, "data": data}:
            return [name, positional(data)]
        case {"type": name, **fields}:
            return [name, *(positional(field) for field in fields.values())]
        case {"values": values, "shape": shape}:
            return [values, shape]
        case list():
            return [positional(item) for item in document]
        case _:
            return document


def test_a_positional_value_means_the_same_as_a_named_one() -> None:
    random = Random("positional")
    for _ in range(300):
        message = ChunkData(stream_id="s", chunk_index=3, value=draw_value(random))

        positional_frame = json_to_msgpack(positional(message.to_wire()))

        assert decode_stream(positional_frame) == message


def json_to_msgpack(document: object) -> bytes:
    packed = msgpack.packb(document)
    assert isinstance(packed, bytes)
    return packed


def test_pydantic_dumps_the_wire_form() -> None:
    random = Random("dump")
    for _ in range(100):
        plan = draw_serialized_plan(random)

        assert plan.model_dump() == plan.to_wire()
        assert SerializedPlan.model_validate_json(plan.model_dump_json()) == plan


def test_the_nodes_of_a_plan_are_named_once_in_order() -> None:
    plan = Sequence(
        plans=(
            Loop(node_id="l", body=Execute(node_id="a")),
            Parallel(plans=(Execute(node_id="b"), Cached(node_id="c", key=bytes(32)))),
            Branch(node_id="b", arms=(("x", Execute(node_id="d")), ("y", EmptyPlan()))),
            Remote(node_id="r", target=Tag(name="gpu"), plan=Composite(node_ids=("e", "a"))),
            Step(node_id="s", handoffs=(("t", Stream(node_ids=("f",), chunk_size=1)),)),
        )
    )

    assert node_ids(plan) == ("l", "a", "b", "c", "d", "r", "e", "s", "f")


def test_an_output_in_both_forms_is_a_value_and_a_delivery_at_once() -> None:
    output = two_in_one_output(Json(data=[1]))

    assert output == {
        "delivery": "Inline",
        "value": {"type": "Json", "data": [1]},
        "type": "Json",
        "data": [1],
    }


def plan_doc(**fields: object) -> SerializedPlan:
    return SerializedPlan.from_wire({"plan_id": "p", "plan": "Empty", "metadata": {}, **fields})


def test_a_sender_gives_its_dialect_away_by_what_only_that_dialect_writes() -> None:
    assert dialect_of(plan_doc(protocol_version=1)) == "C"
    assert dialect_of(plan_doc(mode={"Fit": {"y": None, "batch_size": None}})) == "B"
    assert dialect_of(plan_doc(plan={"Sequence": [{"Composite": {"node_ids": ["a"]}}]})) == "B"
    assert dialect_of(plan_doc(mode={"Fit": {"y": None}})) == "unknown"
    assert dialect_of(plan_doc()) == "unknown"


def test_a_plan_for_dialect_c_names_the_version_that_c_insists_on() -> None:
    document = json.loads(encode(AssignPlan(plan=plan_doc()), dialect="unknown"))["plan"]

    assert list(document) == [
        "protocol_version", "plan_id", "plan", "input", "filters", "mode", "seed", "metadata",
    ]  # fmt: skip
    assert document["protocol_version"] == 1


def test_events_arrive_as_they_were_sent() -> None:
    for event in (
        NodeStarted(run_id="r", node_id="n", kind="Opaque"),
        NodeStarted(run_id="r", node_id="n", kind="Opaque", effectful=True),
        OpaqueEvent(event_type="ToolCalled", fields={"tool": "x", "n": [1]}),
    ):
        message = EventMessage(worker_id="w", plan_id="p", event=event)

        assert decode_from_worker(encode(message)) == message
        assert read_event(event.to_wire()) == event


def test_a_step_without_handoffs_does_not_mention_them() -> None:
    assert Step(node_id="n").to_wire("C") == {"Step": {"node_id": "n"}}
    assert Step(node_id="n", handoffs=(("t", EmptyPlan()),)).to_wire("C") == {
        "Step": {"node_id": "n", "handoffs": [["t", "Empty"]]}
    }


def test_a_new_field_of_an_event_is_written_to_who_knows_it() -> None:
    event = NodeStarted(run_id="r", node_id="n", kind="Opaque")
    old = {"event_type": "NodeStarted", "run_id": "r", "node_id": "n", "kind": "Opaque"}

    assert event.to_wire("A") == old
    assert event.to_wire("C") == {**old, "effectful": False}
