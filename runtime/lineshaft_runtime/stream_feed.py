"""The client's end of a stream, for whoever feeds one: our client, and the gateway for its peers.

Theory. The feed keeps a chunk until its result is here, and a result counts as taken when its user
has it. It *attaches* whenever it may be that the other end does not know where it stands: when the
job is accepted, when the connection is a new one, when a worker says that the stream is open. Each
time is a new turn; the runner answers with where to go on, and then chunks leave again.
"""

from collections.abc import Callable, Sequence

from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.stream_flow import Inlet, Outlet
from lineshaft_protocol.stream_frames import (
    BytesLike,
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
)

SendFrame = Callable[[str, Sequence[BytesLike]], object]


class StreamFeed:
    """One stream, fed and read on one event loop.

    Args:
        stream_id: The job's.
        send: Sends a frame (second) of a stream (first), now or in its turn.
        on_results: Takes results, in order; `consumed` says when they are dealt with.
        on_room: Told that chunks may be put in again.
        on_fault: Told why the stream cannot go on.
    """

    def __init__(
        self,
        stream_id: str,
        send: SendFrame,
        *,
        on_results: Callable[[list[memoryview]], None],
        on_room: Callable[[], None],
        on_fault: Callable[[str], None],
    ) -> None:
        self.stream_id = stream_id
        self._send, self._on_results = send, on_results
        self._on_room, self._on_fault = on_room, on_fault
        self._outlet, self._inlet = Outlet(), Inlet()
        self._turn = 0
        self._is_ready = False

    @property
    def has_room(self) -> bool:
        """Whether the window takes another chunk."""
        return self._outlet.has_room

    @property
    def count(self) -> int:
        """How many chunks were put in."""
        return self._outlet.count

    def attach(self) -> None:
        """Say where we stand; the job is accepted, and the connection can be used."""
        self._turn += 1
        self._is_ready = False
        self._say(StreamAttach(self.stream_id, self._turn, self._outlet.first, self._inlet.next))

    def put(self, data: BytesLike) -> None:
        """Add a chunk; `push` sends it. It must not change any more."""
        self._outlet.put(data)

    def end(self) -> None:
        """No more chunks come; `push` says so."""
        self._outlet.end()

    def push(self) -> None:
        """Send what was put in, as soon as the runner can take it."""
        if not self._is_ready:
            return
        while (taken := self._outlet.take()) is not None:
            index, parts = taken
            sizes = tuple(map(len, parts))
            frame = ChunkData(self.stream_id, self._turn, index, sizes, b"")
            self._send(self.stream_id, encode_buffers(frame, parts))
        if (total := self._outlet.take_end()) is not None:
            self._say(StreamEnd(self.stream_id, self._turn, total))

    def consumed(self, sizes: Sequence[int]) -> None:
        """The next results, of these lengths, are dealt with: others may come."""
        for size in sizes:
            self._inlet.consume(size)
        if self._is_ready and (count := self._inlet.ack_due()) is not None:
            self._say(StreamAck(self.stream_id, self._turn, count))

    def on_frame(self, data: bytes | bytearray) -> None:
        """Take in what the other end says.

        Raises:
            ProtocolError: It breaks the rules.
        """
        match decode_frame(data):
            case ChunkResult() as frame:
                if frame.turn == self._turn:
                    self._on_result(frame)
            case StreamOpen():
                self.attach()
            case StreamReady(turn=turn, next_chunk=next_chunk):
                if turn == self._turn:
                    self._on_ready(next_chunk)
            case StreamAck(turn=turn, count=count):
                if turn == self._turn:
                    self._acknowledged(count)
            case StreamEnd(turn=turn, total_chunks=total):
                if turn == self._turn:
                    self._inlet.end(total)
            case StreamFault(reason=reason):
                self._on_fault(reason)
            case StreamAttach() | ChunkData() as frame:
                raise ProtocolError(f"{type(frame).__name__} is not for a client")

    def fault(self, reason: str) -> None:
        """The other end cannot be understood any more."""
        self._on_fault(reason)

    def _on_ready(self, next_chunk: int) -> None:
        self._outlet.rewind(next_chunk)
        self._is_ready = True
        self.push()
        if self._inlet.consumed:
            # The last one may have been lost in a cut.
            self._say(StreamAck(self.stream_id, self._turn, self._inlet.ack()))

    def _on_result(self, frame: ChunkResult) -> None:
        self._inlet.take(frame.chunk_index, frame.sizes)
        # Where there is one result for each chunk, it says that the chunk is not needed any more;
        # where there is one for all, all were acknowledged before.
        self._on_results(chunks_of(frame))
        self._acknowledged(frame.chunk_index + len(frame.sizes))

    def _acknowledged(self, count: int) -> None:
        self._outlet.acknowledge(count)
        if self._outlet.has_room:
            self._on_room()

    def _say(self, frame: StreamFrame) -> None:
        self._send(self.stream_id, encode_buffers(frame))
