"""The client's core: each job is submitted until it is accepted, and ends here exactly once.

On every connection it says again whatever may not have arrived: jobs that were not accepted are
submitted again under the same id, the others are watched again from the last event that came.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lineshaft.core.io import (
    Answered,
    CancelAsked,
    Close,
    Connect,
    Connected,
    Disconnected,
    Effect,
    Event,
    JobAccepted,
    JobFinished,
    JobMoved,
    JobRefused,
    JobSpoke,
    Received,
    RequestAsked,
    Send,
    SubmitAsked,
    Tick,
    UnwatchAsked,
    WatchAsked,
    Welcomed,
)
from lineshaft_protocol.client_messages import (
    Accepted,
    Answer,
    Cancel,
    ClientHello,
    Events,
    Finished,
    FromClient,
    Ping,
    Pong,
    Refused,
    Retry,
    StateChanged,
    Submit,
    ToClient,
    Unwatch,
    Watch,
    Welcome,
)
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import ClientId, JobId, Session
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.versions import Versions
from lineshaft_protocol.wire import Wire, unchecked

_submit = unchecked(Submit)


class CoreSettings(Wire):
    """Times in seconds."""

    reconnect_first_s: float = 0.1
    reconnect_max_s: float = 5.0
    dial_s: float = 10.0
    """How long opening a connection, or the answer to hello, may take."""
    ping_s: float = 10.0
    """How often we speak when there is nothing to say."""
    silence_s: float = 30.0
    """Quiet after which the connection counts as dead."""


@dataclass(slots=True)
class _Tracked:
    """A job whose outcome is awaited."""

    spec: JobSpec | None
    """What to submit; None once it is accepted, or if another client submitted it."""
    has_new_id: bool = True
    """Whether its id was made up here, and never used before."""
    was_sent: bool = False
    cancel_reason: str | None = None
    is_left: bool = False
    """Nobody here waits for it: it is let go as soon as it is accepted."""
    events: bool = False
    last: tuple[int, int] = (0, 0)
    """Attempt and number of the last event that arrived."""


@dataclass(slots=True)
class _Link:
    session: Session | None = None
    is_welcome: bool = False
    features: frozenset[str] = frozenset()
    """What both sides can do, once welcome."""
    heard_at: float = 0.0
    retry_s: float = 0.0
    wake_at: float = 0.0


class ClientCore:
    """Keeps what the user asked for until the coordinator has answered.

    Args:
        client_id: Name of this client in queues and records.
        now: A clock that runs forward, in seconds; the same one for every call.
    """

    def __init__(
        self, settings: CoreSettings, *, client_id: ClientId, versions: Versions, now: float
    ) -> None:
        self._settings, self._client_id, self._versions = settings, client_id, versions
        self.jobs: dict[JobId, _Tracked] = {}
        self.requests: dict[int, FromClient] = {}
        self._now = now
        self._link = _Link(retry_s=settings.reconnect_first_s, wake_at=now)
        self._effects: list[Effect] = []

    def handle(self, events: Iterable[Event], now: float) -> list[Effect]:
        """Take in events of one moment, and say what must be done about them, in order."""
        assert now >= self._now, "time runs forward"
        self._now = now
        for event in events:
            self._take(event, now)
        effects, self._effects = self._effects, []
        return effects

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Received(session=session, message=message):
                if session == self._link.session:
                    self._link.heard_at = now
                    self._on_message(message)
            case SubmitAsked(spec=spec, has_new_id=has_new_id):
                self._on_submit(spec, has_new_id=has_new_id)
            case Tick():
                self._on_tick()
            case WatchAsked(job_id=job_id, events=events):
                self._on_watch(job_id, events=events)
            case UnwatchAsked(job_id=job_id):
                self._on_unwatch(job_id)
            case CancelAsked(job_id=job_id, reason=reason):
                self._on_cancel(job_id, reason)
            case RequestAsked(request_id=request_id, message=message):
                self.requests[request_id] = message
                self._ask(request_id, message)
            case Connected(session=session):
                self._on_connected(session)
            case Disconnected(session=session):
                if session == self._link.session:
                    self._on_disconnected()

    def next_deadline(self) -> float | None:
        """When to send the next Tick, on the clock of ``now``."""
        return self._link.wake_at

    # --- the connection ---

    def _on_tick(self) -> None:
        link, settings = self._link, self._settings
        if self._now < link.wake_at:
            return
        if link.session is None:
            self._effects.append(Connect())
            link.wake_at = self._now + settings.dial_s
        elif not link.is_welcome:
            self._hang_up("the coordinator did not answer")
        elif self._now - link.heard_at >= settings.silence_s:
            self._hang_up(f"the coordinator was silent for {settings.silence_s:g} s")
        else:
            link.wake_at = self._now + settings.ping_s
            self._tell(Ping())

    def _on_connected(self, session: Session) -> None:
        link = self._link
        link.session, link.is_welcome, link.heard_at = session, False, self._now
        link.wake_at = self._now + self._settings.dial_s
        hello = ClientHello(client_id=self._client_id, versions=self._versions)
        self._effects.append(Send(session, hello))

    def _on_welcome(self, welcome: Welcome) -> None:
        link = self._link
        link.is_welcome, link.retry_s = True, self._settings.reconnect_first_s
        link.wake_at = self._now + self._settings.ping_s
        self._effects.append(Welcomed(welcome.epoch))
        for job_id, job in self.jobs.items():
            self._say_again(job_id, job)
        link.features = frozenset(welcome.features)
        for request_id, message in tuple(self.requests.items()):
            self._ask(request_id, message)

    def _say_again(self, job_id: JobId, job: _Tracked) -> None:
        if job.spec is not None:
            # It asks for the events itself: if the job has ended, they must come before its end.
            events = True if job.events else None
            is_fresh = job.has_new_id and not job.was_sent
            again = Submit(job=job.spec, is_repeat=job.was_sent, is_fresh=is_fresh, events=events)
            self._tell(again)
            job.was_sent = True
        else:
            self._watch(job_id, job)
        if job.cancel_reason is not None:
            self._tell(Cancel(job_id=job_id, reason=job.cancel_reason))

    def _watch(self, job_id: JobId, job: _Tracked) -> None:
        attempt, seq = job.last
        self._tell(Watch(job_id=job_id, events=job.events, after_attempt=attempt, after_seq=seq))

    def _on_disconnected(self) -> None:
        link, settings = self._link, self._settings
        link.session, link.is_welcome = None, False
        link.wake_at = self._now + link.retry_s
        link.retry_s = min(settings.reconnect_max_s, link.retry_s * 2)

    def _hang_up(self, reason: str) -> None:
        assert self._link.session is not None, "only a session can be ended"
        self._effects.append(Close(self._link.session, reason))
        self._on_disconnected()

    def _tell(self, message: FromClient) -> None:
        """Say it if we can; what matters is said again on the next connection."""
        if self._link.session is not None and self._link.is_welcome:
            self._effects.append(Send(self._link.session, message))

    # --- what the user asks ---

    def _ask(self, request_id: int, message: FromClient) -> None:
        feature = "retry" if isinstance(message, Retry) else None
        if feature is None or not self._link.is_welcome or feature in self._link.features:
            self._tell(message)
            return
        # An older coordinator would end the session, and each session after it.
        del self.requests[request_id]
        self._effects.append(Answered(request_id, None, None, lacks=feature))

    def _on_submit(self, spec: JobSpec, *, has_new_id: bool) -> None:
        job_id = JobId(spec.job_id)
        assert job_id not in self.jobs, "the shell makes a new id for each job"
        job = self.jobs[job_id] = _Tracked(spec, has_new_id=has_new_id)
        if self._link.is_welcome:
            job.was_sent = True
            self._tell(_submit(job=spec, is_fresh=has_new_id))

    def _on_watch(self, job_id: JobId, *, events: bool) -> None:
        job = self.jobs.setdefault(job_id, _Tracked(None))
        job.events, job.is_left = job.events or events, False
        self._watch(job_id, job)

    def _on_unwatch(self, job_id: JobId) -> None:
        job = self.jobs.get(job_id)
        if job is not None:
            job.events, job.is_left = False, True
            self._let_go(job_id, job)

    def _let_go(self, job_id: JobId, job: _Tracked) -> None:
        """Forget what nobody waits for, once the coordinator has all that was asked of it."""
        if job.is_left and job.spec is None and job.cancel_reason is None:
            del self.jobs[job_id]
            self._tell(Unwatch(job_id=job_id))

    def _on_cancel(self, job_id: JobId, reason: str) -> None:
        job = self.jobs.setdefault(job_id, _Tracked(None))
        job.cancel_reason = reason
        self._tell(Cancel(job_id=job_id, reason=reason))

    # --- what the coordinator says ---

    def _on_message(self, message: ToClient) -> None:
        match message:
            case Finished():
                self._on_finished(message)
            case Accepted(job_id=job_id):
                job = self.jobs.get(JobId(job_id))
                if job is not None and job.spec is not None:
                    job.spec = None
                    self._effects.append(JobAccepted(JobId(job_id)))
                    self._let_go(JobId(job_id), job)
            case Events():
                self._on_events(message)
            case StateChanged(job_id=job_id):
                if JobId(job_id) in self.jobs:
                    self._effects.append(JobMoved(message))
            case Refused(job_id=job_id, code=code, message=text):
                if self.jobs.pop(JobId(job_id), None) is not None:
                    self._effects.append(JobRefused(JobId(job_id), code, text))
            case Answer(request_id=request_id, data=data, error=error):
                if self.requests.pop(request_id, None) is not None:
                    self._effects.append(Answered(request_id, data, error))
            case Welcome():
                self._on_welcome(message)
            case Pong():
                pass
            case _:
                pass  # Blob messages are the shell's.

    def _on_finished(self, finished: Finished) -> None:
        job_id = JobId(finished.outcome.job_id)
        job = self.jobs.get(job_id)
        if job is None or (job.events and not finished.events):
            # If we want its events, our Watch crossed this: another follows, after the events.
            return
        del self.jobs[job_id]
        self._effects.append(JobFinished(finished.outcome))

    def _on_events(self, told: Events) -> None:
        new: dict[JobId, list[JobEvent]] = {}
        for event in told.events:
            job = self.jobs.get(JobId(event.job_id))
            if job is not None and (event.attempt, event.seq) > job.last:
                job.last = (event.attempt, event.seq)
                new.setdefault(JobId(event.job_id), []).append(event)
        for job_id, fresh in new.items():
            self._effects.append(JobSpoke(job_id, tuple(fresh)))
        if told.left_out is not None and JobId(told.left_out) in self.jobs:
            self._effects.append(JobSpoke(JobId(told.left_out), (), is_behind=True))
