"""The gateway's way to the core: a client session inside this process, one for each connection."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lineshaft_coordinator.data.stream_relay import Port
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.client_messages import (
    Accepted,
    Cancel,
    ClientHello,
    Events,
    Finished,
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
    """

    def __init__(self, sessions: Sessions, client_id: str) -> None:
        self._sessions = sessions
        self._waiting: dict[str, _Waiting] = {}
        self._ping_timer: asyncio.TimerHandle | None = None
        self._session = sessions.open_local(self)
        hello = ClientHello(client_id=client_id, versions=Versions(lineshaft=__version__))
        sessions.speak(self._session, hello)

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
        ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._waiting[job.job_id] = _Waiting(ending, on_told, on_accepted)
        self._sessions.speak(self._session, Submit(job=job, is_fresh=True))
        if on_told is not None:
            self._sessions.speak(self._session, Watch(job_id=job.job_id, events=True))
        try:
            return await ending
        finally:
            del self._waiting[job.job_id]
            if ending.cancelled() and not is_kept:
                self.cancel(job.job_id, "its client left")

    def cancel(self, job_id: str, reason: str) -> None:
        """Ask for the end of a job; who waits for it hears of it."""
        self._sessions.speak(self._session, Cancel(job_id=job_id, reason=reason))

    def send_frame(self, port: Port, frame: bytes) -> None:
        """Send a frame of a stream whose worker answers to the port."""
        self._sessions.streams.receive(self._session, "client", port, frame)

    def forget_frames(self, port: Port) -> None:
        """Nobody is at the port any more."""
        self._sessions.streams.gone(port)

    def close(self) -> None:
        """End the session; what was asked before is still done."""
        self._stop_pinging()
        self._sessions.close_local(self._session)

    # --- what the core says ---

    def on_messages(self, messages: list[Wire]) -> None:
        """Hand on what concerns a job that somebody waits for."""
        for message in messages:
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
                case Welcome(silence_s=silence_s):
                    self._ping_later(silence_s / 3)
                case _:
                    pass  # Pong: nobody asked for them.

    def on_closed(self, reason: str) -> None:
        """Nothing more will be heard: all who wait are told so."""
        logger.warning("the core ended a session of the gateway", extra={"why": reason})
        self._stop_pinging()
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

    def _ping_later(self, interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._ping_timer = loop.call_later(interval_s, self._ping, interval_s)

    def _ping(self, interval_s: float) -> None:
        # The core takes a silent client for dead, and its connection may be quiet for hours.
        self._sessions.speak(self._session, Ping())
        self._ping_later(interval_s)

    def _stop_pinging(self) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None
