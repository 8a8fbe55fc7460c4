"""Calls to an object store, in threads of their own: few at a time, and none waited for for ever.

Theory. A store may hang: a network folder whose server is away blocks a thread until it is back,
and nothing can end that thread. So whoever waits counts how long no call of the lane has moved,
and gives up after that; the thread keeps its seat, so that hung calls do not pile up.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from lineshaft_runtime.object_errors import ObjectStoreUnreachableError
from lineshaft_runtime.object_places import Beat

Result = TypeVar("Result")
SILENCE_S = 120.0
WIDTH = 4


class ObjectLane:
    """Runs blocking calls beside the event loop. Used from one loop only.

    Args:
        url: Of the store, for errors.
        width: Calls at a time.
        silence_s: How long nothing may move before who waits is told so, in seconds.
    """

    def __init__(self, url: str, *, width: int = WIDTH, silence_s: float = SILENCE_S) -> None:
        self._url, self._silence_s = url, silence_s
        self._seats = asyncio.Semaphore(width)
        self._moved_at = 0.0

    async def run(self, call: Callable[[Beat], Result]) -> Result:
        """Call in a thread what takes a beat to call when it gets on.

        When we are cancelled, the call goes on by itself to its end.

        Raises:
            ObjectStoreUnreachableError: Nothing has moved for too long.
            Exception: Whatever the call raised.
        """
        loop = asyncio.get_running_loop()
        seat = asyncio.ensure_future(self._seats.acquire())
        try:
            await self._patiently(seat)
        except BaseException:
            if not seat.cancel() and not seat.cancelled() and seat.exception() is None:
                self._seats.release()
            raise
        answer: asyncio.Future[Result] = loop.create_future()

        def beat() -> None:
            self._moved_at = loop.time()

        def end(settle: Callable[[], None]) -> None:
            beat()
            self._seats.release()
            if not answer.done():
                settle()

        def work() -> None:
            settle: Callable[[], None]
            try:
                result = call(beat)
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                raised = error
                settle = lambda: answer.set_exception(raised)  # noqa: E731
            else:
                settle = lambda: answer.set_result(result)  # noqa: E731
            with suppress(RuntimeError):  # The loop is closed: nobody waits.
                loop.call_soon_threadsafe(end, settle)

        # A daemon: a hung one must not keep the process from ending.
        threading.Thread(target=work, name="objects", daemon=True).start()
        try:
            await self._patiently(answer)
        except BaseException:
            answer.cancel()
            raise
        return answer.result()

    async def _patiently(self, waited: "asyncio.Future[Result] | asyncio.Task[bool]") -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not waited.done():
            left_s = max(since, self._moved_at) + self._silence_s - loop.time()
            if left_s <= 0:
                detail = f"it has not answered for {self._silence_s:g} s"
                raise ObjectStoreUnreachableError(self._url, detail)
            await asyncio.wait([waited], timeout=left_s)
