"""Chunks of blobs: read as msgpack reads them, however a peer writes them, and not copied."""

import random

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import pytest

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.frames import CHUNK_BYTES_MAX, BlobChunk, decode_chunk, encode_chunk
from lineshaft_protocol.ids import BlobId

BLOB = BlobId("ab" * 32)


def written(blob_id: BlobId, offset: int, data: bytes) -> bytes:
    return b"".join(encode_chunk(blob_id, offset, data))


@pytest.mark.parametrize("size", [0, 1, 255, 70_000, CHUNK_BYTES_MAX])
@pytest.mark.parametrize("offset", [0, 127, 128, 70_000, 2**33, 2**53])
def test_a_chunk_is_read_as_it_was_written(size: int, offset: int) -> None:
    data = random.Random(size).randbytes(size)

    chunk = decode_chunk(written(BLOB, offset, data))

    assert chunk == BlobChunk(BLOB, offset, data)


def test_data_are_a_view_of_the_frame_which_lives_as_long_as_they_do() -> None:
    frame = bytearray(written(BLOB, 5, b"payload" * 1000))

    data = decode_chunk(frame).data
    frame[-1:] = b"!"

    assert bytes(data[-3:]) == b"oa!"
    with pytest.raises(BufferError):
        frame.clear()


def test_fields_in_any_order_and_any_length_of_bytes_are_read() -> None:
    dice = random.Random(7)
    for size in (0, 3, 300, 70_000):
        data = dice.randbytes(size)
        fields = [("type", "BlobChunk"), ("blob_id", BLOB), ("offset", 9), ("data", data)]
        for _ in range(8):
            dice.shuffle(fields)
            frame: bytes = msgpack.packb(dict(fields))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportAssignmentType]

            assert decode_chunk(frame) == BlobChunk(BLOB, 9, data)


def test_data_that_look_like_a_header_are_data() -> None:
    inner = written(BLOB, 0, b"x" * 40)

    assert decode_chunk(written(BLOB, 0, inner)).data == inner


@pytest.mark.parametrize(
    "frame",
    [
        written(BLOB, 0, b"12345678")[:-1],
        written(BLOB, 0, b"12345678") + b"9",
        written(BLOB, 0, bytes(CHUNK_BYTES_MAX + 1)),
        written(BlobId("AB" * 32), 0, b"1"),
        written(BlobId("ab" * 31), 0, b"1"),
        written(BLOB, -1, b"1"),
        written(BLOB, 0, b"1").replace(b"BlobChunk", b"BlobChunc"),
        written(BLOB, 0, b"1").replace(b"\xa6offset", b"\xa6offsat"),
        written(BLOB, 0, b"1").replace(b"\x84", b"\x83", 1),
        written(BLOB, 0, b"1").replace(b"\x84", b"\x85", 1),
    ],
    ids=["short", "long", "too large", "letters", "id", "offset", "type", "key", "three", "five"],
)
def test_a_malformed_chunk_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match="invalid frame"):
        decode_chunk(frame)


@pytest.mark.parametrize("seed", range(200))
def test_garbage_brings_a_chunk_that_msgpack_reads_too_or_a_protocol_error(seed: int) -> None:
    dice = random.Random(seed)
    frame = bytearray(written(BLOB, dice.randrange(2**20), dice.randbytes(dice.randrange(80))))
    for _ in range(dice.randrange(1, 4)):
        frame[dice.randrange(len(frame))] = dice.randrange(256)

    try:
        chunk = decode_chunk(frame)
    except ProtocolError:
        return

    fields: dict[str, object] = msgpack.unpackb(frame)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    assert (fields["blob_id"], fields["offset"], fields["data"]) == (
        chunk.blob_id,
        chunk.offset,
        chunk.data,
    )
