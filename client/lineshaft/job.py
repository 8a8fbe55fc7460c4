"""One job, as its user sees it from an event loop."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import replace
from typing import Generic, Literal, TypeVar, cast

from pydantic import JsonValue

from lineshaft.endings import Ending, error_of, raise_no_result
from lineshaft.errors import LineshaftError, NotPausedError, QueryError
from lineshaft.fetching import at_hand, fetch
from lineshaft.job_events import Event, Log
from lineshaft.kept_files import AsyncKeptFile, files_of
from lineshaft.questions import LogPage, LogsWanted
from lineshaft.shell import Shell
from lineshaft.shipping import Prepared
from lineshaft_protocol.client_messages import Pause, Query, Resume, Retry
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.outcomes import Outcome
from lineshaft_runtime.packing import BytesLike, unpack

ResultT = TypeVar("ResultT")

Decode = Callable[[BytesLike], ResultT]


class AsyncJob(Generic[ResultT]):
    """A job that was submitted, here or elsewhere. Awaiting it gives its result.

    Who stops waiting, by a timeout or by being cancelled, does not stop the job; `cancel` does.
    """

    def __init__(self, shell: Shell, job_id: str, decode: Decode[ResultT] | None = None) -> None:
        self._shell = shell
        self._job_id = JobId(job_id)
        self._decode = decode or cast("Decode[ResultT]", unpack)
        self._ended: asyncio.Future[Ending] | None = None
        self._value: tuple[ResultT] | None = None

    @property
    def id(self) -> str:
        """Its name for the coordinator; `client.job(id)` finds it again, from anywhere."""
        return self._job_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __await__(self) -> Generator[object, None, ResultT]:
        """Wait for the result."""
        return self.result().__await__()

    def submit(self, prepared: Prepared) -> None:
        """Send it off. Called once, by the client that made it."""
        self._shell.jobs.submit(prepared, self._expect().set_result)

    async def result(self, timeout: float | None = None) -> ResultT:  # noqa: ASYNC109 - as in concurrent.futures
        """Wait for what the job returns.

        Args:
            timeout: Longest wait, in seconds.

        Raises:
            TimeoutError: The job has not ended in time; it goes on.
            JobCancelledError: It was cancelled.
            LineshaftError: It ended without a result, or the client was closed.
            Exception: Whatever it raised.
        """
        return self.value(*await self.settled(timeout))

    async def exception(self, timeout: float | None = None) -> Exception | None:  # noqa: ASYNC109 - as above
        """Wait for the job's end and return what its result raises; None if it has a result.

        Raises:
            TimeoutError: The job has not ended in time; it goes on.
        """
        ending, _ = await self.settled(timeout, with_data=False)
        return error_of(ending)

    async def status(self) -> str:
        """Tell where the job is: "queued", "running", "succeeded" and so on.

        Raises:
            QueryError: The coordinator does not know the job.
            ClientClosedError: The client is closed.
        """
        if self._ended is not None and self._ended.done():
            ending = self._ended.result()
            if not isinstance(ending, LineshaftError):
                return ending.status
        data = await self._ask("job")
        match data:
            case {"status": str(status)}:
                return status
            case _:
                return "unknown"

    async def why(self) -> JsonValue:
        """Tell why the job is where it is, or how it ended.

        Raises:
            QueryError: The coordinator does not know the job.
            ClientClosedError: The client is closed.
        """
        return await self._ask("why")

    async def story(self) -> JsonValue:
        """Return every record about the job, in order.

        Raises:
            QueryError: The coordinator does not know the job.
            ClientClosedError: The client is closed.
        """
        return await self._ask("story")

    def cancel(self, reason: str = "cancelled by its user") -> None:
        """End the job, whatever it is doing."""
        self._shell.jobs.cancel(self._job_id, reason)

    async def retry(self) -> AsyncJob[ResultT]:
        """Do a job that failed or was cancelled again, and return the new job.

        It has the same code, data and options; this one stays as it ended. Who asks twice before
        the new job has ended gets that one.

        Raises:
            JobNotFoundError: The coordinator does not know the job (any longer).
            PayloadLostError: What it was submitted with is gone.
            JobRefusedError: It has not ended, or succeeded.
            CoordinatorTooOldError: The coordinator is of a version without this.
            ClientClosedError: The client is closed.
        """
        known = await self._ask("job")
        number = known.get("next_retry") if isinstance(known, dict) else None
        # With its number, so that the question may be asked again after a cut.
        asked = Retry(
            request_id=0, job_id=self._job_id, number=number if isinstance(number, int) else None
        )
        match await self._shell.questions.ask(asked):
            case {"job_id": str(job_id)}:
                return AsyncJob(self._shell, job_id, self._decode)
            case answer:
                raise QueryError("retry", f"it said {answer}")

    async def pause(self, *, freeze: bool = False, grace: float | None = None) -> str:
        """Have the job save a checkpoint and end its attempt; it waits until `resume`.

        A job pauses that asks `run.should_pause()`, saves with `run.checkpoint` and returns. Its
        slot and GPUs are then free, and it goes on from that checkpoint on any worker.

        Args:
            freeze: Stop its processes where they are instead; it keeps its slot, memory and GPUs.
            grace: How long it may take, in seconds; then it goes on as before.

        Returns:
            "paused" or "frozen".

        Raises:
            NotPausedError: It could not save, did not react in time, or has ended.
            ClientClosedError: The client is closed.
        """
        await self._shell.jobs.kept(self._job_id)
        return await self._direct(
            Pause(request_id=0, job_id=self._job_id, freeze=freeze, grace_s=grace)
        )

    async def resume(self) -> str:
        """Let the job go on; returns where it is then, as "queued".

        Raises:
            NotPausedError: It has ended.
            ClientClosedError: The client is closed.
        """
        return await self._direct(Resume(request_id=0, job_id=self._job_id))

    async def _direct(self, message: Pause | Resume) -> str:
        try:
            data = await self._shell.questions.ask(message)
        except QueryError as error:
            raise NotPausedError(self._job_id, error.message) from error
        return str(data["status"]) if isinstance(data, dict) else "unknown"

    async def checkpoints(self) -> list[AsyncKeptFile]:
        """Return the checkpoints that are kept, the oldest first.

        Raises:
            QueryError: The coordinator does not know the job.
            ClientClosedError: The client is closed.
        """
        return files_of(self._shell, await self._ask("files"), "checkpoint")

    async def artifacts(self) -> list[AsyncKeptFile]:
        """Return what the job left in its folder `outputs`, or gave to `run.artifact`.

        Raises:
            QueryError: The coordinator does not know the job.
            ClientClosedError: The client is closed.
        """
        return files_of(self._shell, await self._ask("files"), "artifact")

    async def events(self, *, after: tuple[int, int] = (0, 0)) -> AsyncGenerator[Event]:
        """Yield what the job tells, from its beginning, and at last how it ended.

        A cut of the connection repeats nothing and leaves nothing out.

        Args:
            after: Only what stands behind this attempt and number in the job's history.

        Raises:
            LineshaftError: Nobody knows the job, or the client was closed.
        """
        feed = self._shell.jobs.feed(self._job_id, after)
        try:
            async for event in feed.read():
                yield event
        finally:
            self._shell.jobs.leave(self._job_id, feed)

    async def logs(
        self,
        *,
        follow: bool = True,
        attempt: int | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
        tail: int | None = None,
    ) -> AsyncGenerator[str]:
        """Yield what the job prints, from its beginning, in pieces that may end within a line.

        However much it is, only a few pieces are in memory.

        Args:
            follow: Go on until the job, or the attempt, ends; else stop at what there is.
            attempt: Only this one's output, from 1; by default of all, one after the other.
            stream: Only "stdout" or "stderr".
            tail: Begin at most so many lines before the end of what there is, 1 to 10,000.

        Raises:
            ValueError: There can be no such output.
            LineshaftError: Nobody knows the job, or the client was closed.
        """
        output = LogsWanted(attempt=attempt, stream=stream, tail=tail)
        async with aclosing(self.printed(output, follow=follow)) as pieces:
            async for log in pieces:
                yield log.text

    async def printed(self, output: LogsWanted, *, follow: bool) -> AsyncGenerator[Log]:
        """Yield what `logs` does, with where it was printed."""
        place = (0, 0)
        if not follow or output.tail is not None:
            page = await self.log_page(output)
            while True:
                for log in page.pieces:
                    yield log
                place = page.place
                if not page.has_more:
                    break
                page = await self.log_page(replace(output, tail=None), place)
        if not follow:
            return
        async with aclosing(self.events(after=max(place, (output.attempt or 0, 0)))) as events:
            async for event in events:
                if isinstance(event, Log) and output.has(event):
                    yield event
                elif output.is_over(event):
                    return

    async def log_page(self, output: LogsWanted, after: tuple[int, int] = (0, 0)) -> LogPage:
        """Return some output behind (attempt, seq), or its last lines if a tail is asked for.

        Raises:
            LineshaftError: Nobody knows the job, or the client was closed.
        """
        await self._shell.jobs.kept(self._job_id)
        query = Query(
            request_id=0,
            what="logs",
            job_id=self._job_id,
            attempt=output.attempt,
            stream=output.stream,
            tail=output.tail,
            after_attempt=after[0],
            after_seq=after[1],
        )
        return await self._shell.questions.logs(query)

    # --- for the client ---

    async def settled(
        self,
        timeout: float | None,  # noqa: ASYNC109 - as above
        *,
        with_data: bool = True,
    ) -> tuple[Ending, BytesLike | None]:
        """Wait until it is known how the job ended; return that and the packed result.

        Raises:
            TimeoutError: Not in time.
            LineshaftError: The result cannot be fetched.
        """
        async with asyncio.timeout(timeout):
            if self._ended is None:
                expected = self._expect()
                self._shell.jobs.watch(self._job_id, expected.set_result)
            assert self._ended is not None, "set in the lines above"
            # Others may wait as well, and one of them being cancelled must not end their waiting.
            ending = await asyncio.shield(self._ended)
            if isinstance(ending, LineshaftError) or ending.status != "succeeded":
                return ending, None
            return ending, await packed_result(self._shell, ending) if with_data else None

    def value(self, ending: Ending, data: BytesLike | None) -> ResultT:
        """Unpack the result, which runs code of the user's: in the thread of who asks for it.

        Raises:
            LineshaftError: The job ended without a result, or it cannot be unpacked.
            Exception: Whatever the job raised.
        """
        if self._value is None:
            if (error := error_of(ending)) is not None:
                raise error
            assert data is not None, "a job that succeeded has a result, or raises"
            self._value = (self._decode(data),)
        return self._value[0]

    def _expect(self) -> asyncio.Future[Ending]:
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended

    async def _ask(self, what: Literal["job", "why", "story", "files"]) -> JsonValue:
        # A question may be faster than the job, and then nobody knows it.
        await self._shell.jobs.kept(self._job_id)
        return await self._shell.questions.ask(Query(request_id=0, what=what, job_id=self._job_id))


def inline_result(outcome: Outcome) -> bytes | None:
    """Return the packed result if the outcome carries it; None if it is a blob, or not there."""
    if outcome.result is None or outcome.result.inline is None:
        return None
    return base64.b64decode(outcome.result.inline)


def result_at_hand(shell: Shell, outcome: Outcome) -> BytesLike | None:
    """Return the packed result if it came along, or lies where we were told; None if neither."""
    if outcome.result is None:
        return None
    return inline_result(outcome) or at_hand(shell, outcome.result)


async def packed_result(shell: Shell, outcome: Outcome) -> BytesLike:
    """Return the packed result of a job that succeeded, fetched if need be.

    Raises:
        ResultError: It has none.
        LineshaftError: It cannot be fetched.
    """
    if outcome.result is None:
        raise_no_result(outcome.job_id)
    if (data := inline_result(outcome)) is not None:
        return data
    return await fetch(shell, outcome.result)
