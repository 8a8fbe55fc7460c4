"""Frames between daemon and runner: whole, in pieces, and from somebody who means ill."""

import msgpack
import pytest

from lineshaft_worker.runner.codes import CODES_MAX, CodeShelf
from lineshaft_worker.runner.files import Current, read_current
from lineshaft_worker.runner.frames import (
    Ack,
    Answer,
    Done,
    Execute,
    Frame,
    FrameError,
    FrameReader,
    Hello,
    Revoke,
    Revoked,
    Spawn,
    decode_one,
    encode,
)

FRAMES: list[Frame] = [
    Execute(1, "job", 2, "function", "f", "code", b"pickle", b"payload", 1.5, 2**40),
    Execute(1, "job", 2, "plan", "f", "", None, "/a/path", None, None),
    Revoke(3),
    Ack([1, 2]),
    Answer(4, None, ["exception", "E", "m", "t", None, None, None]),
    Hello("r", 12, 0),
    Done(1, "j", 1, "plan", "ok", b"r", 1, "", None, 1.0, 2.0, None, [0] * 3, [1] * 3, False),
    Revoked(3, True),
    Spawn(1, 2, "{}", None),
]


def test_frames_come_back_in_whatever_pieces_they_arrive() -> None:
    data = b"".join(map(encode, FRAMES))

    for size in (1, 7, len(data)):
        reader = FrameReader()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [frame for piece in pieces for frame in reader.feed(piece)] == FRAMES


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        msgpack.packb([]),
        msgpack.packb([99, 1]),
        msgpack.packb(["1"]),
        msgpack.packb([1]),
        msgpack.packb([1, "ticket"]),
        msgpack.packb({"tag": 1}),
        b"\xc1",
        b"\xdd\xff\xff\xff\xff" + b"\x00" * 1000,
        b"\x91" * 10_000,
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(data)


def test_a_frame_without_end_is_refused_before_it_fills_the_memory() -> None:
    reader = FrameReader()
    pieces = [b"\xc6\x00\x07\xff\xff", *[b"x" * 2**17] * 10]

    with pytest.raises(FrameError):
        list(map(reader.feed, pieces))


def test_one_frame_is_one_frame() -> None:
    assert decode_one(encode(Revoke(1))) == Revoke(1)
    with pytest.raises(FrameError):
        decode_one(encode(Revoke(1)) * 2)


def test_both_ends_keep_the_same_functions() -> None:
    shelf = CodeShelf[int]()
    for number in range(CODES_MAX):
        shelf.put(str(number), number)
    assert shelf.get("0") == 0

    shelf.put("one more", -1)

    assert shelf.get("0") == 0
    assert shelf.get("1") is None


def test_a_record_of_what_runs_is_whole_or_absent(tmp_path: object) -> None:
    folder = str(tmp_path)
    assert read_current(folder) is None
    current = Current(folder)
    assert read_current(folder) is None

    current.begin(b"first record")
    current.begin(b"second")

    assert read_current(folder) == b"second"
    current.end()
    assert read_current(folder) is None
