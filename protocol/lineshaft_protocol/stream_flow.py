"""The two ends of one direction of a stream: what was sent and may be needed again, what arrived.

Theory. A stream has two directions, chunks one way and results the other, and each has an
`Outlet` at its sender and an `Inlet` at its receiver. Everything in a direction is numbered from
0. The outlet keeps what is not acknowledged, so that after a cut it goes on where the receiver
stands (`rewind`); it holds back what exceeds the window (`has_room`), and that is what keeps memory
flat in every process between. The inlet takes each number once and in order, and nothing after the
end. A break of these rules is the peer's fault: `ProtocolError`.

Frames of an earlier turn never come here: their receiver drops them (`stream_frames`).
"""

from collections import deque
from collections.abc import Sequence

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.stream_frames import BATCH_BYTES, CHUNK_BYTES_MAX, CHUNKS_MAX, BytesLike

WINDOW_BYTES = 16 * 1024 * 1024
"""Unacknowledged bytes of one direction above which the sender waits."""

WINDOW_CHUNKS = 8192
"""Unacknowledged chunks of one direction above which the sender waits."""

ACK_BYTES = 1024 * 1024
"""How much is taken in between two acknowledgements at most, in bytes."""

ACK_CHUNKS = 1024
"""How many chunks are taken in between two acknowledgements at most."""


class Outlet:
    """The sending end."""

    def __init__(self) -> None:
        self._kept: deque[BytesLike] = deque()
        self._kept_bytes = 0
        self._first = 0
        self._sent = 0
        self._total: int | None = None
        self._is_end_sent = False

    @property
    def first(self) -> int:
        """The first chunk that is not acknowledged, and so can be sent again."""
        return self._first

    @property
    def count(self) -> int:
        """How many chunks were put in, in all."""
        return self._first + len(self._kept)

    @property
    def kept_bytes(self) -> int:
        """Length of what is kept."""
        return self._kept_bytes

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be put in: the window is not full."""
        return self._kept_bytes < WINDOW_BYTES and len(self._kept) < WINDOW_CHUNKS

    @property
    def is_ended(self) -> bool:
        """Whether the end was put in."""
        return self._total is not None

    @property
    def is_done(self) -> bool:
        """Whether the end was put in and everything is acknowledged."""
        return self._total == self._first

    def put(self, data: BytesLike) -> int:
        """Add a chunk; returns its number. It must not change until it is acknowledged."""
        assert self._total is None, "nothing follows the end"
        self._kept.append(data)
        self._kept_bytes += len(data)
        return self.count - 1

    def end(self) -> None:
        """Nothing follows."""
        self._total = self.count

    def take(self) -> tuple[int, list[BytesLike]] | None:
        """Return the next chunks to be sent in one frame and the number of the first."""
        index = self._sent
        batch: list[BytesLike] = []
        size = 0
        while self._sent < self.count and len(batch) < CHUNKS_MAX:
            data = self._kept[self._sent - self._first]
            if batch and size + len(data) > BATCH_BYTES:
                break
            batch.append(data)
            size += len(data)
            self._sent += 1
        return (index, batch) if batch else None

    def take_end(self) -> int | None:
        """Return the number of all chunks once, when that is known and all are sent."""
        if self._total is None or self._is_end_sent or self._sent < self._total:
            return None
        self._is_end_sent = True
        return self._total

    def acknowledge(self, count: int) -> None:
        """Forget the chunks up to this number; one that is acknowledged already is fine.

        Raises:
            ProtocolError: So many were not sent.
        """
        if count > self._sent:
            raise ProtocolError(f"chunk {count - 1} is acknowledged, but was not sent")
        while self._first < count:
            self._kept_bytes -= len(self._kept.popleft())
            self._first += 1

    def rewind(self, next_chunk: int) -> None:
        """Send again from here on: the receiver has all before, on whatever connection.

        Raises:
            ProtocolError: It is acknowledged already, or there never was such a chunk.
        """
        if not self._first <= next_chunk <= self.count:
            raise ProtocolError(
                f"the peer goes on at chunk {next_chunk}; chunks {self._first} to {self.count} "
                "can be sent"
            )
        self._sent = next_chunk
        self._is_end_sent = False

    def start(self, first: int) -> None:
        """Begin with another number than 0: what is before was dealt with by another."""
        assert not self._kept, "an outlet starts empty"
        self._first = self._sent = first


class Inlet:
    """The receiving end: numbers only, the chunks go to who uses them."""

    def __init__(self) -> None:
        self._next = 0
        self._total: int | None = None
        self._consumed = 0
        self._unacked_bytes = 0
        self._acked = 0

    @property
    def next(self) -> int:
        """The number of the chunk that must come next."""
        return self._next

    @property
    def consumed(self) -> int:
        """How many are dealt with."""
        return self._consumed

    @property
    def total(self) -> int | None:
        """How many there are in all, once that is known."""
        return self._total

    @property
    def is_done(self) -> bool:
        """Whether all chunks there are were dealt with."""
        return self._total == self._consumed

    def start(self, first: int) -> None:
        """Begin with another number than 0."""
        self._next = self._consumed = self._acked = first

    def take(self, index: int, sizes: Sequence[int]) -> None:
        """Note chunks that arrived.

        Raises:
            ProtocolError: They come out of order, again, after the end, or are too long.
        """
        if self._total is not None and index + len(sizes) > self._total:
            raise ProtocolError(
                f"chunk {index + len(sizes) - 1} arrived after the end: there are {self._total}"
            )
        if index < self._next:
            raise ProtocolError(f"chunk {index} arrived twice; {self._next} was expected")
        if index > self._next:
            raise ProtocolError(f"chunk {index} arrived, but {self._next} is missing")
        if max(sizes) > CHUNK_BYTES_MAX:
            raise ProtocolError(
                f"a chunk of {max(sizes)} bytes arrived; the limit is {CHUNK_BYTES_MAX}"
            )
        if index + len(sizes) - self._consumed > 2 * WINDOW_CHUNKS:
            raise ProtocolError("more chunks are on their way than the window allows")
        self._next += len(sizes)

    def end(self, total: int) -> None:
        """Note that there are so many.

        Raises:
            ProtocolError: Some are missing, or another number was said before.
        """
        if self._total not in (None, total):
            raise ProtocolError(f"the stream ended twice: at {self._total} and at {total}")
        if total != self._next:
            raise ProtocolError(f"the stream ends at {total}, but chunk {self._next} comes next")
        self._total = total

    def consume(self, size_bytes: int) -> None:
        """Note that the next chunk was dealt with."""
        assert self._consumed < self._next, "only what arrived is dealt with"
        self._consumed += 1
        self._unacked_bytes += size_bytes

    def ack_due(self) -> int | None:
        """Return the count to acknowledge now, if it is time: enough is taken in, or all."""
        new = self._consumed - self._acked
        if not new:
            return None
        is_due = (
            self._consumed == self._next or self._unacked_bytes >= ACK_BYTES or new >= ACK_CHUNKS
        )
        return self.ack() if is_due else None

    def ack(self) -> int:
        """Return the count to acknowledge, due or not."""
        self._acked, self._unacked_bytes = self._consumed, 0
        return self._acked
