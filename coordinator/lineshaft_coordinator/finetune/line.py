"""The training server's way to the core: one client session inside this process."""

import asyncio
import itertools
from collections.abc import Callable

from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import (
    Accepted,
    Answer,
    ClientHello,
    Events,
    Finished,
    Pause,
    Ping,
    Refused,
    StateChanged,
    Submit,
    Watch,
    Welcome,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Outcome
from lineshaft_protocol.version import __version__
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire

CLIENT_ID = "training-server"
"""Whose jobs the trainings are."""

Told = Callable[[str, JobEvent | StateChanged | Outcome | None], None]
"""Hears of a job; None: it said more than was told, and the store has the rest."""


class CoreLine:
    """Submits, watches and pauses jobs.

    Args:
        sessions: Where it opens its session.
        on_told: Hears what watched jobs say, in order. Must not block.
    """

    def __init__(self, sessions: Sessions, on_told: Told) -> None:
        self._sessions, self._on_told = sessions, on_told
        self._submitting: dict[str, asyncio.Future[Refused | None]] = {}
        self._asking: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._ping_timer: asyncio.TimerHandle | None = None
        self._session = sessions.open_local(self)
        hello = ClientHello(client_id=CLIENT_ID, versions=Versions(lineshaft=__version__))
        sessions.speak(self._session, hello)

    async def submit(self, job: JobSpec) -> Refused | None:
        """Submit a job, whose blobs are stored already, and watch it; returns why it was not kept.

        The same job may be submitted twice; another one of the same id is refused.
        """
        kept: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        if job.job_id in self._submitting:
            text = "it is being submitted already"
            return Refused(job_id=job.job_id, code="duplicate_id", message=text)
        self._submitting[job.job_id] = kept
        try:
            self._sessions.speak(self._session, Submit(job=job, events=True))
            return await kept
        finally:
            del self._submitting[job.job_id]

    def watch(self, job_id: str, after: tuple[int, int]) -> None:
        """Hear what a job says from now on, and said after this (attempt, seq)."""
        message = Watch(job_id=job_id, events=True, after_attempt=after[0], after_seq=after[1])
        self._sessions.speak(self._session, message)

    async def pause(self, job_id: str, grace_s: float) -> Answer:
        """Pause a job; answered once it is paused, or with why it goes on."""
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asking[number] = answer
        try:
            message = Pause(request_id=number, job_id=job_id, grace_s=grace_s)
            self._sessions.speak(self._session, message)
            return await answer
        finally:
            del self._asking[number]

    def close(self) -> None:
        """End the session; what was asked before is still done."""
        self._stop_pinging()
        self._sessions.close_local(self._session)

    # --- for the sessions (LocalClient) ---

    def on_messages(self, messages: list[Wire]) -> None:
        """Hand on what the core says."""
        for message in messages:
            match message:
                case Events(events=events, left_out=left_out):
                    for event in events:
                        self._on_told(event.job_id, event)
                    if left_out is not None:
                        self._on_told(left_out, None)
                case StateChanged(job_id=job_id):
                    self._on_told(job_id, message)
                case Finished(outcome=outcome):
                    self._on_told(outcome.job_id, outcome)
                case Accepted(job_id=job_id):
                    self._settle(job_id, None)
                case Refused(job_id=job_id):
                    self._settle(job_id, message)
                case Answer(request_id=request_id):
                    asked = self._asking.get(request_id)
                    if asked is not None and not asked.done():
                        asked.set_result(message)
                case Welcome(silence_s=silence_s):
                    self._ping_later(silence_s / 3)
                case _:
                    pass  # Pong.

    def on_closed(self, reason: str) -> None:
        """Nothing more will be heard: the coordinator ends."""
        self._stop_pinging()
        for job_id in tuple(self._submitting):
            self._settle(job_id, Refused(job_id=job_id, code="draining", message=reason))
        for number, asked in self._asking.items():
            if not asked.done():
                asked.set_result(Answer(request_id=number, error=reason))

    def _settle(self, job_id: str, refused: Refused | None) -> None:
        kept = self._submitting.get(job_id)
        if kept is not None and not kept.done():
            kept.set_result(refused)

    def _ping_later(self, interval_s: float) -> None:
        self._ping_timer = asyncio.get_running_loop().call_later(interval_s, self._ping, interval_s)

    def _ping(self, interval_s: float) -> None:
        self._sessions.speak(self._session, Ping())
        self._ping_later(interval_s)

    def _stop_pinging(self) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None
