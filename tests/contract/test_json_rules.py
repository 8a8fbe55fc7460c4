"""What the seed dialect lets a peer leave out or add, and what it does not forgive."""

import json
import math

import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import (
    AssignPlan,
    Bytes,
    CachedRef,
    Empty,
    EmptyPlan,
    Error,
    Fit,
    Forward,
    JobResult,
    Json,
    LoadMetrics,
    Object,
    Packed,
    Ping,
    PlanResultMessage,
    ReferenceOutput,
    SerializedFilter,
    SerializedPlan,
    Success,
    Tensor,
    Text,
    UnencodableError,
    Value,
    decode_from_worker,
    decode_json,
    decode_to_worker,
    encode,
    error_reply,
    read_data_ref,
    read_event,
    read_mode,
    read_plan,
    read_value,
)


def plan_text(**fields: object) -> str:
    plan = {"plan_id": "p", "plan": "Empty", "metadata": {}, **fields}
    return json.dumps({"type": "AssignPlan", "plan": plan})


def sent_plan(**fields: object) -> SerializedPlan:
    message = decode_to_worker(plan_text(**fields))
    assert isinstance(message, AssignPlan)
    return message.plan


def test_defaulted_fields_may_be_absent() -> None:
    assert sent_plan() == SerializedPlan(
        plan_id="p",
        plan=EmptyPlan(),
        input=None,
        filters=(),
        mode=Forward(),
        metadata={},
        protocol_version=0,
        seed=None,
    )
    short = SerializedFilter.from_wire({"node_id": "n", "pickled_filter": "AA=="})
    assert (short.requirements, short.trainable, short.state) == ((), False, None)
    assert Success.from_wire({"status": "Success", "output": {"type": "Empty"}, "duration_ms": 1})


@pytest.mark.parametrize("field", ["filters", "mode", "protocol_version", "plan_id", "plan"])
def test_null_is_no_default(field: str) -> None:
    with pytest.raises(ProtocolError):
        sent_plan(**{field: None})


@pytest.mark.parametrize("field", ["requirements", "trainable"])
def test_null_is_no_default_of_a_filter(field: str) -> None:
    fine = {"node_id": "n", "pickled_filter": "AA=="}
    assert sent_plan(filters=[fine])

    with pytest.raises(ProtocolError):
        sent_plan(filters=[{**fine, field: None}])


@pytest.mark.parametrize("field", ["input", "seed"])
def test_an_option_may_be_null_or_absent(field: str) -> None:
    assert sent_plan(**{field: None}) == sent_plan()


@pytest.mark.parametrize("metadata", [None, 1, "x", [], {"edges": [["a", "b"]]}])
def test_metadata_is_any_json_but_must_be_there(metadata: object) -> None:
    assert sent_plan(metadata=metadata).metadata == metadata
    with pytest.raises(ProtocolError, match="missing field `metadata`"):
        decode_to_worker('{"type":"AssignPlan","plan":{"plan_id":"p","plan":"Empty"}}')


def test_unknown_fields_are_ignored_and_unknown_variants_are_not() -> None:
    assert decode_to_worker('{"zzz":{"a":[1]},"type":"Ping"}') == Ping()
    for read in (read_plan, read_value, read_mode, read_data_ref, read_event):
        with pytest.raises(ProtocolError):
            read({"Nope": {}})
        with pytest.raises(ProtocolError):
            read({"type": "Nope", "event_type": "Nope"})


def test_the_tag_may_come_last() -> None:
    value = read_value(decode_json('{"data":{"shape":[1],"values":[1.0]},"type":"Tensor"}'))

    assert value == Tensor(values=(1.0,), shape=(1,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"type":"Ping","type":"Ping"}', "duplicate field `type`"),
        ('{"type":"Ping","x":{"a":1,"a":2}}', "duplicate field `a`"),
        ('{"type":"Ping","x":NaN}', "NaN is not JSON"),
        ('{"type":"Ping","x":-Infinity}', "-Infinity is not JSON"),
        ('{"type":"Ping","x":1e400}', "number out of range"),
        ('{"type":"Ping","x":' + "9" * 5000 + "}", "number out of range"),
        ('{"type":"Ping","x":"\\ud800"}', "lone surrogate in a string"),
        ('{"type":"Ping"', "expected ',' delimiter at line 1 column 15"),
        ('{"type":"Ping"} x', "Extra data at line 1 column 17"),
        ('{"x":1}', "missing field `type`"),
        ('{"type":5}', "invalid type: integer, expected variant identifier"),
        ("null", "invalid type: null, expected an object tagged `type`"),
        ("[]", "invalid type: sequence, expected an object tagged `type`"),
        ("", "expected value at line 1 column 1"),
    ],
)
def test_malformed_documents_are_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_to_worker(text)

    assert caught.value.reason == reason


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="invalid unicode at byte 9"):
        decode_to_worker(b'{"type":"\xff"}')


def test_a_surrogate_pair_is_one_character() -> None:
    assert decode_json('"\\ud83d\\ude00"') == "\U0001f600"


def test_brackets_count_only_outside_strings() -> None:
    brackets = "[" * 65
    assert decode_json(json.dumps({"a": brackets, "b": '\\"' + brackets}))
    assert decode_json("[" * 64 + "]" * 64)
    with pytest.raises(ProtocolError, match="nested deeper than 64"):
        decode_json('["' + '\\"' * 70 + '",' + "[" * 64 + "]" * 64 + "]")


def test_hostile_nesting_is_refused_in_linear_time() -> None:
    for text in ("[" * 1_000_000, '{"a":' * 500_000, '"' + '\\"' * 1_000_000 + "[" * 100):
        with pytest.raises(ProtocolError):
            decode_json(text)


@pytest.mark.parametrize("shape", [[1.0], [-1], [True], ["1"], [2**64], [None], None, {}])
def test_a_size_is_an_unsigned_integer(shape: object) -> None:
    with pytest.raises(ProtocolError):
        read_value({"type": "Tensor", "data": {"values": [1.0], "shape": shape}})


@pytest.mark.parametrize("values", [[None], ["1"], [True], [[1.0]], [10**400], None, "ab", {}])
def test_a_tensor_holds_numbers(values: object) -> None:
    with pytest.raises(ProtocolError):
        read_value({"type": "Tensor", "data": {"values": values, "shape": [1]}})


def test_an_integer_will_do_for_a_float_and_is_written_as_one() -> None:
    value = read_value({"type": "Tensor", "data": {"values": [1, 2], "shape": [2]}})

    reply = encode(result_with(value))

    assert '"values":[1.0,2.0],"shape":[2]' in reply


def test_the_product_of_a_shape_is_the_readers_business() -> None:
    value = read_value({"type": "Tensor", "data": {"values": [1.0], "shape": [2, 3]}})

    assert isinstance(value, Tensor)
    assert not value.is_complete()
    assert Tensor(values=(1.0,) * 6, shape=(2, 3)).is_complete()


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        ({"type": "Json", "data": None}, Json(data=None)),
        ({"type": "Bytes", "data": [0, 255]}, Bytes(data=b"\x00\xff")),
        ({"type": "Object", "data": [128, 5]}, Object(data=b"\x80\x05")),
        ({"type": "Text", "data": "é"}, Text(data="é")),
        ({"type": "Empty"}, Empty()),
        ({"type": "Empty", "data": None}, Empty()),
        ({"type": "Packed", "data": "AP8="}, Packed(data=b"\x00\xff")),
        (["Empty"], Empty()),
        (["Tensor", {"values": [1.0], "shape": [1]}], Tensor(values=(1.0,), shape=(1,))),
        (["Tensor", [[1.0], [1]]], Tensor(values=(1.0,), shape=(1,))),
    ],
)
def test_values_are_read(wire: object, value: Value) -> None:
    assert read_value(wire) == value
    assert read_value(value.to_wire()) == value


@pytest.mark.parametrize(
    "wire",
    [
        {"type": "Tensor", "data": [[1.0], [1]]},
        {"type": "Tensor", "data": {"values": [1.0]}},
        {"type": "Tensor"},
        {"type": "Json"},
        {"type": "Empty", "data": 5},
        {"type": "Bytes", "data": [256]},
        {"type": "Bytes", "data": [-1]},
        {"type": "Bytes", "data": [1.0]},
        {"type": "Bytes", "data": [True]},
        {"type": "Bytes", "data": "AP8="},
        {"type": "Packed", "data": "AP8"},
        {"type": "Packed", "data": "A-_="},
        ["Tensor", [[1.0], [1], 1]],
        ["Tensor", [[1.0]]],
        ["Bytes"],
        [],
        "Empty",
        None,
        5,
    ],
)
def test_what_is_no_value_is_refused(wire: object) -> None:
    with pytest.raises(ProtocolError):
        read_value(wire)


def test_a_cache_key_has_32_bytes() -> None:
    key = list(range(32))
    assert read_data_ref({"type": "Cached", "cache_key": key}) == CachedRef(cache_key=bytes(key))
    for wrong in (key[:31], [*key, 0]):
        with pytest.raises(ProtocolError):
            read_data_ref({"type": "Cached", "cache_key": wrong})


def test_a_filter_is_padded_standard_base64() -> None:
    for wrong in ("AP8", "A-_=", "AP8= ", 5, None):
        with pytest.raises(ProtocolError):
            SerializedFilter.from_wire({"node_id": "n", "pickled_filter": wrong})


def test_structs_may_come_as_lists() -> None:
    assert decode_to_worker('["Ping"]') == Ping()
    with pytest.raises(ProtocolError, match="invalid length 1"):
        decode_to_worker('["Ping",1]')


def test_a_unit_variant_may_hold_null_and_nothing_else() -> None:
    assert read_plan("Empty") == read_plan({"Empty": None}) == EmptyPlan()
    assert read_mode("Forward") == read_mode({"Forward": None}) == Forward()
    for wrong in ({"Empty": {}}, {"Forward": 1}, "Fit", {}, {"Fit": {}, "Forward": None}):
        with pytest.raises(ProtocolError):
            read_mode(wrong)
        with pytest.raises(ProtocolError):
            read_plan(wrong)


def test_a_timestamp_is_rfc_3339() -> None:
    load = {
        "cpu_usage": 0, "memory_usage": 0.5, "gpu_usage": [1], "active_plans": 0, "queue_depth": 0,
    }  # fmt: skip
    for fine in ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789Z"):
        assert LoadMetrics.from_wire({**load, "timestamp": fine}).timestamp == fine
    for wrong in ("2026-01-02", "now", 0, None, "2026-01-02T03:04:05"):
        with pytest.raises(ProtocolError):
            LoadMetrics.from_wire({**load, "timestamp": wrong})


def result_with(value: Value) -> PlanResultMessage:
    output = {"delivery": "Inline", "value": value}
    result = Success.from_wire({"status": "Success", "output": output, "duration_ms": 1})
    return PlanResultMessage(worker_id="w", plan_id="p", result=result)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_cannot_carry_a_number_that_is_not_finite(number: float) -> None:
    for value in (Tensor(values=(number,), shape=(1,)), Json(data={"x": [number]})):
        with pytest.raises(UnencodableError):
            encode(result_with(value))


def test_the_words_nan_and_infinity_are_just_text() -> None:
    message = result_with(Json(data={"NaN": "Infinity"}))

    assert decode_from_worker(encode(message)) == message


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(UnencodableError):
        encode(result_with(Text(data="\ud800")))


def test_dialect_a_has_no_output_by_reference() -> None:
    output = {"delivery": "Reference", "data_ref": {"type": "Local", "path": "/x"}}
    result = Success.from_wire({"status": "Success", "output": output, "duration_ms": 1})
    message = PlanResultMessage(worker_id="w", plan_id="p", result=result)

    assert isinstance(result.output, ReferenceOutput)
    assert decode_from_worker(encode(message, dialect="B")) == message
    with pytest.raises(UnencodableError):
        encode(message)


def test_an_error_reply_is_json_whatever_the_peer_sent() -> None:
    for nasty in ('No"pe', "No\\pe", "No\npe", "\u0000", "é" * 500):
        with pytest.raises(ProtocolError) as caught:
            decode_to_worker(json.dumps({"type": nasty}))

        for dialect in ("A", "B", "C", "unknown"):
            reply = decode_from_worker(error_reply(caught.value, dialect=dialect))
            assert reply == Error(message=f"invalid message: {caught.value.reason}")


def test_error_replies_look_like_upstreams() -> None:
    error = ProtocolError("missing field `plan_id`")

    assert error_reply(error) == '{"error": "invalid message: missing field `plan_id`"}'
    assert error_reply(error, dialect="C") == (
        '{"type":"Error","message":"invalid message: missing field `plan_id`"}'
    )


def test_c_only_fields_reach_an_older_peer_only_if_they_say_something() -> None:
    silent, speaking = Fit(y=None), Fit(y=None, batch_size=2)

    assert silent.to_wire("A") == {"Fit": {"y": None}}
    assert silent.to_wire("B") == {"Fit": {"y": None, "batch_size": None}}
    assert speaking.to_wire("A") == {"Fit": {"y": None, "batch_size": 2}}


def test_a_bool_is_not_a_number_and_a_number_no_bool() -> None:
    fine = {
        "type": "JobResult", "worker_id": "w", "job_id": "j", "success": True, "metrics": 42,
        "output": "", "duration_ms": 0,
    }  # fmt: skip
    assert isinstance(decode_from_worker(json.dumps(fine)), JobResult)

    for wrong in ({"success": 1}, {"duration_ms": True}, {"duration_ms": 1.0}, {"output": 1}):
        with pytest.raises(ProtocolError):
            decode_from_worker(json.dumps({**fine, **wrong}))
