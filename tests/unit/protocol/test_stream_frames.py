"""Frames of streams: read back as written, and refused when they are not sound."""

from collections.abc import Callable

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.frames import encode_chunk
from lineshaft_protocol.ids import BlobId
from lineshaft_protocol.stream_frames import (
    CHUNKS_MAX,
    ChunkData,
    ChunkResult,
    StreamAck,
    StreamAttach,
    StreamEnd,
    StreamFault,
    StreamFrame,
    StreamOpen,
    StreamReady,
    chunks_of,
    decode_frame,
    encode_buffers,
    encode_frame,
    is_stream_frame,
)

FRAMES: list[StreamFrame] = [
    StreamOpen("job-1", 2),
    StreamAttach("job-1", 1, 5, 3),
    StreamReady("job-1", 1, 5),
    ChunkData("job-1", 1, 7, (2, 0, 3), b"abcde"),
    ChunkResult("job-1", 300, 70_000, (100_000,), bytes(100_000)),
    StreamAck("job-1", 1, 12),
    StreamEnd("job-1", 1, 0),
    StreamFault("job-1", "nobody knows it"),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_is_read_as_it_was_written(frame: StreamFrame) -> None:
    written = encode_frame(frame)

    assert is_stream_frame(written)
    assert decode_frame(written) == frame


def test_any_msgpack_library_reads_a_frame() -> None:
    read = msgpack.unpackb(encode_frame(ChunkData("s", 1, 7, (2, 3), b"abcde")))

    read.pop("pad")
    assert read == {
        "type": "ChunkData",
        "stream_id": "s",
        "turn": 1,
        "chunk_index": 7,
        "sizes": [2, 3],
        "data": b"abcde",
    }


@pytest.mark.parametrize("name", ["s", "a-longer-name", "x" * 128])
@pytest.mark.parametrize("index", [0, 1000, 10**9])
def test_the_data_begin_where_arrays_are_aligned(name: str, index: int) -> None:
    head = encode_buffers(ChunkData(name, 1, index, (4,), b"data"))[0]

    assert len(head) % 64 == 0


def test_the_chunks_of_a_frame_are_views_of_it() -> None:
    frame = bytearray(encode_frame(ChunkData("s", 1, 0, (2, 0, 3), b"abcde")))
    read = decode_frame(frame)
    assert isinstance(read, ChunkData)
    frame[-1] = ord("!")

    assert [bytes(chunk) for chunk in chunks_of(read)] == [b"ab", b"", b"cd!"]


def test_a_piece_of_a_blob_is_no_frame_of_a_stream() -> None:
    assert not is_stream_frame(b"".join(encode_chunk(BlobId("0" * 64), 0, b"data")))
    assert not is_stream_frame(b"")


def packed(**fields: object) -> bytes:
    return bytes(msgpack.packb(fields))


def ext(_: object) -> bytes:
    return b"\x83\xa4type\xa9StreamAck\xa4turn\x01\xa9stream_id\xd4\x05\x00"


BAD: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "cut short": lambda good: good[:-1],
    "cut in the head": lambda good: good[:20],
    "something behind": lambda good: good + b"!",
    "no map": lambda _: bytes(msgpack.packb(["StreamAck", "s", 1, 2])),
    "unknown type": lambda _: packed(type="Nonsense", stream_id="s"),
    "no type": lambda _: packed(stream_id="s", turn=1, count=2),
    "a field is missing": lambda _: packed(type="StreamAck", stream_id="s", turn=1),
    "a name with a slash": lambda _: packed(type="StreamAck", stream_id="../s", turn=1, count=2),
    "a name that is a number": lambda _: packed(type="StreamAck", stream_id=7, turn=1, count=2),
    "a count below 0": lambda _: packed(type="StreamAck", stream_id="s", turn=1, count=-2),
    "a count that is none": lambda _: packed(type="StreamAck", stream_id="s", turn=1, count=True),
    "a count beyond all": lambda _: packed(type="StreamAck", stream_id="s", turn=1, count=2**60),
    "an extension type": ext,
    "too many fields": lambda _: packed(
        type="StreamAck", **{f"f{number}": number for number in range(20)}
    ),
    "a map bomb": lambda _: b"\x83\xa4type\xa9StreamAck\xa4turn\xdf\xff\xff\xff\xff",
    "an array bomb": lambda _: b"\x83\xa4type\xa9ChunkData\xa5sizes\xdd\xff\xff\xff\xff",
    "a text bomb": lambda _: b"\x83\xa4type\xa9ChunkData\xa5sizes\xdb\xff\xff\xff\xff",
    "a bin in the head": lambda _: b"\x83\xa4type\xa9ChunkData\xa5sizes\xc6\xff\xff\xff\xff",
    "nested deep": lambda _: b"\x82\xa4type\xa9StreamAck" + b"\xa4turn" + b"\x91" * 4000,
    "sizes that lie": lambda good: good.replace(b"\x92\x02\x03", b"\x92\x02\x04"),
    "no sizes": lambda good: good.replace(b"\x92\x02\x03", b"\xc0\x02\x03"),
    "a size below 0": lambda good: good.replace(b"\x92\x02\x03", b"\x92\x06\xff"),
    "a length that lies": lambda good: good.replace(
        b"\xa4data\xc6\x00\x00\x00\x05", b"\xa4data\xc6\x00\x00\x00\x06"
    ),
    "data in 8 bits": lambda _: packed(
        type="ChunkData", stream_id="s", turn=1, chunk_index=0, sizes=[2], data=b"ab"
    ),
    "data not last": lambda good: good.replace(b"\xa3pad\xd9", b"\xa4data\xc6"),
    "too many chunks": lambda _: packed(
        type="ChunkData", stream_id="s", turn=1, chunk_index=0, sizes=[0] * (CHUNKS_MAX + 1)
    ),
    "a key twice": lambda _: b"\x83\xa4turn\x01\xa4turn\x01\xa4type\xa9StreamAck",
    "a key that is no text": lambda _: b"\x82\x01\x01\xa4type\xa9StreamAck",
    "not UTF-8": lambda _: b"\x81\xa2\xff\xfe\x01",
}


@pytest.mark.parametrize("what", BAD)
def test_a_frame_that_is_not_sound_is_refused(what: str) -> None:
    good = encode_frame(ChunkData("s", 1, 7, (2, 3), b"abcde"))
    assert isinstance(decode_frame(good), ChunkData)

    with pytest.raises(ProtocolError):
        decode_frame(BAD[what](good))
