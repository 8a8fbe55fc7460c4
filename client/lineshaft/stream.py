"""Streams, as their users see them: results in order, while chunks are still being sent."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Self, cast

from lineshaft.job import packed_result
from lineshaft_runtime.packing import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lineshaft.fitted import Fitted
    from lineshaft.graph import Graph
    from lineshaft.loop_thread import HeldThread
    from lineshaft.pipeline import Pipeline
    from lineshaft.shell import Shell
    from lineshaft.stream_flow import StreamFlow


class AsyncStream:
    """Results of a stream, in the order of its chunks. `async for` reads it, once.

    Closing it, or dropping it, before its end cancels its job.
    """

    def __init__(self, flow: StreamFlow, shell: Shell, subject: Fitted | Pipeline | Graph) -> None:
        self._flow, self._shell, self._subject = flow, shell, subject
        self._finalizer = weakref.finalize(self, flow.abandon_soon)

    @property
    def id(self) -> str:
        """The job's name for the coordinator, as for `client.job(id)`."""
        return self._flow.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        """Wait for the next result.

        Raises:
            StopAsyncIteration: All chunks are answered.
            ChunkFailedError: A chunk failed; it names which.
            JobCancelledError: The stream was cancelled.
            LineshaftError: It ended otherwise.
            Exception: Whatever the source of the chunks raised.
        """
        data = await self._flow.next_result_async()
        if data is None:
            raise StopAsyncIteration
        return unpack(data)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def cancel(self, reason: str = "cancelled by its user") -> None:
        """End the stream: who reads it gets a `JobCancelledError`."""
        self._flow.abandon(reason)

    def close(self) -> None:
        """Read no more; the job is cancelled if it has not ended."""
        self._finalizer()

    async def fitted(self) -> Fitted:
        """Return what was streamed through, with what evolving filters have become.

        Raises:
            StreamNotOverError: It has not been read to its end.
            Exception: Whatever ended it otherwise.
        """
        data = await packed_result(self._shell, self._flow.outcome())
        return evolved(self._subject, cast("Mapping[str, object]", unpack(data)))


class Stream:
    """Results of a stream, in the order of its chunks. `for` reads it, once.

    Closing it, or dropping it, before its end cancels its job. To be read in one thread.
    """

    def __init__(
        self,
        flow: StreamFlow,
        shell: Shell,
        subject: Fitted | Pipeline | Graph,
        thread: HeldThread,
    ) -> None:
        self._flow, self._shell, self._subject, self._thread = flow, shell, subject, thread
        self._finalizer = weakref.finalize(self, flow.abandon_soon)

    @property
    def id(self) -> str:
        """The job's name for the coordinator, as for `client.job(id)`."""
        return self._flow.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        """Wait for the next result.

        Raises:
            StopIteration: All chunks are answered.
            ChunkFailedError: A chunk failed; it names which.
            JobCancelledError: The stream was cancelled.
            LineshaftError: It ended otherwise.
            Exception: Whatever the source of the chunks raised.
        """
        data = self._flow.next_result()
        if data is None:
            raise StopIteration
        return unpack(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self, reason: str = "cancelled by its user") -> None:
        """End the stream: who reads it gets a `JobCancelledError`."""
        self._thread.post(partial(self._flow.abandon, reason))

    def close(self) -> None:
        """Read no more; the job is cancelled if it has not ended."""
        self._finalizer()

    def fitted(self) -> Fitted:
        """Return what was streamed through, with what evolving filters have become.

        Raises:
            StreamNotOverError: It has not been read to its end.
            Exception: Whatever ended it otherwise.
        """
        data = self._thread.run(packed_result(self._shell, self._flow.outcome()))
        return evolved(self._subject, cast("Mapping[str, object]", unpack(data)))


def evolved(subject: Fitted | Pipeline | Graph, states: Mapping[str, object]) -> Fitted:
    """Return a graph with new states of some nodes."""
    from lineshaft.fitted import Fitted  # noqa: PLC0415 - only those who use plans pay
    from lineshaft.work import graph_of  # noqa: PLC0415 - likewise

    if isinstance(subject, Fitted):
        return Fitted(subject.graph, {**subject.states, **states})
    return Fitted(graph_of(subject), dict(states))
