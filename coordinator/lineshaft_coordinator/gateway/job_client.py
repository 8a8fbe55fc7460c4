"""The gateway's way to the core: a client session inside this process, one for each connection."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lineshaft_coordinator.data.stream_relay import Port
from lineshaft_coordinator.server.core_session import CoreSession
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import (
    Accepted,
    Cancel,
    Events,
    Finished,
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

Ending: TypeAlias = Outcome | Refused
"""How a job ended, or why it was not kept."""
OnTold: TypeAlias = Callable[[StateChanged | JobEvent], None]


@dataclass(slots=True)
class _Waiting:
    ending: asyncio.Future[Ending]
    on_told: OnTold | None
    on_accepted: Callable[[], None] | None = None


class JobClient:
    """Submits jobs and waits for their ends.

    Args:
        sessions: Where it opens its session, at once.
        client_id: Who the jobs belong to, for people and for the fairness between clients.
        owner: Id of the token by which they are submitted.
    """

    def __init__(self, sessions: Sessions, client_id: str, owner: str | None = None) -> None:
        self._sessions = sessions
        self._waiting: dict[str, _Waiting] = {}
        self._lost: str | None = None
        """Why the core ended the session."""
        self._session = CoreSession(sessions, client_id, self._hear, self._lose, owner=owner)

    async def run(
        self,
        job: JobSpec,
        *,
        on_told: OnTold | None = None,
        on_accepted: Callable[[], None] | None = None,
        is_kept: bool = False,
    ) -> Ending:
        """Submit a job and wait for its end; who cancels this call cancels the job.

        Args:
            job: Its blobs are stored already.
            on_told: Hears where the job is and what it says. Must not block.
            on_accepted: Told once it is on disk. Must not block.
            is_kept: Whether the job goes on when nobody waits for it any more.
        """
        if self._lost is not None:  # Nobody would ever answer.
            return Refused(job_id=job.job_id, code="draining", message=self._lost)
        ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._waiting[job.job_id] = _Waiting(ending, on_told, on_accepted)
        self._session.say(Submit(job=job, is_fresh=True))
        if on_told is not None:
            self._session.say(Watch(job_id=job.job_id, events=True))
        try:
            return await ending
        finally:
            del self._waiting[job.job_id]
            if ending.cancelled() and not is_kept:
                self.cancel(job.job_id, "its client left")

    def cancel(self, job_id: str, reason: str) -> None:
        """Ask for the end of a job; who waits for it hears of it."""
        self._session.say(Cancel(job_id=job_id, reason=reason))

    def send_frame(self, port: Port, frame: bytes) -> None:
        """Send a frame of a stream whose worker answers to the port."""
        self._sessions.streams.receive(self._session.id, "client", port, frame)

    def forget_frames(self, port: Port) -> None:
        """Nobody is at the port any more."""
        self._sessions.streams.gone(port)

    def close(self) -> None:
        """End the session; what was asked before is still done."""
        self._session.close()

    # --- what the core says ---

    def _hear(self, message: Wire) -> None:
        match message:
            case Finished(outcome=outcome):
                self._end(outcome.job_id, outcome)
            case Refused(job_id=job_id):
                self._end(job_id, message)
            case Accepted(job_id=job_id):
                waiting = self._waiting.get(job_id)
                if waiting is not None and waiting.on_accepted is not None:
                    waiting.on_accepted()
            case Events(events=events):
                for event in events:
                    self._tell(event.job_id, event)
            case StateChanged(job_id=job_id):
                self._tell(job_id, message)
            case _:
                pass  # Pong: nobody asked for them.

    def _lose(self, reason: str) -> None:
        logger.warning("the core ended a session of the gateway", extra={"why": reason})
        self._lost = reason
        for job_id in tuple(self._waiting):
            self._end(job_id, Refused(job_id=job_id, code="draining", message=reason))

    def _end(self, job_id: str, ending: Ending) -> None:
        waiting = self._waiting.get(job_id)
        if waiting is not None and not waiting.ending.done():
            waiting.ending.set_result(ending)

    def _tell(self, job_id: str, told: StateChanged | JobEvent) -> None:
        waiting = self._waiting.get(job_id)
        if waiting is not None and waiting.on_told is not None:
            waiting.on_told(told)
