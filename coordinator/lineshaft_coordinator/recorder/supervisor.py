"""Starts the recorder when there is something to record, tells it what has news, and asks it.

States: *away* (no process), *coming* (started, its link is open), *there* until it ends. It is
started by the first news or question, and some time after the coordinator itself, for what
happened before. It ends by itself when nothing happens for long; news that it had not heard starts
it again. When it dies it is started again, later each time; nothing else of the coordinator waits.
"""

import asyncio
import logging
import os
import random
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from lineshaft_coordinator.core.io import Append, AppendEvents, Effect
from lineshaft_coordinator.core.ledger import Ledger
from lineshaft_coordinator.core.records import (
    AttemptPlaced,
    AttemptStarted,
    FileKept,
    JobFinished,
    Record,
)
from lineshaft_coordinator.recorder.gauges import Gauges
from lineshaft_coordinator.recorder.link import HEAD, decoded, encoded
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.ids import JobId
from lineshaft_runtime.backoff import Backoff

logger = logging.getLogger(__name__)

TELLING: Final = frozenset({"metrics", "checkpoint", "artifact"})
TELL_S: Final = 0.1
FIRST_LOOK_S: Final = 3.0
STEADY_S: Final = 60.0
ANSWER_S: Final = 20.0
EXIT_MISSING: Final = 3
LATER_S: Final = 600.0
LOOK_S: Final = 15.0
END_S: Final = 10.0
LEAN: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Arrow's own allocator keeps some 20 MiB that one writer of small batches never needs."""


class RecorderAwayError(LineshaftError):
    """Run records cannot be read now."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"run records cannot be read now: {reason}")


class AskError(LineshaftError):
    """A question about runs has no answer."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Recorder:
    """The recorder, as the coordinator knows it.

    Args:
        data: The data folder.
        ledger: Which jobs are live.
        has_past: Whether jobs were there before this coordinator started.
        answer_s: How long a question may wait for its answer, in seconds.
        gauges: Looks at the machines of jobs.
        look_s: After how many seconds it looks again.
    """

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        *,
        has_past: bool,
        answer_s: float = ANSWER_S,
        gauges: Gauges | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        self._answer_s = answer_s
        self._gauges, self._look_s = gauges, look_s
        self._data, self._ledger, self._has_past = data, ledger, has_past
        self._followed: set[JobId] = set()
        self._news: set[JobId] = set()
        self._wanted = asyncio.Event()
        self._told = 0
        self._writer: asyncio.StreamWriter | None = None
        self._is_there = asyncio.Event()
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._asked = 0
        self._problem = "the recorder starts"

    # --- what was committed ---

    def tap(self, effects: Sequence[Effect]) -> None:
        """Note which runs have news; called after each commit."""
        for effect in effects:
            if isinstance(effect, Append):
                job_id = self._run_of(effect.record)
            elif isinstance(effect, AppendEvents):
                job_id = self._run_that_spoke(effect)
            else:
                continue
            if job_id is not None:
                self._news.add(job_id)
                self._wanted.set()

    def _run_that_spoke(self, told: AppendEvents) -> JobId | None:
        job_id = JobId(told.events[0].job_id)
        if job_id in self._followed:
            return job_id
        if any(event.kind in TELLING for event in told.events):
            self._follow(job_id, is_placed=True)
            return job_id
        return None

    def _run_of(self, record: Record) -> JobId | None:
        if type(record) is AttemptStarted:
            job_id = JobId(record.job_id)
            job = self._ledger.jobs.get(job_id)
            is_pipeline = job is not None and job.spec.kind == "pipeline"
            # Whatever it is, another attempt of it may be on another machine.
            if is_pipeline or job_id in self._followed:
                self._follow(job_id, is_placed=not record.is_unplaced)
                return job_id
        elif self._followed and (job_id := JobId(record.job_id)) in self._followed:
            if isinstance(record, AttemptPlaced):
                self._follow(job_id, is_placed=True)
            if isinstance(record, JobFinished):
                self._followed.discard(job_id)
                if self._gauges is not None:
                    self._gauges.end(job_id, time.time())
                return job_id
            if isinstance(record, FileKept):
                return job_id
        return None

    def _follow(self, job_id: JobId, *, is_placed: bool) -> None:
        """Note that a job leaves a record, and how its machine is, once it has one."""
        self._followed.add(job_id)
        if self._gauges is None:
            return
        if is_placed:
            self._gauges.begin(job_id, time.time())
        else:
            self._gauges.leave(job_id)

    # --- what is asked ---

    async def ask(self, what: str, **about: object) -> bytes:
        """Ask about runs; returns JSON.

        Raises:
            RecorderAwayError: It is not there, and does not come in time.
            AskError: It has no answer; the status is one of HTTP.
        """
        self._wanted.set()
        loop = asyncio.get_running_loop()
        self._asked += 1
        number = self._asked
        future: asyncio.Future[tuple[dict[str, Any], bytes]] = loop.create_future()
        self._answers[number] = future
        try:
            async with asyncio.timeout(self._answer_s):
                while self._writer is None:
                    await self._is_there.wait()
                self._writer.write(encoded({"id": number, "ask": what, "with": about}))
                head, body = await future
        except TimeoutError as error:
            raise RecorderAwayError(self._problem) from error
        finally:
            del self._answers[number]
        if "error" in head:
            raise AskError(str(head["error"]), int(head.get("status", 500)))
        return body

    # --- the process ---

    async def run(self) -> None:
        """Keep a recorder while there is something to record, until cancelled."""
        looking = asyncio.create_task(self._look())
        try:
            await self._serve()
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """Look at the machines of jobs, for ever; a recorder is started for what is seen so far."""
        while self._gauges is not None:
            await asyncio.sleep(self._look_s)
            if self._gauges.look(self._followed, time.time()):
                self._wanted.set()

    async def _serve(self) -> None:
        if self._has_past:
            asyncio.get_running_loop().call_later(FIRST_LOOK_S, self._wanted.set)
        backoff = Backoff(1.0, 2.0, 60.0, random.Random())  # noqa: S311 - no secret
        while True:
            await self._wanted.wait()
            began = asyncio.get_running_loop().time()
            status = await self._serve_one()
            if status == 0 and not self._news:
                continue
            wait_s = backoff.next_s()
            if asyncio.get_running_loop().time() - began > STEADY_S or status == 0:
                backoff.reset()
            if status == EXIT_MISSING:
                self._problem = "install them with: pip install 'lineshaft[records]'"
                wait_s = LATER_S
            elif status != 0:
                self._problem = "the recorder ended and is started again"
                logger.warning("recorder ended", extra={"status": status, "seconds": wait_s})
            self._wanted.set()
            if status != 0:
                await asyncio.sleep(wait_s)

    async def _serve_one(self) -> int:
        """Run one process to its end; returns its exit status."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "lineshaft_coordinator.recorder",
                "--data",
                str(self._data),
                "--fd",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **LEAN},
                start_new_session=True,  # Ctrl-C is for the coordinator, who then hangs up.
            )
        except OSError as error:
            ours.close()
            self._problem = str(error)
            return 1
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        self._writer, self._told = writer, 0
        self._is_there.set()
        telling = asyncio.create_task(self._tell(writer))
        try:
            await self._listen(reader)
        finally:
            self._is_there.clear()
            self._writer = None
            telling.cancel()
            writer.close()
            for future in self._answers.values():
                if not future.done():
                    future.set_result(({"error": "the recorder ended", "status": 503}, b""))
            # It writes what it has, and goes.
            try:
                status = await asyncio.wait_for(process.wait(), END_S)
            except TimeoutError:
                process.kill()
                status = await process.wait()
        return status

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        """Say what has news, some times a second at most."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._gauges is not None and (seen := self._gauges.take()):
                # Before the news, which may be that the job has ended.
                writer.write(encoded({"machines": seen}))
            if self._news:
                news, self._news = sorted(self._news), set()
                self._told += 1
                writer.write(encoded({"news": news}))
                await writer.drain()
            await asyncio.sleep(TELL_S)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take answers until the process ends, or has nothing to do."""
        while True:
            try:
                (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
                message, body = decoded(await reader.readexactly(size))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if "idle" in message:
                if message["idle"] == self._told and not self._news and not self._answers:
                    return
                continue
            future = self._answers.get(cast("int", message.get("id")))
            if future is not None and not future.done():
                future.set_result((message, body))
