"""Damaged frames are read or refused, and nothing else happens."""

from random import Random

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import decode_from_worker, decode_stream, decode_to_worker

from .conftest import Frame


def damaged(data: bytes, random: Random) -> bytes:
    """Change a few bytes, by others of the same frame or by any, and sometimes cut or double."""
    frame = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(frame))
        match random.randrange(4):
            case 0:
                frame[at] = random.randrange(256)
            case 1:
                frame[at] = frame[random.randrange(len(frame))]
            case 2:
                del frame[at : at + random.randrange(1, 9)]
            case _:
                start = random.randrange(len(frame))
                frame[at:at] = frame[start : start + random.randrange(1, 9)]
        if not frame:
            return b""
    return bytes(frame)


def test_a_damaged_frame_of_a_real_peer_is_read_or_refused(frames: list[Frame]) -> None:
    random = Random("damage")
    outcomes = {"read": 0, "refused": 0}
    for frame in frames:
        whole = frame.binary or (frame.text or "").encode()
        if not 1 < len(whole) < 4_000:
            continue
        if frame.binary:
            decode = decode_stream
        else:
            decode = decode_to_worker if frame.to_worker else decode_from_worker
        for _ in range(20):
            try:
                decode(damaged(whole, random))
            except ProtocolError:
                outcomes["refused"] += 1
            else:
                outcomes["read"] += 1

    assert outcomes["read"] > 500
    assert outcomes["refused"] > 3_000
