"""The open streams of one client: who takes which frame, and who attaches when."""

from collections.abc import Callable

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.stream_frames import decode_frame
from lineshaft_runtime.stream_feed import StreamFeed


class Streams:
    """Those whose jobs have not ended."""

    def __init__(self) -> None:
        self._feeds: dict[str, StreamFeed] = {}
        self._accepted: set[str] = set()

    def add(self, feed: StreamFeed) -> None:
        """A stream begins."""
        self._feeds[feed.stream_id] = feed

    def remove(self, stream_id: str) -> None:
        """It has ended."""
        self._feeds.pop(stream_id, None)
        self._accepted.discard(stream_id)

    def accepted(self, stream_id: str) -> None:
        """The coordinator has a job; if it is a stream's, it can be attached to."""
        if (feed := self._feeds.get(stream_id)) is not None:
            self._accepted.add(stream_id)
            feed.attach()

    def attach_all(self) -> None:
        """The connection is a new one."""
        for stream_id, feed in self._feeds.items():
            if stream_id in self._accepted:
                feed.attach()

    def on_frame(self, data: bytes | bytearray) -> None:
        """Take in a frame; one of a stream that has ended is void.

        Raises:
            ProtocolError: It is not sound.
        """
        feed = self._feeds.get(decode_frame(data).stream_id)
        if feed is None:
            return
        try:
            feed.on_frame(data)
        except ProtocolError as error:
            # The job's own fault, not the coordinator's: only this stream ends.
            feed.fault(f"its runner broke the rules of streams: {error.reason}")

    def close(self, cancel: Callable[[JobId, str], None]) -> None:
        """The client is closed: without it no stream can go on."""
        for stream_id in tuple(self._feeds):
            cancel(JobId(stream_id), "its client was closed")
