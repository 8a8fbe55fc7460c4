"""One job, as its user sees it from a program without an event loop."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Generic, Literal, TypeVar

from pydantic import JsonValue

from lineshaft.endings import error_of
from lineshaft.job import AsyncJob
from lineshaft.job_events import Event
from lineshaft.kept_files import KeptFile
from lineshaft.loop_thread import HeldThread

ResultT = TypeVar("ResultT")


class Job(Generic[ResultT]):
    """A job, as its user sees it; `AsyncJob` is the same for event loops."""

    def __init__(self, job: AsyncJob[ResultT], thread: HeldThread) -> None:
        self._job, self._thread = job, thread

    @property
    def id(self) -> str:
        """Its name for the coordinator; `client.job(id)` finds it again, from anywhere."""
        return self._job.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def result(self, timeout: float | None = None) -> ResultT:
        """Wait for what the job returns.

        Args:
            timeout: Longest wait, in seconds.

        Raises:
            TimeoutError: The job has not ended in time; it goes on.
            JobCancelledError: It was cancelled.
            LineshaftError: It ended without a result, or the client was closed.
            Exception: Whatever it raised.
        """
        return self._job.value(*self._thread.run(self._job.settled(timeout)))

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for the job's end and return what its result raises; None if it has a result.

        Raises:
            TimeoutError: The job has not ended in time; it goes on.
        """
        ending, _ = self._thread.run(self._job.settled(timeout, with_data=False))
        return error_of(ending)

    @property
    def status(self) -> str:
        """Where the job is: "queued", "running", "succeeded" and so on.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        return self._thread.run(self._job.status())

    def why(self) -> JsonValue:
        """Tell why the job is where it is, or how it ended.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        return self._thread.run(self._job.why())

    def story(self) -> JsonValue:
        """Return every record about the job, in order.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        return self._thread.run(self._job.story())

    def cancel(self, reason: str = "cancelled by its user") -> None:
        """End the job, whatever it is doing."""
        self._thread.post(partial(self._job.cancel, reason))

    def retry(self) -> Job[ResultT]:
        """Do a job that failed or was cancelled again, and return the new job.

        It has the same code, data and options; this one stays as it ended. Who asks twice before
        the new job has ended gets that one.

        Raises:
            JobNotFoundError: The coordinator does not know the job (any longer).
            PayloadLostError: What it was submitted with is gone.
            JobRefusedError: It has not ended, or succeeded.
        """
        return Job(self._thread.run(self._job.retry()), self._thread)

    def pause(self, *, freeze: bool = False, grace: float | None = None) -> str:
        """Have the job save a checkpoint and end its attempt; it waits until `resume`.

        Args:
            freeze: Stop its processes where they are instead; it keeps its slot, memory and GPUs.
            grace: How long it may take, in seconds; then it goes on as before.

        Returns:
            "paused" or "frozen".

        Raises:
            NotPausedError: It could not save, did not react in time, or has ended.
        """
        return self._thread.run(self._job.pause(freeze=freeze, grace=grace))

    def resume(self) -> str:
        """Let the job go on; returns where it is then, as "queued".

        Raises:
            NotPausedError: It has ended.
        """
        return self._thread.run(self._job.resume())

    def checkpoints(self) -> list[KeptFile]:
        """Return the checkpoints that are kept, the oldest first.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        found = self._thread.run(self._job.checkpoints())
        return [KeptFile(each, self._thread) for each in found]

    def artifacts(self) -> list[KeptFile]:
        """Return what the job left in its folder `outputs`, or gave to `run.artifact`.

        Raises:
            QueryError: The coordinator does not know the job.
        """
        found = self._thread.run(self._job.artifacts())
        return [KeptFile(each, self._thread) for each in found]

    def events(self, *, after: tuple[int, int] = (0, 0)) -> Generator[Event]:
        """Yield what the job tells, from its beginning, and at last how it ended.

        Args:
            after: Only what stands behind this attempt and number in the job's history.

        Raises:
            LineshaftError: Nobody knows the job, or the client was closed.
        """
        return self._thread.iterate(self._job.events(after=after))

    def logs(
        self,
        *,
        follow: bool = True,
        attempt: int | None = None,
        stream: Literal["stdout", "stderr"] | None = None,
        tail: int | None = None,
    ) -> Generator[str]:
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
        logs = self._job.logs(follow=follow, attempt=attempt, stream=stream, tail=tail)
        return self._thread.iterate(logs)
