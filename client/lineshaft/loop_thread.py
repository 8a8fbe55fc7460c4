"""An event loop in a thread of its own, for those who have none."""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TypeVar

from lineshaft.errors import ClientClosedError, ForkedClientError

ResultT = TypeVar("ResultT")

STOP_S = 5.0
"""Longest wait for the thread's end, in seconds."""
CALLS_MAX = 1000
"""Most calls of other threads that are made before the loop has a turn."""


class LoopThread:
    """Runs an event loop in a daemon thread, and calls what other threads give it."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._calls: deque[Callable[[], None]] = deque()
        self._is_woken = False
        self._is_stopped = False
        self.together: Callable[[Callable[[], None]], None] = _call
        """Calls what makes the calls that were posted meanwhile."""
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is in this thread, where waiting for it would never end."""
        return threading.current_thread() is self._thread

    def post(self, call: Callable[[], None]) -> None:
        """Have something called soon, in order; cheap, and may be done from any thread.

        Raises:
            ForkedClientError: This is a child of the process that has the thread.
            ClientClosedError: The thread was stopped.
        """
        self._check()
        self._calls.append(call)
        # Waking the loop costs a system call; one is enough for all that is posted meanwhile.
        if not self._is_woken:
            self._wake()

    def run(self, work: Coroutine[object, None, ResultT]) -> ResultT:
        """Run a coroutine there, and wait for its result.

        Raises:
            ForkedClientError: This is a child of the process that has the thread.
            ClientClosedError: The thread was stopped.
            Exception: Whatever the coroutine raised.
        """
        try:
            self._check()
            assert not self.is_current, "the loop's own thread cannot wait for it"
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self._is_stopped:
                raise ClientClosedError from None
            raise
        finally:
            # After Ctrl-C nobody wants the result any more.
            future.cancel()

    def iterate(self, items: AsyncGenerator[ResultT]) -> Generator[ResultT]:
        """Yield what an asynchronous generator yields there."""

        async def advance() -> ResultT | _End:
            return await anext(items, _END)

        try:
            while not isinstance(item := self.run(advance()), _End):
                yield item
        finally:
            with contextlib.suppress(ClientClosedError, ForkedClientError):
                self.run(items.aclose())

    def stop(self) -> None:
        """End the thread; what is still running there is cancelled."""
        if self._is_stopped or os.getpid() != self._pid:
            return
        self._is_stopped = True
        with contextlib.suppress(RuntimeError):  # The loop has ended by itself.
            self._loop.call_soon_threadsafe(self._loop.stop)
        if not self.is_current:
            self._thread.join(STOP_S)

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedClientError
        if self._is_stopped:
            raise ClientClosedError

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(_settled(self._loop))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._drain()

    def _wake(self) -> None:
        self._is_woken = True
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop was closed since we looked: the calls find the client closed.
            self._is_woken = False
            while self._calls:
                self.together(self._call_some)

    def _drain(self) -> None:
        # Before the calls are taken: who posts from now on wakes the loop again.
        self._is_woken = False
        try:
            self.together(self._call_some)
        finally:
            if self._calls and not self._is_woken:
                self._wake()

    def _call_some(self) -> None:
        # Threads that post all the time would else keep the loop from sending any of it, for as
        # long as they go on.
        calls = self._calls
        for _ in range(CALLS_MAX):
            if not calls:
                return
            calls.popleft()()


class HeldThread:
    """A client's thread, for what the client gave out: while that is there, so is the client.

    A client that nobody names any more is closed; `Client().run(...).result()` needs it still.
    """

    __slots__ = ("_owner", "_thread")

    def __init__(self, thread: LoopThread, owner: object) -> None:
        self._thread, self._owner = thread, owner

    def post(self, call: Callable[[], None]) -> None:
        """Have something called soon; see `LoopThread.post`."""
        self._thread.post(call)

    def run(self, work: Coroutine[object, None, ResultT]) -> ResultT:
        """Run a coroutine, and wait for its result; see `LoopThread.run`."""
        return self._thread.run(work)

    def iterate(self, items: AsyncGenerator[ResultT]) -> Generator[ResultT]:
        """Yield what an asynchronous generator yields; see `LoopThread.iterate`."""
        # Not just returned: what is half-way through holds the client, too.
        yield from self._thread.iterate(items)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop's where that is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra, and nothing that `import lineshaft` should load
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _call(work: Callable[[], None]) -> None:
    work()


class _End:
    """Follows the last item."""


_END = _End()


async def _settled(loop: asyncio.AbstractEventLoop) -> None:
    others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    await asyncio.gather(*others, return_exceptions=True)
