"""WebSocket frames (RFC 6455) on the wire: cutting a byte stream into messages, and back.

The opening handshake stays with the `websockets` library; only frames after it are read and
written here. Why: docs/decisions/0002-websocket-transport.md.
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FINAL = 0x80

Buffer = bytes | bytearray | memoryview

SCRATCH_BYTES = 256 * 1024
# A frame of at least this many bytes is received straight into memory of its own.
_LARGE_BYTES = 32 * 1024
# Memory is taken as data arrive: a peer cannot make us allocate by a header alone.
_SEGMENT_BYTES = 2 * 1024 * 1024
_CONTROL_BYTES_MAX = 125
_REASON_BYTES_MAX = 123


class FrameError(Exception):
    """The peer broke the rules of the WebSocket protocol or our limits; close with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class FrameSink(Protocol):
    """Takes what a `FrameReader` found, in order."""

    def text_arrived(self, data: bytes) -> None:
        """Take one whole text message, known to be UTF-8."""
        ...

    def binary_arrived(self, data: bytes | bytearray) -> None:
        """Take one whole binary message; the receiver owns the buffer."""
        ...

    def control_arrived(self, opcode: int, data: bytes) -> None:
        """Take the payload of one control frame."""
        ...


class FrameReader:
    """Cuts received bytes into whole messages.

    To receive, put bytes into `buffer()`, then tell `advance` how many.

    Args:
        sink: Who takes the messages.
        is_masked: Whether the peer must mask: clients must, servers must not.
        text_bytes_max: The longest text message accepted, over all its fragments.
        binary_bytes_max: The longest binary message accepted, over all its fragments.
        scratch: Memory for short frames, at least 64 KiB. Readers may share it as long as
            nothing runs between `buffer` and `advance` of one of them.
    """

    def __init__(
        self,
        sink: FrameSink,
        *,
        is_masked: bool,
        text_bytes_max: int,
        binary_bytes_max: int,
        scratch: bytearray,
    ) -> None:
        assert len(scratch) >= 2 * _LARGE_BYTES, "the scratch buffer holds any short frame"
        self._sink = sink
        self._is_masked = is_masked
        self._text_bytes_max = text_bytes_max
        self._binary_bytes_max = binary_bytes_max
        self._scratch = scratch
        self._view = memoryview(scratch)
        self._tail = b""  # the beginning of a short frame whose rest has not arrived
        self._large: _LargeFrame | None = None
        self._opcode = 0  # of the fragmented message being collected; 0: none
        self._collected = bytearray()

    def buffer(self) -> memoryview:
        """Give the memory to put the next bytes into; never empty."""
        if self._large is not None:
            return self._large.room()
        if tail := self._tail:
            self._view[: len(tail)] = tail
            return self._view[len(tail) :]
        return self._view

    def advance(self, count: int) -> None:
        """Take in the `count` bytes that were put into the last `buffer()`.

        Raises:
            FrameError: The peer's fault; this reader must not be used again.
        """
        large = self._large
        if large is None:
            self._cut(len(self._tail) + count)
        elif large.fill(count):
            self._large = None
            self._take(large.first, large.payload())

    def limit(self, *, text_bytes_max: int, binary_bytes_max: int) -> None:
        """Accept other lengths from the next frame on."""
        self._text_bytes_max, self._binary_bytes_max = text_bytes_max, binary_bytes_max

    def feed(self, data: bytes) -> None:
        """Take in bytes that were received elsewhere.

        Raises:
            FrameError: As `advance`.
        """
        position = 0
        while position < len(data):
            room = self.buffer()
            count = min(len(room), len(data) - position)
            room[:count] = data[position : position + count]
            self.advance(count)
            position += count

    def _cut(self, end: int) -> None:
        scratch, view, is_masked = self._scratch, self._view, self._is_masked
        text_arrived = self._sink.text_arrived
        position = 0
        while end - position >= 2:
            first = scratch[position]
            length = scratch[position + 1]
            if (length > 127) is not is_masked:
                raise FrameError(1002, "incorrect masking")
            length &= 127
            start = position + 2
            if length > 125:
                size = 2 if length == 126 else 8
                if end - start < size:
                    break
                length = int.from_bytes(view[start : start + size], "big")
                start += size
            is_plain_text = first == FINAL | TEXT and not self._opcode
            if not is_plain_text or length > self._text_bytes_max:
                self._check(first, length)
            if is_masked:
                start += 4
            stop = start + length
            if stop > end:
                if length >= _LARGE_BYTES and start <= end:
                    mask = bytes(view[start - 4 : start]) if is_masked else b""
                    self._large = _LargeFrame(first, mask, length, view)
                    self._large.append(view[start:end])
                    position = end
                break
            if is_masked:
                payload = apply_mask(view[start:stop], scratch[start - 4 : start])
            else:
                payload = bytes(view[start:stop])
            position = stop
            if is_plain_text and payload.isascii():
                text_arrived(payload)
            else:
                self._take(first, payload)
        self._tail = bytes(view[position:end])

    def _check(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError(1002, "reserved bits must be 0")
        if opcode in (CLOSE, PING, PONG):
            if length > _CONTROL_BYTES_MAX:
                raise FrameError(1002, "control frame too long")
            if not first & FINAL:
                raise FrameError(1002, "fragmented control frame")
            return
        if opcode not in (CONTINUATION, TEXT, BINARY):
            raise FrameError(1002, "invalid opcode")
        if opcode == CONTINUATION and not self._opcode:
            raise FrameError(1002, "unexpected continuation frame")
        if opcode != CONTINUATION and self._opcode:
            raise FrameError(1002, "expected a continuation frame")
        is_text = (self._opcode or opcode) == TEXT
        bytes_max = self._text_bytes_max if is_text else self._binary_bytes_max
        total = len(self._collected) + length
        if total > bytes_max:
            raise FrameError(1009, f"message of {total} bytes or more; the limit is {bytes_max}")

    def _take(self, first: int, payload: bytes | bytearray) -> None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            self._sink.control_arrived(opcode, bytes(payload))
        elif first & FINAL and not self._opcode:
            self._emit(opcode, payload)
        else:
            # One growing buffer, not a list: fragments of one byte must not cost fifty.
            self._collected += payload
            self._opcode = self._opcode or opcode
            if first & FINAL:
                opcode, self._opcode = self._opcode, 0
                message, self._collected = self._collected, bytearray()
                self._emit(opcode, message)

    def _emit(self, opcode: int, message: bytes | bytearray) -> None:
        if opcode == BINARY:
            self._sink.binary_arrived(message)
            return
        try:
            message.decode()
        except UnicodeDecodeError as error:
            raise FrameError(1007, f"{error.reason} at position {error.start}") from error
        self._sink.text_arrived(bytes(message))


class _LargeFrame:
    """One frame on its way in, collected in memory of its own.

    An unmasked payload is received straight into it. A masked one comes by way of the scratch
    buffer and is unmasked piece by piece: unmasking needs a second buffer in any case, and a
    small one that is still in the cache is cheaper than fresh pages for the whole frame.
    """

    def __init__(self, first: int, mask: bytes, length: int, scratch: memoryview) -> None:
        self.first = first
        self._mask = mask
        self._scratch = scratch
        self._missing = length
        self._segments: list[bytearray] = []
        self._filled = 0  # of the last segment

    def room(self) -> memoryview:
        return self._scratch[: self._missing] if self._mask else self._free()

    def fill(self, count: int) -> bool:
        """Count bytes put into `room`; tell whether the frame is whole."""
        if self._mask:
            return self.append(self._scratch[:count])
        self._filled += count
        self._missing -= count
        return not self._missing

    def append(self, data: memoryview) -> bool:
        """Take in bytes from elsewhere; tell whether the frame is whole."""
        if mask := self._mask:
            self._mask = mask[len(data) % 4 :] + mask[: len(data) % 4]
            data = memoryview(apply_mask(data, mask))
        while data:
            free = self._free()
            count = min(len(free), len(data))
            free[:count] = data[:count]
            data = data[count:]
            self._filled += count
            self._missing -= count
        return not self._missing

    def payload(self) -> bytes | bytearray:
        segments = self._segments
        return segments[0] if len(segments) == 1 else b"".join(segments)

    def _free(self) -> memoryview:
        if not self._segments or self._filled == len(self._segments[-1]):
            self._segments.append(bytearray(min(self._missing, _SEGMENT_BYTES)))
            self._filled = 0
        return memoryview(self._segments[-1])[self._filled :]


class FrameWriter:
    """Puts messages into frames.

    Args:
        is_masking: Whether to mask, as clients must.
        random_bytes: Source of masking keys; they must not be predictable.
    """

    def __init__(
        self, *, is_masking: bool, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._is_masking = is_masking
        self._random_bytes = random_bytes
        self._masks = b""
        self._masks_used = 0

    def frame(self, opcode: int, payload: Buffer) -> tuple[bytes, Buffer]:
        """Give header and payload as they go on the wire, one after the other."""
        head = self.head(opcode, len(payload))
        if not self._is_masking:
            return head, payload
        mask = self._next_mask()
        return head + mask, apply_mask(payload, mask)

    def frames(
        self, opcode: int, payload: Buffer, frame_bytes: int
    ) -> Iterator[tuple[bytes, Buffer]]:
        """Give a message in frames of at most so many bytes of payload."""
        if len(payload) <= frame_bytes:
            yield self.frame(opcode, payload)
            return
        view = memoryview(payload)
        for start in range(0, len(view), frame_bytes):
            head, piece = self.frame(CONTINUATION if start else opcode, view[start:][:frame_bytes])
            is_last = start + frame_bytes >= len(view)
            yield head if is_last else bytes((head[0] & ~FINAL,)) + head[1:], piece

    def masked_parts(self, opcode: int, parts: Sequence[Buffer]) -> Iterator[Buffer]:
        """Give one frame of several parts, masked one by one: they are never joined first."""
        assert self._is_masking, "without masking, the parts go out as they are"
        mask = self._next_mask()
        yield self.head(opcode, sum(map(len, parts))) + mask
        for part in parts:
            yield apply_mask(part, mask)
            mask = mask[len(part) % 4 :] + mask[: len(part) % 4]

    def head(self, opcode: int, length: int) -> bytes:
        """Give the header of a frame, up to where a masking key would follow."""
        first, bit = FINAL | opcode, 0x80 if self._is_masking else 0
        if length < 126:
            return bytes((first, bit | length))
        if length < 65536:
            return bytes((first, bit | 126)) + length.to_bytes(2, "big")
        return bytes((first, bit | 127)) + length.to_bytes(8, "big")

    def _next_mask(self) -> bytes:
        # Keys come from one call for many: the system call is dearer than a short frame.
        start = self._masks_used
        if start == len(self._masks):
            self._masks, start = self._random_bytes(4096), 0
        self._masks_used = start + 4
        return self._masks[start : start + 4]


def flat(data: Buffer) -> Buffer:
    """Give the same memory as plain bytes, whatever its items were."""
    if not isinstance(data, memoryview):
        return data
    if data.nbytes == 0:
        return b""
    if data.ndim == 1 and data.format == "B" and data.c_contiguous:
        return data
    # A cast knows only C order and formats of one letter; the rest, which is rare, is copied.
    return data.cast("B") if data.c_contiguous and len(data.format) == 1 else data.tobytes()


def close_payload(code: int, reason: str) -> bytes:
    """Build the payload of a close frame; a long reason is cut to what fits."""
    assert 1000 <= code < 5000, f"a close code lies from 1000 to 4999, not {code}"
    short = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
    return struct.pack("!H", code) + short.encode()


def parse_close(data: bytes) -> tuple[int, str]:
    """Read the payload of a close frame; code 1005 stands for an empty one.

    Raises:
        FrameError: It is malformed, or its code must not be sent.
    """
    from websockets.exceptions import ProtocolError as BadCloseError  # noqa: PLC0415 - at the end
    from websockets.frames import Close  # noqa: PLC0415 - likewise

    try:
        close = Close.parse(data)
    except BadCloseError as error:
        raise FrameError(1002, str(error)) from error
    except UnicodeDecodeError as error:
        raise FrameError(1007, f"close reason: {error.reason}") from error
    return close.code, close.reason
