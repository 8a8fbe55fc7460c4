"""The training server's way to the core: one client session inside this process."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from lineshaft_coordinator.server.core_session import CoreSession
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import (
    Accepted,
    Answer,
    Events,
    Finished,
    FromClient,
    Pause,
    Refused,
    StateChanged,
    Submit,
    Watch,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.wire import Wire

logger = logging.getLogger(__name__)

FIRST_S: Final = 1.0
"""How soon an ended session is opened again; each further time in turn, twice as long."""
LONGEST_S: Final = 60.0
CLIENT_ID = "training-server"
"""Whose jobs the trainings are."""

Told = Callable[[str, JobEvent | StateChanged | Outcome | None], None]
"""Hears of a job; None: it said more than was told, and the store has the rest."""


class CoreLine:
    """Submits, watches and pauses jobs.

    Args:
        sessions: Where it opens its session, and another one where the core ended that.
        on_told: Hears what watched jobs say, in order. Must not block.
        on_open_again: Called with each further session: nothing is watched on it yet.
    """

    def __init__(
        self, sessions: Sessions, on_told: Told, on_open_again: Callable[[], None]
    ) -> None:
        self._sessions, self._on_told, self._on_open_again = sessions, on_told, on_open_again
        self._submitting: dict[str, asyncio.Future[Refused | None]] = {}
        self._asking: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        """When to open a session again."""
        self._wait_s = FIRST_S
        self._session: CoreSession | None = None
        self._open()

    async def submit(self, job: JobSpec, owner: str) -> Refused | None:
        """Submit a job, whose blobs are stored already, and watch it; returns why it was not kept.

        The same job may be submitted twice; another one of the same id is refused.

        Args:
            job: The job.
            owner: Id of the token of who asked for it, on whose behalf a session is opened.
        """
        if self._session is None:
            return Refused(job_id=job.job_id, code="draining", message=_AWAY)
        kept: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        if job.job_id in self._submitting:
            text = "it is being submitted already"
            return Refused(job_id=job.job_id, code="duplicate_id", message=text)
        self._submitting[job.job_id] = kept
        lose = partial(self._lose_submit, job.job_id)
        errand = CoreSession(self._sessions, CLIENT_ID, self._hear_kept, lose, owner=owner)
        try:
            errand.say(Submit(job=job))
            refused = await kept
        finally:
            del self._submitting[job.job_id]
            errand.close()
        if refused is None:
            self.watch(job.job_id, (0, 0))
        return refused

    def watch(self, job_id: str, after: tuple[int, int]) -> None:
        """Hear what a job says from now on, and said after this (attempt, seq)."""
        message = Watch(job_id=job_id, events=True, after_attempt=after[0], after_seq=after[1])
        self._say(message)

    async def pause(self, job_id: str, grace_s: float) -> Answer:
        """Pause a job; answered once it is paused, or with why it goes on."""
        number = next(self._numbers)
        if self._session is None:
            return Answer(request_id=number, error=_AWAY)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asking[number] = answer
        try:
            self._say(Pause(request_id=number, job_id=job_id, grace_s=grace_s))
            return await answer
        finally:
            del self._asking[number]

    def close(self) -> None:
        """End the session; what was asked before is still done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> None:
        self._session = CoreSession(self._sessions, CLIENT_ID, self._hear, self._lose)

    def _open_again(self) -> None:
        self._open()
        self._on_open_again()

    def _say(self, message: FromClient) -> None:
        if self._session is not None:
            self._session.say(message)

    # --- what the core says ---

    def _hear(self, message: Wire) -> None:
        match message:
            case Events(events=events, left_out=left_out):
                for event in events:
                    self._tell(event.job_id, event)
                if left_out is not None:
                    self._tell(left_out, None)
            case StateChanged(job_id=job_id):
                self._tell(job_id, message)
            case Finished(outcome=outcome):
                self._tell(outcome.job_id, outcome)
            case Answer(request_id=request_id):
                asked = self._asking.get(request_id)
                if asked is not None and not asked.done():
                    asked.set_result(message)
            case _:
                self._wait_s = FIRST_S  # Pong: this session has lasted.

    def _hear_kept(self, message: Wire) -> None:
        if isinstance(message, Accepted | Refused):
            refused = message if isinstance(message, Refused) else None
            self._settle(message.job_id, refused)

    def _lose_submit(self, job_id: str, reason: str) -> None:
        self._settle(job_id, Refused(job_id=job_id, code="draining", message=reason))

    def _lose(self, reason: str) -> None:
        logger.warning("the core ended the training server's session", extra={"why": reason})
        self._session = None
        self._timer = asyncio.get_running_loop().call_later(self._wait_s, self._open_again)
        self._wait_s = min(2 * self._wait_s, LONGEST_S)
        for number, asked in self._asking.items():
            if not asked.done():
                asked.set_result(Answer(request_id=number, error=reason))

    def _tell(self, job_id: str, told: JobEvent | StateChanged | Outcome | None) -> None:
        try:
            self._on_told(job_id, told)
        except Exception:
            # It costs what was told of this training; all others would go with the session.
            logger.exception("what a training said is left out", extra={"job_id": job_id})

    def _settle(self, job_id: str, refused: Refused | None) -> None:
        kept = self._submitting.get(job_id)
        if kept is not None and not kept.done():
            kept.set_result(refused)


_AWAY: Final = "the training server is cut off from the core for a moment; try again"
