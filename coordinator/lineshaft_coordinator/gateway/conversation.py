"""One connection of a seed client: hears messages, and answers them in the order they came.

Theory. What arrives waits in the inbox; one task takes it out, message by message, and puts a reply
for each into the outbox; another task awaits the replies and sends them, in this order. A plan or a
Python job is answered before the next message is taken out, as upstream does it: a client may rely
on its first plan when it sends the second. Chunks of streams overlap, as many as the outbox holds.
Only CancelPlan acts when it arrives, or it would come too late; its answer waits for its turn.

Nothing is said that was not asked for, not even a WebSocket ping: upstream's clients take anything
but the answer for the end. When the connection ends, its plans and streams are cancelled, since
nobody could be told of their results; Python jobs go on.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.gateway.job_client import JobClient
from lineshaft_coordinator.gateway.machines import capabilities
from lineshaft_coordinator.gateway.payloads import apart
from lineshaft_coordinator.gateway.plans import Plans
from lineshaft_coordinator.gateway.python_jobs import PythonJobs
from lineshaft_coordinator.gateway.replies import (
    bad_message_text,
    cancel_text,
    error_text,
    result_text,
)
from lineshaft_coordinator.gateway.running_plans import RunningPlans
from lineshaft_coordinator.gateway.streams import Streams
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import (
    ApplyGradients,
    AssignPlan,
    AssignPythonJob,
    CancelPlan,
    ChunkData,
    ChunkResult,
    Dialect,
    GetGradients,
    GetState,
    Ping,
    Pong,
    Register,
    Registered,
    SerializedPlan,
    SetState,
    Shutdown,
    StatusRequest,
    StreamBegin,
    StreamComplete,
    StreamEnd,
    decode_stream,
    decode_to_worker,
    dialect_of,
    encode,
    stream_error_reply,
)
from lineshaft_runtime.connection import Connection, Limits

logger = logging.getLogger(__name__)

WINDOW = 32
"""Replies that may be awaited at once: so many chunks of streams run together."""
INBOX_BYTES_MAX = 8 * 1024 * 1024
INBOX_MAX = 1024
"""Messages, or their bytes, that wait when the client is made to wait, too."""
IDLE_S = 3600.0
"""A client that is quiet for so long is let go: without pings we cannot know that it lives."""
CANCEL_BYTES_MAX = 4096

LIMITS = Limits(
    text_bytes=64 * 1024 * 1024,
    binary_bytes=64 * 1024 * 1024,
    frame_bytes=8 * 1024 * 1024,
    ping_interval_s=None,
)
"""Clients of dialects A and B read frames of up to 16 MiB, and take a ping for the end."""

Reply: TypeAlias = Callable[[], Awaitable[str | bytes | None]]
"""Gives a text or a binary message when its turn to be sent has come, or nothing."""


@dataclass(frozen=True, slots=True)
class Desks:
    """Who does what clients ask; the same for all connections."""

    worker_id: str
    """The name under which the gateway goes for a worker."""
    shop: Shop
    sessions: Sessions
    plans: Plans
    python_jobs: PythonJobs
    running: RunningPlans


@dataclass(frozen=True, slots=True)
class _Heard:
    data: bytes | bytearray
    is_text: bool
    is_cancelled: bool | None = None
    """For CancelPlan: whether it found something to cancel when it arrived."""


class Conversation:
    """Hears one connection.

    Args:
        desks: Who does the work.
        identity: Names the client's token: what it left here before is its own.
    """

    def __init__(self, desks: Desks, identity: str) -> None:
        self._desks, self._identity = desks, identity
        self._inbox: asyncio.Queue[_Heard] = asyncio.Queue()
        self._inbox_bytes = 0
        self._is_paused = False
        self._outbox: asyncio.Queue[Reply] = asyncio.Queue(WINDOW)
        self._writable = asyncio.Event()
        self._dialect: Dialect = "unknown"
        self._is_positional = False
        self._connection: Connection
        self._client: JobClient
        self._streams: Streams
        self._task: asyncio.Task[None]

    # --- the connection ---

    def on_open(self, connection: Connection) -> None:
        """Begin to talk."""
        self._connection = connection
        client_id = _client_id(self._identity, connection.peer)
        self._client = JobClient(self._desks.sessions, client_id, self._identity)
        self._streams = Streams(self._desks.plans, self._client, self._identity)
        self._task = asyncio.create_task(self._talk())
        self._task.add_done_callback(self._on_done)

    def on_text(self, connection: Connection, data: bytes) -> None:
        """A message; it waits for its turn."""
        del connection
        is_cancelled = None
        if len(data) <= CANCEL_BYTES_MAX and b'"CancelPlan"' in data:
            is_cancelled = self._cancel(data)
        self._hear(_Heard(data, is_text=True, is_cancelled=is_cancelled))

    def on_binary(self, connection: Connection, data: bytes | bytearray) -> None:
        """A frame of a stream; it waits for its turn."""
        del connection
        self._hear(_Heard(data, is_text=False))

    def on_writable(self, connection: Connection) -> None:
        """The client caught up."""
        del connection
        self._writable.set()

    def on_close(self, connection: Connection, code: int | None, reason: str) -> None:
        """The client is gone."""
        fields = {"peer": connection.peer, "code": code, "why": reason}
        logger.debug("seed client left", extra=fields)
        self._task.cancel()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "a conversation broke", exc_info=error, extra={"peer": self._connection.peer}
            )
            self._connection.close(1011, "internal error")

    def _hear(self, heard: _Heard) -> None:
        self._inbox.put_nowait(heard)
        self._inbox_bytes += len(heard.data)
        is_full = self._inbox_bytes > INBOX_BYTES_MAX or self._inbox.qsize() > INBOX_MAX
        if is_full and not self._is_paused:
            self._is_paused = True
            self._connection.pause_reading()

    async def _next(self) -> _Heard:
        heard = await self._inbox.get()
        self._inbox_bytes -= len(heard.data)
        is_low = self._inbox_bytes <= INBOX_BYTES_MAX // 2 and self._inbox.qsize() <= INBOX_MAX // 2
        if self._is_paused and is_low:
            self._is_paused = False
            self._connection.resume_reading()
        return heard

    # --- the two tasks ---

    async def _talk(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._take_turns())
                group.create_task(self._send_replies())
        finally:
            await self._streams.close()
            self._client.close()

    async def _take_turns(self) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    heard = await self._next()
            except TimeoutError:
                await self._outbox.join()
                self._connection.close(1000, "nothing was heard for an hour")
                return
            if heard.is_text:
                await self._on_message(heard)
            else:
                await self._on_frame(bytes(heard.data))

    async def _send_replies(self) -> None:
        while True:
            reply = await self._outbox.get()
            message = await reply()
            if message is not None:
                await self._send(message)
            self._outbox.task_done()

    async def _send(self, message: str | bytes) -> None:
        while not self._connection.is_writable:
            self._writable.clear()
            await self._writable.wait()
        if isinstance(message, str):
            self._connection.send_text(message)
        else:
            self._connection.send_binary(message)

    async def _answer(self, message: str) -> None:
        async def reply() -> str:
            return message

        await self._outbox.put(reply)

    # --- messages ---

    async def _on_message(self, heard: _Heard) -> None:
        try:
            message = await apart(len(heard.data), lambda: decode_to_worker(bytes(heard.data)))
        except ProtocolError as error:
            await self._answer(bad_message_text(error, self._dialect))
            return
        match message:
            case AssignPlan(plan=plan):
                await self._assign_plan(plan, len(heard.data))
            case AssignPythonJob(job=job):
                await self._outbox.join()
                await self._desks.python_jobs.run(
                    job, identity=self._identity, client=self._client, say=self._say
                )
            case CancelPlan(plan_id=plan_id):
                await self._answer(
                    cancel_text(
                        plan_id,
                        is_cancelled=bool(heard.is_cancelled),
                        worker_id=self._desks.worker_id,
                        dialect=self._dialect,
                    )
                )
            case Ping():
                await self._answer(encode(Pong()))
            case StatusRequest():
                await self._answer(encode(self._register()))
            case Registered():
                pass
            case Shutdown():
                text = "not allowed: this is a coordinator, and its clients may not stop it"
                await self._answer(error_text(text, self._dialect))
            case GetState() | SetState() | GetGradients() | ApplyGradients():
                text = (
                    f"{type(message).__name__} is not supported: no filter lives here between "
                    "plans. States come with the result of a fit, and go with a plan's filters."
                )
                await self._answer(error_text(text, self._dialect))

    async def _assign_plan(self, plan: SerializedPlan, size_bytes: int) -> None:
        dialect = self._learn_dialect(plan)

        async def reply() -> str:
            result = await self._desks.plans.run(
                plan, identity=self._identity, client=self._client, size_bytes=size_bytes
            )
            return result_text(
                result, plan_id=plan.plan_id, worker_id=self._desks.worker_id, dialect=dialect
            )

        await self._outbox.put(reply)
        await self._outbox.join()

    def _cancel(self, data: bytes) -> bool | None:
        try:
            message = decode_to_worker(data)
        except ProtocolError:
            return None  # Answered when its turn comes.
        if not isinstance(message, CancelPlan):
            return None
        return self._desks.running.cancel(self._identity, message.plan_id)

    def _register(self) -> Register:
        return Register(
            worker_id=self._desks.worker_id, capabilities=capabilities(self._desks.shop)
        )

    def _say(self, message: str) -> None:
        # What a job tells while it runs is small, and its client asked for it.
        self._connection.send_text(message)

    def _learn_dialect(self, plan: SerializedPlan) -> Dialect:
        """Tell the dialect of a plan; what the connection says otherwise is in the last one."""
        dialect = dialect_of(plan)
        if dialect != "unknown":
            self._dialect = dialect
        return dialect

    # --- streams ---

    async def _on_frame(self, data: bytes) -> None:
        # Only A and B write structs as lists. They answer a frame they cannot read with nothing.
        self._is_positional = self._is_positional or data[:1] in _LISTS
        try:
            message = await apart(len(data), lambda: decode_stream(data))
        except ProtocolError as error:
            if not self._is_positional and self._dialect != "B":
                await self._answer(stream_error_reply(error))
            return
        match message:
            case StreamBegin(plan=plan):
                self._learn_dialect(plan)
                refusal = self._streams.begin(message)
                if refusal is not None:
                    await self._outbox.put(refusal)
            case ChunkData():
                await self._outbox.put(self._streams.chunk(message, len(data), self._dialect))
            case StreamEnd():
                await self._outbox.put(self._streams.end(message))
            case ChunkResult() | StreamComplete():
                pass  # Ours to say; upstream's workers pass over it, too.


_LISTS = frozenset(bytes((first,)) for first in (*range(0x90, 0xA0), 0xDC, 0xDD))


def _client_id(identity: str, peer: str) -> str:
    """Name the client in a way that operators can read, and that is a name for us."""
    host = peer.rpartition(":")[0] or peer
    return re.sub(r"[^A-Za-z0-9_.:@+-]", "", f"seed-{identity}@{host}")[:128]
