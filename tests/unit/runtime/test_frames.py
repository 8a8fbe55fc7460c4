"""Our frames against the frames of the `websockets` library, which is the judge."""

import random
from collections.abc import Iterator

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from lineshaft_runtime.frames import (
    BINARY,
    PING,
    PONG,
    SCRATCH_BYTES,
    TEXT,
    FrameError,
    FrameReader,
    FrameWriter,
    close_payload,
    flat,
    parse_close,
)

Arrived = tuple[str, bytes]


class Collector:
    def __init__(self) -> None:
        self.arrived: list[Arrived] = []

    def text_arrived(self, data: bytes) -> None:
        assert type(data) is bytes
        self.arrived.append(("text", data))

    def binary_arrived(self, data: bytes | bytearray) -> None:
        self.arrived.append(("binary", bytes(data)))

    def control_arrived(self, opcode: int, data: bytes) -> None:
        self.arrived.append((str(opcode), data))


def ours(
    stream: bytes, *, is_masked: bool, cuts: Iterator[int], bytes_max: int = 2**24
) -> tuple[list[Arrived], int | None]:
    """Give what arrived, and the close code if the stream was wrong."""
    collector = Collector()
    reader = FrameReader(
        collector,
        is_masked=is_masked,
        text_bytes_max=bytes_max,
        binary_bytes_max=bytes_max,
        scratch=bytearray(SCRATCH_BYTES),
    )
    try:
        while stream:
            size = next(cuts)
            reader.feed(stream[:size])
            stream = stream[size:]
    except FrameError as error:
        return collector.arrived, error.code
    return collector.arrived, None


def judged(
    stream: bytes, *, is_masked: bool, bytes_max: int = 2**24
) -> tuple[list[Arrived], int | None]:
    protocol = library(is_masked=is_masked, bytes_max=bytes_max)
    protocol.receive_data(stream)
    arrived: list[Arrived] = []
    kind, collected = "", b""
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                kind, collected = frame.opcode.name.lower(), b""
            collected += bytes(frame.data)
            if frame.fin:
                arrived.append((kind, collected))
        else:
            arrived.append((str(int(frame.opcode)), bytes(frame.data)))
    return arrived, None if protocol.close_sent is None else int(protocol.close_sent.code)


def library(*, is_masked: bool, bytes_max: int) -> Protocol:
    if is_masked:
        return ServerProtocol(state=OPEN, max_size=bytes_max)
    return ClientProtocol(parse_uri("ws://x/"), state=OPEN, max_size=bytes_max)


def random_cuts(dice: random.Random) -> Iterator[int]:
    while True:
        yield dice.choice((1, 2, 3, 7, 100, 5000, 70_000, 400_000))


def random_stream(dice: random.Random, *, is_masked: bool) -> bytes:
    frames: list[Frame] = []
    for _ in range(dice.randint(1, 12)):
        size = dice.choice((0, 1, 125, 126, 127, 3000, 32_767, 32_768, 65_535, 65_536, 300_000))
        is_text = dice.random() < 0.5
        payload = ("é" * (size // 2)).encode() if is_text else dice.randbytes(size)
        pieces = [payload]
        if dice.random() < 0.4:
            # Anywhere, also inside of a character.
            at = sorted(dice.randint(0, len(payload)) for _ in range(3))
            pieces = [
                payload[: at[0]],
                payload[at[0] : at[1]],
                payload[at[1] : at[2]],
                payload[at[2] :],
            ]
        for number, piece in enumerate(pieces):
            opcode = Opcode.CONT if number else (Opcode.TEXT if is_text else Opcode.BINARY)
            frames.append(Frame(opcode, piece, fin=number == len(pieces) - 1))
            if dice.random() < 0.3:
                frames.append(Frame(dice.choice((Opcode.PING, Opcode.PONG)), dice.randbytes(125)))
    return b"".join(frame.serialize(mask=is_masked) for frame in frames)


@pytest.mark.parametrize("is_masked", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_any_correct_stream_cut_anywhere_is_read_as_the_library_reads_it(
    seed: int, is_masked: bool
) -> None:
    dice = random.Random(seed)
    stream = random_stream(dice, is_masked=is_masked)

    read = ours(stream, is_masked=is_masked, cuts=random_cuts(dice))

    assert read == judged(stream, is_masked=is_masked)
    assert read[0]


def unmasked(first: int, payload: bytes) -> bytes:
    return bytes((first, len(payload))) + payload


WRONG = {
    "reserved bit 1": (unmasked(0xC1, b"a"), 1002),
    "reserved bit 2": (unmasked(0xA2, b"a"), 1002),
    "reserved bit 3 of a ping": (unmasked(0x99, b"a"), 1002),
    "unknown data opcode": (unmasked(0x83, b"a"), 1002),
    "unknown control opcode": (unmasked(0x8B, b"a"), 1002),
    "masked by a server": (b"\x81\x81abcda", 1002),
    "long ping": (b"\x89\x7e\x00\x7e" + b"a" * 126, 1002),
    "ping in fragments": (unmasked(0x09, b"a"), 1002),
    "continuation of nothing": (unmasked(0x80, b"a"), 1002),
    "text inside of a message": (unmasked(0x02, b"a") + unmasked(0x81, b"b"), 1002),
    "binary inside of a message": (unmasked(0x01, b"a") + unmasked(0x82, b"b"), 1002),
    "long text": (b"\x81\x7e\x03\xe9" + b"a" * 1001, 1009),
    "long binary": (b"\x82\x7e\x03\xe9" + b"a" * 1001, 1009),
    "a length that says petabytes": (b"\x82\x7f" + b"\xff" * 8, 1009),
    "long in fragments": (unmasked(0x02, b"a" * 100) + b"\x80\x7e\x03\x85" + b"a" * 901, 1009),
}


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_ends_the_stream_with_the_code_of_the_library(name: str, size: int) -> None:
    wrong, code = WRONG[name]
    stream = unmasked(0x81, b"before") + wrong + unmasked(0x81, b"after")

    arrived, our_code = ours(stream, is_masked=False, cuts=iter([size] * 10_000), bytes_max=1000)

    assert our_code == code
    assert arrived == [("text", b"before")]
    assert judged(stream, is_masked=False, bytes_max=1000)[1] == code


@pytest.mark.parametrize("seed", range(200))
def test_garbage_never_brings_anything_but_a_frame_error(seed: int) -> None:
    dice = random.Random(seed)
    # Half of them begin with a frame that is right, so that more of the reader is reached.
    stream = (b"" if seed % 2 else unmasked(0x01, b"a")) + dice.randbytes(300)

    arrived, code = ours(stream, is_masked=False, cuts=random_cuts(dice), bytes_max=50)

    assert code in (None, 1002, 1007, 1009)
    assert all(len(data) <= 125 for _, data in arrived)


def test_an_unmasked_frame_of_a_client_is_refused() -> None:
    assert ours(unmasked(0x81, b"a"), is_masked=True, cuts=iter([9])) == ([], 1002)


@pytest.mark.parametrize("payload", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"a" * 40_000 + b"\xc3"])
def test_text_that_is_no_utf8_is_refused(payload: bytes) -> None:
    stream = Frame(Opcode.TEXT, payload).serialize(mask=False)

    assert ours(stream, is_masked=False, cuts=iter([10**6])) == ([], 1007)


def test_text_and_binary_have_limits_of_their_own() -> None:
    def read(stream: bytes) -> list[Arrived]:
        collector = Collector()
        reader = FrameReader(
            collector,
            is_masked=False,
            text_bytes_max=10,
            binary_bytes_max=20,
            scratch=bytearray(SCRATCH_BYTES),
        )
        reader.feed(stream)
        return collector.arrived

    assert read(unmasked(0x81, b"a" * 10) + unmasked(0x82, b"b" * 20)) == [
        ("text", b"a" * 10),
        ("binary", b"b" * 20),
    ]
    for too_long in (
        unmasked(0x81, b"a" * 11),
        unmasked(0x82, b"a" * 21),
        unmasked(0x01, b"a" * 10) + unmasked(0x80, b"a"),
        unmasked(0x02, b"a" * 20) + unmasked(0x80, b"a"),
    ):
        with pytest.raises(FrameError, match="1009"):
            read(too_long)


def test_a_header_alone_allocates_little() -> None:
    reader = FrameReader(
        Collector(),
        is_masked=False,
        text_bytes_max=2**40,
        binary_bytes_max=2**40,
        scratch=bytearray(SCRATCH_BYTES),
    )

    reader.feed(b"\x82\x7f" + (2**39).to_bytes(8, "big"))

    assert len(reader.buffer()) <= 2**21


def test_a_frame_larger_than_one_segment_arrives_whole() -> None:
    payload = random.Random(1).randbytes(5 * 1024 * 1024 + 13)
    for is_masked in (True, False):
        stream = Frame(Opcode.BINARY, payload).serialize(mask=is_masked)

        arrived, code = ours(stream, is_masked=is_masked, cuts=iter([99_999] * 60))

        assert code is None
        assert arrived == [("binary", payload)]


@pytest.mark.parametrize("is_masking", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_written_frame_is_read_by_the_library(size: int, is_masking: bool) -> None:
    writer = FrameWriter(is_masking=is_masking)
    payload = random.Random(size).randbytes(size)
    stream = b"".join(
        bytes(part)
        for opcode, data in ((BINARY, payload), (TEXT, b"hello"), (PONG, b"x"))
        for part in writer.frame(opcode, memoryview(data))
    )

    assert judged(stream, is_masked=is_masking) == (
        [("binary", payload), ("text", b"hello"), (str(PONG), b"x")],
        None,
    )


@pytest.mark.parametrize("sizes", [(1,), (0, 5), (3, 70_000), (141, 2**20), (5, 0, 6, 7)])
def test_parts_masked_one_by_one_are_one_message_for_the_library(sizes: tuple[int, ...]) -> None:
    dice = random.Random(1)
    parts = [dice.randbytes(size) for size in sizes]
    writer = FrameWriter(is_masking=True)

    stream = b"".join(bytes(piece) for piece in writer.masked_parts(BINARY, parts))

    arrived, code = judged(stream, is_masked=True)
    assert (arrived, code) == ([("binary", b"".join(parts))], None)


def test_no_two_frames_share_a_masking_key() -> None:
    drawn: list[int] = []

    def random_bytes(count: int) -> bytes:
        drawn.append(count)
        return random.Random(len(drawn)).randbytes(count)

    writer = FrameWriter(is_masking=True, random_bytes=random_bytes)

    keys = [bytes(writer.frame(PING, b"")[0])[-4:] for _ in range(3000)]

    assert len(set(keys)) == 3000
    assert len(drawn) == 3


def test_a_close_reason_is_cut_to_what_fits_and_stays_utf8() -> None:
    payload = close_payload(1008, "é" * 100)

    assert len(payload) <= 125
    assert parse_close(payload) == (1008, "é" * 61)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)],
)
def test_a_wrong_close_frame_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        parse_close(payload)

    assert caught.value.code == code


def test_memory_of_any_shape_becomes_plain_bytes() -> None:
    numbers = memoryview(bytes(range(24))).cast("I", (2, 3))
    every_other = memoryview(bytes(range(10)))[::2]
    empty = memoryview(b"").cast("I")

    assert bytes(flat(numbers)) == bytes(range(24))
    assert len(flat(numbers)) == 24
    assert bytes(flat(every_other)) == bytes(range(0, 10, 2))
    assert bytes(flat(empty)) == b""
