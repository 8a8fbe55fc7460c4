"""A seed client's stream on one of ours: one job for all its chunks, in a runner that is kept.

Upstream's chunks need not be numbered from 0, ours are; so results are matched by their order.
"""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from functools import partial

from lineshaft_coordinator.gateway.job_client import JobClient
from lineshaft_coordinator.gateway.plans import Plans, failed, new_job_id
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.seed import Failed, SerializedPlan
from lineshaft_protocol.stream_frames import BytesLike
from lineshaft_runtime.stream_feed import StreamFeed

_NUMBER = re.compile(r"^chunk \d+: ")


class RidingStream:
    """Feeds one job with the chunks of one stream.

    Args:
        plan: Complete, to run forward.
        plans: Makes its payload.
        client: Submits the job; who closes it ends the stream.
        size_bytes: Length of the plan.
    """

    def __init__(
        self, plan: SerializedPlan, *, plans: Plans, client: JobClient, size_bytes: int
    ) -> None:
        self._plan, self._plans, self._client = plan, plans, client
        self._waiting: deque[asyncio.Future[bytes | Failed]] = deque()
        self._ending: Failed | None = None
        job_id = new_job_id()
        self._feed = StreamFeed(
            job_id,
            self._send,
            on_results=self._on_results,
            on_room=lambda: None,
            on_fault=partial(client.cancel, job_id),
        )
        self._running = asyncio.create_task(self._run(size_bytes))

    def chunk(self, data: bytes) -> asyncio.Future[bytes | Failed]:
        """Take a chunk through; the future gives its result. Few may wait at a time."""
        result: asyncio.Future[bytes | Failed] = asyncio.get_running_loop().create_future()
        if self._ending is not None:
            result.set_result(self._ending)
        else:
            self._waiting.append(result)
            self._feed.put(data)
            self._feed.push()
        return result

    def end(self) -> None:
        """No more chunks come: the job ends by itself."""
        self._feed.end()
        self._feed.push()

    async def leave(self) -> None:
        """End the job, if it has not ended."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    # --- the relay's side (Port) ---

    def send_frame(self, stream_id: str, buffers: Sequence[BytesLike]) -> bool:
        """Take in what the worker says."""
        del stream_id
        self._feed.on_frame(b"".join(buffers))
        return True

    def close(self, reason: str) -> None:
        """Hear that the relay will have no more of it."""
        self._end(Failed(error=reason, duration_ms=0))

    # --- inside ---

    def _send(self, stream_id: str, buffers: Sequence[BytesLike]) -> None:
        del stream_id
        self._client.send_frame(self, b"".join(buffers))

    def _on_results(self, results: list[memoryview]) -> None:
        for each in results:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(bytes(each))
        self._feed.consumed([each.nbytes for each in results])

    async def _run(self, size_bytes: int) -> None:
        job = await self._plans.job_of(
            self._plan, size_bytes=size_bytes, job_id=self._feed.stream_id, kind="stream"
        )
        if isinstance(job, Failed):
            self._end(job)
            return
        ending = await self._client.run(job, on_accepted=self._feed.attach)
        self._client.forget_frames(self)
        if isinstance(ending, Outcome) and ending.status == "succeeded":
            self._end(Failed(error="the stream has ended", duration_ms=0))
        else:
            why = failed(ending)
            # Its own number of the chunk is the sender's to say.
            self._end(why.model_copy(update={"error": _NUMBER.sub("", why.error)}))

    def _end(self, ending: Failed) -> None:
        self._ending = ending
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(ending)
