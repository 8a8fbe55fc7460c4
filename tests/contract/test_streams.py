"""Stream frames: read named, positional and mixed, written named, and never trusted."""

import math
import struct

import msgpack
import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import (
    Bytes,
    ChunkData,
    ChunkResult,
    Empty,
    Failed,
    Fit,
    InlineOutput,
    Json,
    StreamBegin,
    StreamComplete,
    StreamEnd,
    Success,
    Tensor,
    UnencodableError,
    decode_msgpack,
    decode_stream,
    encode_stream,
    stream_error_reply,
)

ID = "stream_18ea2fcb2c23cc9a"
ID_HEX = ID.encode().hex()
ONE_TWO = Tensor(values=(1.0, 2.0), shape=(2,))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            f"94 a9 4368756e6b44617461 b7 {ID_HEX} 00 92 a6 54656e736f72 92 92 "
            "cb3ff0000000000000 cb4000000000000000 91 02",
            ChunkData(stream_id=ID, chunk_index=0, value=ONE_TWO),
        ),
        (f"92 a9 53747265616d456e64 b7 {ID_HEX}", StreamEnd(stream_id=ID)),
        (
            f"93 ae 53747265616d436f6d706c657465 b7 {ID_HEX} 94 a7 53756363657373 "
            "91 a5 456d707479 00 80",
            StreamComplete(
                stream_id=ID, result=Success(output=InlineOutput(value=Empty()), duration_ms=0)
            ),
        ),
        (
            f"93 ae 53747265616d436f6d706c657465 b7 {ID_HEX} 94 a7 53756363657373 "
            "92 a6 496e6c696e65 91 a5 456d707479 cd03be 80",
            StreamComplete(
                stream_id=ID, result=Success(output=InlineOutput(value=Empty()), duration_ms=958)
            ),
        ),
        (
            "94 ab 4368756e6b526573756c74 a2 7341 00 92 a6 54656e736f72 92 93 "
            "cb3ff0000000000000 cb4000000000000000 cb4008000000000000 91 03",
            ChunkResult(
                stream_id="sA", chunk_index=0, value=Tensor(values=(1.0, 2.0, 3.0), shape=(3,))
            ),
        ),
        (
            "84 a4 74797065 a9 4368756e6b44617461 a9 73747265616d5f6964 b7 "
            f"{ID_HEX} ab 6368756e6b5f696e646578 00 a5 76616c7565 82 a4 74797065 a6 54656e736f72 "
            "a4 64617461 82 a6 76616c756573 92 cb3ff0000000000000 cb4000000000000000 "
            "a5 7368617065 91 02",
            ChunkData(stream_id=ID, chunk_index=0, value=ONE_TWO),
        ),
        (
            "93 ae 53747265616d436f6d706c657465 a4 6e6f7065 93 a6 4661696c6564 "
            "b1 756e6b6e6f776e2073747265616d5f6964 00",
            StreamComplete(
                stream_id="nope", result=Failed(error="unknown stream_id", duration_ms=0)
            ),
        ),
    ],
)
def test_the_frames_of_all_dialects_are_read(frame: str, message: object) -> None:
    assert decode_stream(bytes.fromhex(frame)) == message


def test_frames_are_written_with_named_fields() -> None:
    frame = encode_stream(ChunkResult(stream_id="s", chunk_index=1, value=ONE_TWO))

    assert msgpack.unpackb(frame) == {
        "type": "ChunkResult",
        "stream_id": "s",
        "chunk_index": 1,
        "value": {"type": "Tensor", "data": {"values": [1.0, 2.0], "shape": [2]}},
    }


def test_floats_and_bytes_are_written_the_way_upstream_reads_them() -> None:
    floats = encode_stream(ChunkData(stream_id="s", chunk_index=0, value=ONE_TWO))
    octets = encode_stream(ChunkData(stream_id="s", chunk_index=0, value=Bytes(data=b"\x01\xff")))

    assert b"\xcb" + struct.pack(">d", 1.0) in floats
    assert octets.endswith(b"\xa4data\x92\x01\xcc\xff")


def test_an_output_for_an_unknown_dialect_is_read_as_either_form() -> None:
    result = Success(output=InlineOutput(value=ONE_TWO), duration_ms=1)
    message = StreamComplete(stream_id="s", result=result)

    output = msgpack.unpackb(encode_stream(message, dialect="unknown"))["result"]["output"]

    assert output["delivery"] == "Inline"
    assert output["value"] == {"type": output["type"], "data": output["data"]}


def test_msgpack_carries_numbers_that_are_not_finite() -> None:
    value = Tensor(values=(math.inf, -math.inf, math.nan), shape=(3,))

    message = decode_stream(encode_stream(ChunkData(stream_id="s", chunk_index=0, value=value)))

    assert isinstance(message, ChunkData)
    assert isinstance(message.value, Tensor)
    assert message.value.values[:2] == (math.inf, -math.inf)
    assert math.isnan(message.value.values[2])


def test_a_positional_plan_of_dialect_a_starts_with_its_id_and_of_c_with_its_version() -> None:
    filters = [["n", "AA==", None, [], True]]
    a = ["p", {"Execute": ["n"]}, None, filters, {"Fit": [["Json", 1], 8]}, {"m": 1}]
    c = [1, "p", {"Execute": ["n"]}, None, filters, {"Fit": [["Json", 1], 8]}, 7, {"m": 1}]

    read = [decode_stream(msgpack.packb(["StreamBegin", "s", "p", None, plan])) for plan in (a, c)]

    assert [type(message) for message in read] == [StreamBegin, StreamBegin]
    plans = [message.plan for message in read if isinstance(message, StreamBegin)]
    assert [(plan.protocol_version, plan.seed) for plan in plans] == [(0, None), (1, 7)]
    assert all(plan.mode == Fit(y=Json(data=1), batch_size=8) for plan in plans)
    assert all(plan.filters[0].trainable and plan.metadata == {"m": 1} for plan in plans)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x92\xa9StreamEnd\xa1",
        b"\x92\xa9StreamEnd\xa1s\x00",
        b"\x92\xa9StreamEnd\x00",
        b"\x91\xa9StreamEnd",
        b"\x82\xa4type\xa9StreamEnd\xa4type\xa9StreamEnd",
        b"\x81\xc4\x04type\xa9StreamEnd",
        b"\x82\xa4type\xa9StreamEnd\x01\xa1s",
        b"\x92\xa9StreamEnd\xa1\xff",
        b"\x92\xa9StreamEnd\xd4\x01\x00",
        b"\x92\xa9StreamEnd\xd6\xff\x00\x00\x00\x00",
        b"\x92\xa9StreamEnd\xc7\x00\x05",
        b"\x94\xa9ChunkData\xa1s\xff\xc0",
        b"\x94\xa9ChunkData\xa1s\x00\x91\xa4Nope",
        b"\x94\xa9ChunkData\xa1s\x00\x92\xa6Tensor\x92\x91\xc0\x91\x01",
        b"\x94\xa9ChunkData\xa1s\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x91\xa5Empty",
        b"\x94\xa9ChunkData\xa1s\x00\x92\xa4Json\xc4\x01\x00",
    ],
)
def test_what_is_no_stream_message_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_stream(frame)


def test_every_cut_of_a_frame_is_refused() -> None:
    value = Json(data={"a": [1, 300, 70000, 2**40, -1, -200, 0.5, True, None, "x" * 40, {}]})
    frame = encode_stream(ChunkData(stream_id="s", chunk_index=0, value=value))
    assert decode_stream(frame)

    for length in range(len(frame)):
        with pytest.raises(ProtocolError):
            decode_stream(frame[:length])
    with pytest.raises(ProtocolError, match="goes on"):
        decode_stream(frame + b"\xc0")


@pytest.mark.parametrize(
    "frame",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdd\x00\x0f\xff\xff" * 200_000,
        b"\x91" * 1_000_000,
        b"\x81\xa1a" * 100_000 + b"\xc0",
        b"\x91" * 65 + b"\xc0",
    ],
)
def test_a_claimed_length_costs_nothing(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"cut short|nested deeper"):
        decode_msgpack(frame)


def test_a_frame_is_bounded() -> None:
    frame = encode_stream(StreamEnd(stream_id="s" * 100))

    assert decode_stream(frame, bytes_max=len(frame))
    with pytest.raises(ProtocolError, match="at most"):
        decode_stream(frame, bytes_max=len(frame) - 1)
    assert decode_msgpack(b"\x91" * 64 + b"\xc0")


@pytest.mark.parametrize("count", [0, 15, 16, 70_000])
def test_lists_and_objects_of_every_size_are_read(count: int) -> None:
    names = {f"key {index}": [index, "x" * (index % 300)] for index in range(count)}
    value = Json(data=[names, [None] * count, "é" * count])

    message = ChunkData(stream_id="s", chunk_index=0, value=value)

    assert decode_stream(encode_stream(message)) == message


def test_an_integer_too_wide_for_msgpack_becomes_a_float() -> None:
    wide = ChunkData(stream_id="s", chunk_index=0, value=Json(data=[2**64, -(2**70)]))

    message = decode_stream(encode_stream(wide))

    assert isinstance(message, ChunkData)
    assert message.value == Json(data=[2.0**64, -(2.0**70)])
    with pytest.raises(UnencodableError):
        encode_stream(ChunkData(stream_id="s", chunk_index=0, value=Json(data=10**400)))


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(UnencodableError):
        encode_stream(StreamEnd(stream_id="\ud800"))


def test_the_words_for_a_bad_frame_are_upstreams() -> None:
    assert stream_error_reply(ProtocolError("x")) == (
        '{"type":"Error","message":"decoding a stream frame: x"}'
    )
