"""Frames of several streams that share one connection: each in turn, and none before its time.

What a connection does not take at once waits here, not in its socket buffer, so that a control
message is behind one chunk at most and no stream waits for another's.
"""

from collections import deque
from collections.abc import Callable, Sequence

from lineshaft_protocol.stream_flow import WINDOW_BYTES
from lineshaft_protocol.stream_frames import CHUNK_BYTES_MAX, BytesLike

QUEUE_BYTES_MAX = 2 * (WINDOW_BYTES + CHUNK_BYTES_MAX)
"""Of one stream: who keeps to the window never has so much under way, also after a cut."""


class FairQueue:
    """See the module.

    Args:
        send: Sends one binary frame of several buffers.
        is_writable: Whether the connection takes more; call `flush` when it does again.
    """

    def __init__(
        self, send: Callable[[Sequence[BytesLike]], None], is_writable: Callable[[], bool]
    ) -> None:
        self._send, self._is_writable = send, is_writable
        self._waiting: dict[str, _Line] = {}

    def put(self, stream_id: str, buffers: Sequence[BytesLike]) -> bool:
        """Send a frame now or later; False if more of the stream waits than may."""
        if not self._waiting and self._is_writable():
            self._send(buffers)
            return True
        line = self._waiting.get(stream_id)
        if line is None:
            line = self._waiting[stream_id] = _Line()
        line.frames.append(buffers)
        line.size_bytes += _size(buffers)
        return line.size_bytes <= QUEUE_BYTES_MAX

    def flush(self) -> None:
        """Send what the connection takes: a frame of each stream, in turn."""
        waiting = self._waiting
        while waiting and self._is_writable():
            stream_id, line = next(iter(waiting.items()))
            del waiting[stream_id]
            buffers = line.frames.popleft()
            line.size_bytes -= _size(buffers)
            if line.frames:
                waiting[stream_id] = line  # Behind the others.
            self._send(buffers)

    def drop(self, stream_id: str) -> None:
        """Forget what waits of a stream."""
        self._waiting.pop(stream_id, None)

    def clear(self) -> None:
        """Forget everything: the connection is gone."""
        self._waiting.clear()


class _Line:
    """What waits of one stream."""

    __slots__ = ("frames", "size_bytes")

    def __init__(self) -> None:
        self.frames: deque[Sequence[BytesLike]] = deque()
        self.size_bytes = 0


def _size(buffers: Sequence[BytesLike]) -> int:
    return sum(map(len, buffers))
