"""The worker's core: guards its slots, and keeps every result until the coordinator has it.

On every connection it says what it holds, then repeats what was not acknowledged: first start,
reconnect and restart of the coordinator are one code path.
"""

from collections.abc import Iterable

from pydantic import JsonValue

from lineshaft_protocol.figures import Figures
from lineshaft_protocol.ids import Session
from lineshaft_protocol.resources import Capacity
from lineshaft_protocol.worker_messages import (
    Assign,
    ChildFinished,
    EventsAck,
    HealDevice,
    Heartbeat,
    HeartbeatAck,
    KeptAck,
    LeaveNow,
    Leaving,
    MeetingPlace,
    Place,
    Recall,
    Register,
    Registered,
    SetPause,
    Settled,
    Stop,
    ToWorker,
)
from lineshaft_worker.core import leases
from lineshaft_worker.core.attempts import Bench, Phase, key_of
from lineshaft_worker.core.dispatch import Dispatcher
from lineshaft_worker.core.flow import AttemptFlow
from lineshaft_worker.core.identity import Identity
from lineshaft_worker.core.io import (
    AttemptBegan,
    AttemptEnded,
    AttemptKey,
    AttemptReturned,
    AttemptSpoke,
    BlobGone,
    BlobsArrived,
    BlobsFailed,
    ChildAsked,
    Close,
    Connect,
    Connected,
    DevicesChecked,
    Disconnected,
    DrainAsked,
    Effect,
    EnvironmentFailed,
    EnvironmentProgress,
    EnvironmentReady,
    Event,
    FileStored,
    KeepLeases,
    Leave,
    LoadSampled,
    LookAgain,
    MeetingMoved,
    PauseSeen,
    Received,
    ResultRefused,
    ResultStored,
    Send,
    Tick,
)
from lineshaft_worker.core.settings import CoreSettings
from lineshaft_worker.core.watchdog import Watchdog


class WorkerCore:
    """Connects, takes work, runs as much of it as the machine allows, and reports.

    Args:
        adopted: Attempts that outlived the daemon before us, with their lanes.
        found: Attempts that ended without a daemon; their results follow as AttemptEnded.
        now: A clock that runs forward, in seconds; the same one for every call.
        acked_at: When the last heartbeat that was answered to the daemon before us was sent, on
            that clock: what it left has leases from then. None if that is not known.
        meeting: Where a gang can meet whose rank 0 runs here; None if it cannot.
    """

    def __init__(
        self,
        settings: CoreSettings,
        *,
        identity: Identity,
        capacity: Capacity,
        now: float,
        meeting: MeetingPlace | None = None,
        adopted: tuple[tuple[Assign, int], ...] = (),
        found: tuple[AttemptKey, ...] = (),
        acked_at: float | None = None,
    ) -> None:
        self.settings, self.identity = settings, identity
        self.bench = Bench(capacity)
        self._effects: list[Effect] = []
        self._dispatcher = Dispatcher(settings, self.bench, self._effects)
        own = identity.pythons[0] if identity.pythons else None
        self.flow = AttemptFlow(settings, self.bench, self._dispatcher, self._effects, python=own)
        self._watchdog = Watchdog(self.bench)
        self._session: Session | None = None
        self._retry_s = settings.reconnect_first_s
        self._now = self._wake_at = self._heard_at = self._registered_at = now
        self._agreed: Registered | None = None
        self._lease_s = self._shortest_s = settings.lease_s
        """Of attempts without a lease of their own; the shortest of all at the last heartbeat."""
        self._told_capacity, self._meeting = capacity, meeting
        heard_at = now if acked_at is None else min(acked_at, now)
        self._acked_at: float | None = heard_at if adopted else None
        """When the last heartbeat that arrived for sure was sent, by us or, if we found attempts
        of the daemon before us, by that; None when there is nothing to end."""
        self._load: dict[str, JsonValue] = {}
        self._figures = Figures()
        self._is_draining = self._is_hurried = self._has_left = False
        self._is_stopping_after_drain = True
        for assign, lane in adopted:
            self.flow.adopt(assign, lane)
            self._watchdog.watch(key_of(assign.job.job_id, assign.attempt), now)
        for key in found:
            self.flow.find(key)

    def handle(self, events: Iterable[Event], now: float) -> list[Effect]:
        """Take in events of one moment, and say what must be done about them, in order."""
        assert now >= self._now, "time runs forward"
        self._now = now
        self._watchdog.hold(now)
        for event in events:
            self._take(event, now)
        self.flow.fill(now, acked_at=self._acked_at)
        self._leave_if_done()
        effects, self._effects[:] = self._effects[:], []
        return effects

    def _take(self, event: Event, now: float) -> None:
        match event:
            case Received(session=session, message=message):
                # Our Register on a newer session already said what we hold; acting on the older
                # one would make that a lie.
                if session == self._session:
                    self._heard_at = now
                    self._on_message(message)
            case AttemptEnded():
                self.flow.on_ended(event, now)
            case DevicesChecked(key=key, capacity=capacity):
                # Before the end is told: nothing is to be placed on what is out of use.
                self._on_capacity(capacity)
                self.flow.on_checked(key, now)
            case Tick():
                self._on_tick(now)
            case Connected(session=session):
                self._on_connected(session)
            case Disconnected(session=session):
                if session == self._session:
                    self._on_disconnected()
            case BlobsArrived() | BlobsFailed() | BlobGone() | ResultStored() | ResultRefused():
                self.flow.on_blob_event(event)
            case EnvironmentReady() | EnvironmentFailed() | EnvironmentProgress():
                self.flow.on_blob_event(event)
            case (
                AttemptBegan()
                | AttemptSpoke()
                | AttemptReturned()
                | ChildAsked()
                | FileStored()
                | PauseSeen()
            ):
                self.flow.on_attempt_event(event, now)
                self._watchdog.hear(event.key, now)
            case LoadSampled() | MeetingMoved():
                self._on_machine(event)
            case DrainAsked():
                self._is_stopping_after_drain = True
                self._drain(is_hurried=event.is_hurried)

    def next_deadline(self) -> float | None:
        """When to send the next Tick, on the clock of ``now``."""
        deadlines = [self._wake_at]
        if (stuck := self._dispatcher.next_stuck()) is not None:
            deadlines.append(stuck)
        if (late_at := self._watchdog.next()) is not None:
            deadlines.append(late_at)
        if (lease_ends_at := self._lease_ends_at()) is not None:
            deadlines.append(lease_ends_at)
        return min(deadlines)

    # --- the connection ---

    def _on_tick(self, now: float) -> None:
        self._dispatcher.revoke_stuck(now)
        self._end_leases(now)
        for attempt, failure in self._watchdog.due(now):
            attempt.verdict = failure
            self.flow.on_stop(attempt.key)
        if now < self._wake_at:
            return
        if self._session is None:
            self._dial(now)
        elif self._agreed is None:
            self._hang_up("the coordinator did not answer Register")
        elif now - self._heard_at >= self._agreed.silence_s:
            self._hang_up(f"the coordinator was silent for {self._agreed.silence_s:g} s")
        else:
            self._beat()

    def _dial(self, now: float) -> None:
        self._effects.append(Connect())
        # If neither Connected nor Disconnected follows, try again.
        self._wake_at = now + max(self.settings.register_s, self._retry_s)

    def _on_connected(self, session: Session) -> None:
        self._session, self._heard_at, self._agreed = session, self._now, None
        self._wake_at = self._now + self.settings.register_s
        identity = self.identity
        self._registered_at, self._told_capacity = self._now, self.bench.capacity
        self._send(
            Register(
                worker_id=identity.worker_id,
                capabilities=identity.capabilities,
                versions=identity.versions,
                capacity=self.bench.capacity,
                tags=identity.tags,
                pythons=identity.pythons,
                incarnation=identity.incarnation,
                held=self.flow.register(),
                is_draining=self._is_draining,
                meeting=self._meeting,
            )
        )

    def _on_registered(self, registered: Registered) -> None:
        self._agreed = registered
        self._keep_leases(self._registered_at)
        self._retry_s = self.settings.reconnect_first_s
        assert self._session is not None, "only a session can be answered"
        self._beat()
        self.flow.attach(self._session, registered.features)

    def _on_disconnected(self) -> None:
        self._session, self._agreed = None, None
        self.flow.detach()
        self._wake_at = self._now + self._retry_s
        self._retry_s = min(self.settings.reconnect_max_s, self._retry_s * 2)

    def _hang_up(self, reason: str) -> None:
        assert self._session is not None, "only a session can be ended"
        self._effects.append(Close(self._session, reason))
        self._on_disconnected()

    def _beat(self) -> None:
        assert self._agreed is not None, "heartbeats follow Registered"
        self._shortest_s = self._find_shortest_s()
        self._wake_at = self._now + leases.beat_s(self._agreed.heartbeat_s, self._shortest_s)
        is_news = self.bench.capacity != self._told_capacity
        self._told_capacity = self.bench.capacity
        self._send(
            Heartbeat(
                worker_id=self.identity.worker_id,
                load=self._load,
                sent_at=self._now,
                capacity=self.bench.capacity if is_news else None,
                meeting=self._meeting,
                figures=self._figures,
            )
        )

    def _send(self, message: Register | Heartbeat | Leaving) -> None:
        if self._session is not None:
            self._effects.append(Send(self._session, message))

    def _lease_ends_at(self) -> float | None:
        """When the first attempt has gone on for too long without a heartbeat that arrived."""
        if self._acked_at is None:
            return None
        return self._acked_at + (self._shortest_s if self._agreed else self._find_shortest_s())

    def _keep_leases(self, since: float) -> None:
        self._acked_at = since
        self._effects.append(KeepLeases(since, self._lease_s))

    def _find_shortest_s(self) -> float:
        found_s = leases.shortest_s(self.bench, otherwise_s=self._lease_s)
        return self._lease_s if found_s is None else found_s

    def _end_leases(self, now: float) -> None:
        """Alone for too long: end what others may have started by now."""
        ends_at = self._lease_ends_at()
        if ends_at is None or self._acked_at is None or now < ends_at:
            return
        if self._agreed is not None:
            self._shortest_s = self._find_shortest_s()
            if now < self._acked_at + self._shortest_s:
                return
            self._hang_up("the coordinator does not answer heartbeats")
        for each in leases.over(self.bench, now, since=self._acked_at, otherwise_s=self._lease_s):
            reason = "the coordinator was away for longer than its lease"
            self.flow.stop_or_return(each, reason, each.assign.lease_grace_s)
        is_empty = leases.shortest_s(self.bench, otherwise_s=self._lease_s) is None
        if is_empty and now >= self._acked_at + self._lease_s:
            self._acked_at = None

    # --- what the coordinator says ---

    def _on_message(self, message: ToWorker) -> None:
        match message:
            case Assign(lease_s=lease_s):
                self.flow.on_assign(message, refuse=self._is_draining)
                if message.job.timeouts is not None:
                    self._watchdog.watch(key_of(message.job.job_id, message.attempt), self._now)
                if lease_s is not None and lease_s < self._shortest_s:
                    self._on_shorter_lease(lease_s)
            case Place():
                self.flow.on_place(message)
            case Settled(job_id=job_id, attempt=attempt):
                self.flow.on_settled(key_of(job_id, attempt))
            case HeartbeatAck(sent_at=sent_at):
                self._keep_leases(sent_at)
            case EventsAck():
                self.flow.on_events_ack(message)
            case Stop(job_id=job_id, attempt=attempt):
                self.flow.on_stop(key_of(job_id, attempt))
            case SetPause():
                self.flow.on_set_pause(message)
            case KeptAck(job_id=job_id, attempt=attempt, file_id=file_id):
                self.flow.on_kept(key_of(job_id, attempt), file_id)
            case Recall(job_id=job_id, attempt=attempt):
                self.flow.on_recall(key_of(job_id, attempt))
            case ChildFinished(outcome=outcome):
                self.flow.children.on_finished(outcome)
            case Registered():
                self._lease_s = message.lease_s
                self._on_registered(message)
            case HealDevice() | LeaveNow():
                self._on_operator(message)
            case _:
                pass  # Blob messages are the shell's.

    def _on_operator(self, message: HealDevice | LeaveNow) -> None:
        if isinstance(message, HealDevice):
            self._effects.append(LookAgain(message.gpu))
            return
        if message.stop or not self._is_draining:
            self._is_stopping_after_drain = message.stop
        self._drain(is_hurried=False)

    def _on_shorter_lease(self, lease_s: float) -> None:
        if self._agreed is None or self._acked_at is None:
            return
        self._shortest_s = lease_s
        # It may not start before a heartbeat is answered, if the last one is too old for it.
        is_fresh = self._now < self._acked_at + lease_s / 2
        soon_at = (
            self._now + leases.beat_s(self._agreed.heartbeat_s, lease_s) if is_fresh else self._now
        )
        self._wake_at = min(self._wake_at, soon_at)

    def _on_machine(self, event: LoadSampled | MeetingMoved) -> None:
        if isinstance(event, MeetingMoved):
            self._meeting = event.meeting
            if self._agreed is not None:
                self._beat()  # At once: it must be known before the gang is over.
        else:
            self._load, self._figures = event.load, event.figures or self._figures
            self._on_capacity(event.capacity or self.bench.capacity)

    def _on_capacity(self, capacity: Capacity) -> None:
        if capacity != self.bench.capacity:
            self.bench.capacity = capacity
            if self._agreed is not None:
                self._beat()
            # After the heartbeat: so they are not placed here again.
            self.flow.return_impossible()

    # --- leaving ---

    def _drain(self, *, is_hurried: bool) -> None:
        if not self._is_draining:
            self._is_draining = True
            self._send(Leaving(reason="the worker is draining"))
            self.flow.return_waiting("its worker is draining")
        if is_hurried:
            self._is_hurried = True
            self.flow.stop_all("the worker is told to stop at once")

    def _leave_if_done(self) -> None:
        if not self._is_draining or self._has_left or not self._is_stopping_after_drain:
            return
        is_waiting = self._acked_at is not None and not self._is_hurried
        if self.bench.attempts and (self._session is not None or is_waiting):
            return
        if any(a.phase not in (Phase.ENDED, Phase.STORING) for a in self.bench.attempts.values()):
            return
        self._has_left = True
        self._effects.append(Leave())
