"""Calls to an object store, in threads of their own: few at a time, and none waited for for ever.

Theory. A store may hang: a network folder whose server is away blocks a thread until it is back,
and nothing can end that thread. So whoever waits counts how long no call of the lane has moved,
and gives up after that; the thread keeps its seat, so that hung calls do not pile up.

That takes minutes, since a slow line may move nothing for long. So once nothing has moved for a
while the store is *probed* by a small question with a thread of its own. If that is not answered
either, the store is *out*: all who wait, and all who come, are told so at once, until a probe,
which goes on by itself, is answered.
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
DOUBT_S = 10.0
WIDTH = 4


class ObjectLane:
    """Runs blocking calls beside the event loop. Used from one loop only.

    Args:
        url: Of the store, for errors.
        probe: A question that a store which is well answers soon; None: it is never out.
        width: Calls at a time.
        silence_s: How long nothing may move before who waits is told so, in seconds.
        doubt_s: How long nothing may move before the store is probed, how long a probe may take,
            and the pause before the next one; in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        probe: Callable[[], object] | None = None,
        width: int = WIDTH,
        silence_s: float = SILENCE_S,
        doubt_s: float = DOUBT_S,
    ) -> None:
        self._url, self._probe = url, probe
        self._silence_s, self._doubt_s = silence_s, doubt_s
        self._seats = asyncio.Semaphore(width)
        self._moved_at = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        """Done once the store is out: who waits looks again."""
        self.outage: str | None = None
        """Why no call is made now; None while calls are made."""

    async def run(self, call: Callable[[Beat], Result]) -> Result:
        """Call in a thread what takes a beat to call when it gets on.

        When we are cancelled, the call goes on by itself to its end.

        Raises:
            ObjectStoreUnreachableError: The store is out, or nothing has moved for too long.
            Exception: Whatever the call raised.
        """
        if self.outage is not None:
            raise ObjectStoreUnreachableError(self._url, self.outage)
        loop = asyncio.get_running_loop()
        seat = asyncio.ensure_future(self._seats.acquire())
        try:
            await self._patiently(seat)
        except BaseException:
            if not seat.cancel() and not seat.cancelled() and seat.exception() is None:
                self._seats.release()
            raise

        def beat() -> None:
            self._moved_at = loop.time()

        def end() -> None:
            beat()
            self._seats.release()

        answer = self._start(lambda: call(beat), end)
        try:
            await self._patiently(answer)
        except BaseException:
            answer.cancel()
            raise
        return answer.result()

    @staticmethod
    def _start(call: Callable[[], Result], at_end: Callable[[], None]) -> "asyncio.Future[Result]":
        """Call in a thread; `at_end` is called on the loop, whether anybody waits or not."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()

        def end(settle: Callable[[], None]) -> None:
            at_end()
            if not answer.done():
                settle()

        def work() -> None:
            settle: Callable[[], None]
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                raised = error
                settle = lambda: answer.set_exception(raised)  # noqa: E731
            else:
                settle = lambda: answer.set_result(result)  # noqa: E731
            with suppress(RuntimeError):  # The loop is closed: nobody waits.
                loop.call_soon_threadsafe(end, settle)

        # A daemon: a hung one must not keep the process from ending.
        threading.Thread(target=work, name="objects", daemon=True).start()
        return answer

    async def _patiently(self, waited: "asyncio.Future[Result] | asyncio.Task[bool]") -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not waited.done():
            if self.outage is not None:
                raise ObjectStoreUnreachableError(self._url, self.outage)
            quiet_s = loop.time() - max(since, self._moved_at)
            if quiet_s >= self._silence_s:
                raise ObjectStoreUnreachableError(self._url, _silent_for(self._silence_s))
            limit_s = self._silence_s
            if self._probe is not None and quiet_s < self._doubt_s:
                limit_s = min(limit_s, self._doubt_s)
            elif self._probe is not None and self._probing is None:
                self._probing = asyncio.create_task(self._probe_until_well(self._probe))
            if self._news is None:
                self._news = loop.create_future()
            await asyncio.wait(
                [waited, self._news],
                timeout=limit_s - quiet_s,
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _probe_until_well(self, probe: Callable[[], object]) -> None:
        """Ask once; if that hangs, the store is out until it answers well."""
        try:
            while True:
                answer = self._start(probe, lambda: None)
                await asyncio.wait([answer], timeout=self._doubt_s)
                if not answer.done():
                    self._go_out(_silent_for(2 * self._doubt_s))
                    await asyncio.wait([answer])  # However long: one thread hangs, not many.
                error = answer.exception()
                if error is None or self.outage is None:
                    break  # An error that comes soon, each call has by itself.
                self.outage = str(error)
                await asyncio.sleep(self._doubt_s)
            self.outage = None
        finally:
            self._probing = None

    def _go_out(self, why: str) -> None:
        self.outage = why
        if self._news is not None:
            self._news.set_result(None)
            self._news = None


def _silent_for(seconds: float) -> str:
    return f"it has not answered for {seconds:g} s"
