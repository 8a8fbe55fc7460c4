"""What lies between a stream's user and the event loop: chunks that wait, results that wait.

Chunks are taken from the user's iterable, and packed, in a thread of their own, so that a slow
source delays nobody, and one that waits for results in between does not lock itself up. Both
buffers are bounded: the thread waits when the window is full, and results are acknowledged as they
are read.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING

from lineshaft.endings import Ending, error_of
from lineshaft.errors import ChunkTooLongError, ClientClosedError, LineshaftError
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.stream_frames import CHUNK_BYTES_MAX
from lineshaft_runtime.packer import Packer
from lineshaft_runtime.stream_feed import StreamFeed

if TYPE_CHECKING:
    from lineshaft.shell import Shell
    from lineshaft.shipping import Prepared

WAITING_BYTES = 1024 * 1024
"""Packed chunks that wait for the loop, above which the source waits."""
WAITING_CHUNKS = 1024
CONSUMED_BYTES = 512 * 1024
"""Results read between two notes to the loop, in bytes."""

CLOSED_REASON = "its stream was closed"


class StreamFlow:
    """One stream of one client: bound to the client's loop, read from any one thread or task."""

    def __init__(self, shell: Shell, prepared: Prepared, total_chunks: int | None) -> None:
        self._shell, self._prepared = shell, prepared
        self.id = JobId(prepared.spec.job_id)
        self._total_chunks = total_chunks
        self._packer = Packer()  # of who feeds it
        self._loop = asyncio.get_running_loop()
        self._feed = StreamFeed(
            self.id,
            shell.send_frame,
            on_results=self._on_results,
            on_room=self._pour,
            on_fault=lambda reason: shell.jobs.cancel(self.id, reason),
        )
        # Shared between threads, under the lock.
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_fed = False
        self._is_pouring = False
        self._results: deque[memoryview] = deque()
        self._ending: Ending | None = None
        self._input_error: BaseException | None = None
        # Of the loop.
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        # Of the reader.
        self._taken: deque[memoryview] = deque()
        self._read_sizes: list[int] = []
        self._read_bytes = 0

    @property
    def ending(self) -> Ending | None:
        """How the job ended, once it has."""
        return self._ending

    # --- the loop ---

    def start(self, chunks: Iterable[object] | AsyncIterable[object]) -> None:
        """Submit the job and begin to feed it; called on the loop."""
        self._shell.open_stream(self._feed)
        self._shell.jobs.submit(self._prepared, self._on_end)
        if isinstance(chunks, AsyncIterable):
            self._shell.spawn(self._feed_from(chunks))
        else:
            name = f"lineshaft stream {self.id}"
            threading.Thread(
                target=self._feed_in_thread, args=(chunks,), name=name, daemon=True
            ).start()

    def abandon(self, reason: str = CLOSED_REASON) -> None:
        """Nobody reads any more: end the job; called on the loop."""
        if self._ending is None:
            self._shell.jobs.cancel(self.id, reason)

    def abandon_soon(self) -> None:
        """The same, from any thread."""
        if self._ending is None:
            self._call(self.abandon)

    def _on_results(self, results: list[memoryview]) -> None:
        with self._changed:
            self._results.extend(results)
            self._changed.notify_all()
        self._arrived.set()

    def _on_end(self, ending: Ending) -> None:
        self._shell.close_stream(self.id)
        with self._changed:
            self._ending = ending
            self._changed.notify_all()
        self._arrived.set()
        self._drained.set()

    def _pour(self) -> None:
        """Move chunks that wait into the window, as far as there is room."""
        with self._changed:
            self._is_pouring = False
            while self._waiting and self._feed.has_room:
                data = self._waiting.popleft()
                self._waiting_bytes -= len(data)
                self._feed.put(data)
            if self._is_fed and not self._waiting:
                self._is_fed = False
                self._feed.end()
            self._changed.notify_all()
        self._drained.set()
        self._feed.push()

    def _call(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # The loop is closed: so is the client, and all its streams.
            with self._changed:
                self._ending = self._ending or ClientClosedError(self.id)
                self._changed.notify_all()

    # --- the source ---

    def _feed_in_thread(self, chunks: Iterable[object]) -> None:
        count = 0
        try:
            for chunk in chunks:
                data = self._packed(chunk, count)
                count += 1
                with self._changed:
                    while self._is_full and self._ending is None:
                        self._changed.wait()
                    if self._ending is not None:
                        return
                    self._add(data)
            self._check_count(count)
        except BaseException as error:  # noqa: BLE001 - the reader's to see
            self._fail_input(error)
            return
        self._finish_input()

    async def _feed_from(self, chunks: AsyncIterable[object]) -> None:
        count = 0
        try:
            async for chunk in chunks:
                data = self._packed(chunk, count)
                count += 1
                while self._is_full and self._ending is None:
                    self._drained.clear()
                    await self._drained.wait()
                if self._ending is not None:
                    return
                self._add(data)
            self._check_count(count)
        except Exception as error:  # noqa: BLE001 - the reader's to see
            self._fail_input(error)
            return
        self._finish_input()

    @property
    def _is_full(self) -> bool:
        return self._waiting_bytes >= WAITING_BYTES or len(self._waiting) >= WAITING_CHUNKS

    def _packed(self, chunk: object, index: int) -> bytes:
        if self._total_chunks is not None and index >= self._total_chunks:
            raise WrongCountError(self.id, self._total_chunks, index + 1)
        # A copy: the source may use its memory again for the next chunk.
        data = b"".join(self._packer.pack(chunk, name=f"chunk {index}"))
        if len(data) > CHUNK_BYTES_MAX:
            raise ChunkTooLongError(f"chunk {index}", len(data))
        return data

    def _check_count(self, count: int) -> None:
        if self._total_chunks not in (None, count):
            raise WrongCountError(self.id, self._total_chunks or 0, count)

    def _add(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        # One wake-up is enough for all that is added meanwhile.
        if not self._is_pouring:
            self._is_pouring = True
            self._call(self._pour)

    def _finish_input(self) -> None:
        with self._changed:
            self._is_fed = True
        self._call(self._pour)

    def _fail_input(self, error: BaseException) -> None:
        with self._changed:
            self._input_error = error
            self._changed.notify_all()

        def stop() -> None:
            self.abandon(f"its input failed: {type(error).__name__}: {error}"[:200])
            self._arrived.set()

        self._call(stop)

    # --- the reader ---

    def next_result(self) -> memoryview | None:
        """Wait for the next packed result, in a thread that is not the loop's; None at the end.

        Raises:
            Exception: Whatever ended the stream otherwise, after the results before it.
        """
        if not self._taken:
            self._note_read()
            with self._changed:
                while not self._results and not self._is_over:
                    self._changed.wait()
                self._taken, self._results = self._results, self._taken
        return self._take_one()

    async def next_result_async(self) -> memoryview | None:
        """Wait for the next packed result, on the loop; None at the end.

        Raises:
            Exception: As `next_result`.
        """
        if not self._taken:
            self._note_read()
            while not self._results and not self._is_over:
                self._arrived.clear()
                await self._arrived.wait()
            self._taken, self._results = self._results, self._taken
        return self._take_one()

    @property
    def _is_over(self) -> bool:
        return self._ending is not None or self._input_error is not None

    def _take_one(self) -> memoryview | None:
        if not self._taken:
            self._raise_if_failed()
            return None
        result = self._taken.popleft()
        self._read_sizes.append(result.nbytes)
        self._read_bytes += result.nbytes
        if self._read_bytes >= CONSUMED_BYTES:
            self._note_read()
        return result

    def _note_read(self) -> None:
        if self._read_sizes:
            sizes, self._read_sizes, self._read_bytes = self._read_sizes, [], 0
            self._call(lambda: self._feed.consumed(sizes))

    def _raise_if_failed(self) -> None:
        if self._input_error is not None:
            raise self._input_error
        assert self._ending is not None, "it is over for one of two reasons"
        if (error := error_of(self._ending)) is not None:
            raise error

    def outcome(self) -> Outcome:
        """Return how the job ended.

        Raises:
            LineshaftError: It has not, or nobody will know.
            Exception: Whatever it raised.
        """
        ending = self._ending
        if ending is None:
            raise StreamNotOverError(self.id)
        if isinstance(ending, LineshaftError) or ending.status != "succeeded":
            self._raise_if_failed()
        assert not isinstance(ending, LineshaftError), "raised in the lines above"
        return ending


class WrongCountError(LineshaftError):
    """There were more or fewer chunks than `total_chunks` said."""

    def __init__(self, stream_id: str, total_chunks: int, count: int) -> None:
        super().__init__(
            f"stream {stream_id} was to have {total_chunks} chunks, but there "
            f"{'were' if count < total_chunks else 'are at least'} {count}"
        )
        self.stream_id, self.total_chunks, self.count = stream_id, total_chunks, count


class StreamNotOverError(LineshaftError):
    """What a stream leaves behind is known at its end: read it to the end first."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"stream {stream_id} is not over; read it to its end first")
        self.stream_id = stream_id
