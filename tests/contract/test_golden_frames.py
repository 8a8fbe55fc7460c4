"""Frames of real peers decode, and what a peer wrote is what we would have written."""

import json
import re

import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import (
    Error,
    FromWorker,
    ToWorker,
    decode_from_worker,
    decode_stream,
    decode_to_worker,
    encode,
    encode_stream,
    error_reply,
)

from .conftest import Frame

REFUSED_BY_EVERY_DIALECT = {
    "unknown_type",
    "missing_field",
    "not_json",
    "plan_without_metadata",
    "binary_garbage",
    "missing investigation_id",
}


def decoded(frame: Frame) -> FromWorker | ToWorker:
    assert frame.text is not None
    return (decode_to_worker if frame.to_worker else decode_from_worker)(frame.text)


def is_refused(frame: Frame) -> bool:
    return frame.to_worker and frame.label in REFUSED_BY_EVERY_DIALECT


def test_every_text_frame_of_a_real_worker_is_what_we_would_have_written(
    frames: list[Frame],
) -> None:
    replies = [frame for frame in frames if frame.text and not frame.to_worker]

    rewritten = [encode(decoded(frame), dialect=frame.dialect) for frame in replies]

    assert len(replies) == 163
    assert rewritten == [frame.text for frame in replies]


def test_every_text_frame_of_a_real_client_is_what_we_would_have_written(
    frames: list[Frame],
) -> None:
    sent = [f for f in frames if f.text and f.to_worker and f.label.startswith("session")]

    rewritten = [encode(decoded(frame), dialect=frame.dialect) for frame in sent]

    assert len(sent) == 33
    assert rewritten == [frame.text for frame in sent]


def test_every_hand_written_request_means_the_same_when_written_again(frames: list[Frame]) -> None:
    asked = [f for f in frames if f.text and f.to_worker and not is_refused(f)]

    for frame in asked:
        message = decoded(frame)

        assert decode_to_worker(encode(message, dialect=frame.dialect)) == message
        assert without_defaults(json.loads(encode(message))) == without_defaults(
            json.loads(frame.text or "")
        )


def without_defaults(document: object) -> object:
    """Drop what may be left out, and what only some dialects write."""
    droppable: list[object] = [None, [], {}, 0, False, "Forward"]
    match document:
        case dict():
            kept = {key: without_defaults(value) for key, value in document.items()}
            return {k: v for k, v in kept.items() if v not in droppable and k != "zzz"}
        case list():
            return [without_defaults(item) for item in document]
        case _:
            return document


def test_every_binary_frame_of_a_real_peer_is_read(frames: list[Frame]) -> None:
    binary = [frame for frame in frames if frame.binary and not is_refused(frame)]

    for frame in binary:
        assert frame.binary
        message = decode_stream(frame.binary)

        assert decode_stream(encode_stream(message, dialect=frame.dialect)) == message
    assert len(binary) == 77


def test_the_stream_frames_of_a_real_dialect_c_peer_are_what_we_would_have_written(
    frames: list[Frame],
) -> None:
    written_by_c = [
        frame
        for frame in frames
        if frame.binary
        and frame.dialect == "C"
        and (not frame.to_worker or frame.label.startswith("session"))
    ]

    rewritten = [
        encode_stream(decode_stream(frame.binary or b""), dialect="C") for frame in written_by_c
    ]

    assert len(written_by_c) > 20
    assert rewritten == [frame.binary for frame in written_by_c]


def test_what_every_upstream_version_refuses_is_refused(frames: list[Frame]) -> None:
    refused = [frame for frame in frames if is_refused(frame)]

    for frame in refused:
        with pytest.raises(ProtocolError):
            decode_stream(frame.binary) if frame.binary else decoded(frame)

    assert {frame.label for frame in refused} == REFUSED_BY_EVERY_DIALECT


def test_our_words_for_a_bad_message_are_upstreams(frames: list[Frame]) -> None:
    refused = [f for f in frames if is_refused(f) and f.text and f.dialect == "C"]

    for frame in refused:
        with pytest.raises(ProtocolError) as caught:
            decoded(frame)

        (theirs,) = [
            f.text
            for f in frames
            if f.dialect == "C" and not f.to_worker and f.label == frame.label and f.text
        ]
        # Upstream tells the position after an unknown variant, where its parser happens to stand.
        expected = re.sub(r"(`) at line 1 column \d+", r"\1", theirs)
        assert error_reply(caught.value, dialect="C") == expected


def test_an_error_that_upstream_wrote_as_broken_json_is_still_an_error() -> None:
    text = '{"error": "invalid message: unknown variant `a"b`, expected one of `Ping`"}'

    message = decode_from_worker(text)

    assert message == Error(
        message='invalid message: unknown variant `a"b`, expected one of `Ping`'
    )
