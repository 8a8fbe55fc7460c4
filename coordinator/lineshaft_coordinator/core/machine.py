"""The coordinator's core: events in, effects out; no I/O, no clock, no dice, no log."""

from collections.abc import Iterable
from typing import cast

from lineshaft_coordinator.core.clients import ClientDesk
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.gangs import GangDesk
from lineshaft_coordinator.core.io import (
    CancelAsked,
    Connected,
    Disconnected,
    Effect,
    Event,
    Found,
    PauseAsked,
    Received,
    ResumeAsked,
    StopPlacing,
    Tick,
)
from lineshaft_coordinator.core.lately import Done
from lineshaft_coordinator.core.leasing import LeaseDesk
from lineshaft_coordinator.core.ledger import Leased, Ledger, Queued
from lineshaft_coordinator.core.pausing import PauseDesk
from lineshaft_coordinator.core.preemption import PREEMPT, Preemption
from lineshaft_coordinator.core.roster import Roster
from lineshaft_coordinator.core.scheduler import RECALL, RESERVE, Scheduler
from lineshaft_coordinator.core.settings import CoreSettings
from lineshaft_coordinator.core.shop import Alarm, LookedUp, Shop
from lineshaft_coordinator.core.workers import WorkerDesk
from lineshaft_protocol.client_messages import Cancel, FromClient, Submit, Watch
from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.worker_messages import FromWorker, SpawnChild

STALL_S = 5.0


class CoordinatorCore:
    """Accepts, places and ends jobs.

    Args:
        settings: The numbers that decide.
        ledger: What the journal says; leases in it are waited for, not judged.
        epoch: Number of this start, larger than any before.
        now: Any clock that runs forward, in seconds; the same one for every call.
    """

    def __init__(self, settings: CoreSettings, *, ledger: Ledger, epoch: int, now: float) -> None:
        self.shop = Shop(settings, ledger, epoch, started_at=now, now=now)
        self._flow = JobFlow(self.shop)
        self._leases = LeaseDesk(self.shop, self._flow)
        self._scheduler = Scheduler(self.shop, self._flow, self._leases)
        self._gangs = GangDesk(self.shop, self._flow)
        self._roster = Roster(self.shop, self._flow, self._gangs, self._leases)
        self._pauses = PauseDesk(self.shop, self._flow)
        self._preemption = Preemption(self.shop, self._flow, self._pauses)
        self._workers = WorkerDesk(
            self.shop, self._flow, self._roster, self._pauses, self._gangs, self._leases
        )
        self._clients = ClientDesk(self.shop, self._flow, self._roster, self._pauses, self._gangs)
        self._recover()

    def handle(self, events: Iterable[Event], now: float) -> list[Effect]:
        """Take in events of one moment, and say what must be done about them, in order.

        Work is given away once, when all of them are known.
        """
        shop = self.shop
        assert now >= shop.now, "time runs forward"
        shop.now = now
        clients = shop.clients
        for event in events:
            # Messages first: there are more of them than of all else together.
            if type(event) is Received:
                # The shell decodes by the session's role, so the role tells the type.
                if (session := event.session) in clients:
                    self._clients.on_message(session, cast("FromClient", event.message))
                else:
                    self._workers.on_message(session, cast("FromWorker", event.message))
            else:
                self._take(event, now)
        self._scheduler.settle()
        self._preemption.watch()
        effects, shop.effects = shop.effects, []
        return effects

    def _take(self, event: Event, now: float) -> None:
        shop = self.shop
        match event:
            case Received():
                raise AssertionError("messages are taken apart from other events")
            case Tick():
                self._on_tick(now)
            case Connected(session=session, role=role, owner=owner):
                if role == "client":
                    self._clients.on_connected(session, owner)
            case Disconnected(session=session):
                self._clients.on_disconnected(session)
                self._roster.on_disconnected(session)
            case Found():
                self._on_found(event)
            case CancelAsked(job_id=job_id, reason=reason):
                if job_id in shop.ledger.jobs and not self._gangs.cancel(job_id, reason):
                    self._flow.cancel(job_id, reason)
            case PauseAsked(job_id=job_id, reason=reason, freeze=freeze):
                self._pauses.pause(job_id, reason, freeze=freeze)
            case ResumeAsked(job_id=job_id, checkpoint=checkpoint):
                if job_id in shop.ledger.jobs:
                    self._pauses.resume(job_id, checkpoint=checkpoint)
            case StopPlacing():
                shop.is_stopping = True

    def next_deadline(self) -> float | None:
        """When to send the next Tick, on the clock of ``now``."""
        return self.shop.deadlines.next()

    def _recover(self) -> None:
        shop = self.shop
        for job_id, job in shop.ledger.jobs.items():
            if isinstance(job.state, Leased):
                self._leases.restore(job_id)
                not_before = shop.started_at + shop.settings.recovery_s
                self._roster.expect_return(job_id, not_before=not_before)
                self._pauses.restore(job_id)
        self._gangs.restore()
        for job_id, job in tuple(shop.ledger.jobs.items()):
            if not isinstance(job.state, Leased) and not self._gangs.is_held(job_id):
                self._flow.enter(job_id)
        self._scheduler.settle()
        assert not shop.effects, "recovery decides nothing"

    def _on_tick(self, now: float) -> None:
        deadline = self.shop.deadlines.next()
        if deadline is not None and now - deadline > STALL_S:
            self._forgive_silence()
        for alarm in self.shop.deadlines.due(now):
            self._on_alarm(alarm)

    def _forgive_silence(self) -> None:
        """We were not running: nobody is judged by what we could not hear."""
        shop = self.shop
        for worker in shop.fleet.by_session.values():
            worker.heard_at = shop.now
            self._flow.freed[worker.worker_id] = worker
        for client in shop.clients.values():
            client.heard_at = shop.now
        for worker in shop.fleet.workers.values():
            if worker.session is None:
                for job_id in worker.lease_ids():
                    not_before = shop.now + shop.settings.recovery_s
                    self._roster.expect_return(job_id, not_before=not_before)

    def _on_alarm(self, alarm: Alarm) -> None:
        kind, key = alarm
        match kind:
            case "silence":
                self._roster.on_silence(WorkerId(str(key)))
            case "lost":
                self._roster.on_lost(JobId(str(key)))
            case "retry":
                self._flow.retry_now(JobId(str(key)))
            case "queue":
                self._on_queued_too_long(JobId(str(key)))
            case "pause":
                self._pauses.on_late(JobId(str(key)))
            case "client":
                self._clients.on_silence(Session(int(key)))
            case _ if alarm == RESERVE:
                self._scheduler.reserve()
            case _ if alarm == PREEMPT:
                self._preemption.preempt()
            case _ if alarm == RECALL:
                self._scheduler.recall()
            case _:
                raise AssertionError(f"nobody set {alarm}")

    def _on_queued_too_long(self, job_id: JobId) -> None:
        job = self.shop.ledger.jobs.get(job_id)
        if job is None or not isinstance(job.state, Queued):
            return
        timeouts = job.spec.timeouts
        assert timeouts is not None, "only a job with a queue_timeout has waited too long"
        text = f"no worker took it within its queue_timeout of {timeouts.queue_s or 0.0:g} s"
        failure = Failure(cause="queue_timeout", message=text)
        self._flow.finish(
            job_id,
            Outcome(job_id=job_id, status="failed", attempt=job.attempt_count, failure=failure),
        )

    def _on_found(self, found: Found) -> None:
        shop, recent = self.shop, self.shop.ledger.recent
        had_ended = found.job_id in shop.had_ended
        shop.had_ended.pop(found.job_id, None)
        if found.outcome is not None and found.spec is not None:
            recent.add(found.job_id, Done(found.spec, found.outcome))
        elif had_ended and found.spec is None and found.problem is None:
            recent.pop(found.job_id)  # Pruned: it would be looked up again for ever.
        for session, message in shop.pending.pop(found.job_id, ()):
            if self._has_refused_unreadable(session, message, found):
                continue
            match message:
                case Submit():
                    self._resubmit(session, message, found)
                case SpawnChild():
                    self._workers.on_spawn(session, message.model_copy(update={"is_repeat": False}))
                case Cancel() | Watch() if session not in shop.clients:
                    pass
                case Cancel() | Watch() if not self._may_be_known(JobId(message.job_id)):
                    self._clients.on_unknown(session, JobId(message.job_id))
                case Cancel():
                    self._clients.on_cancel(session, message)
                case Watch():
                    self._clients.on_watch(session, message)

    def _has_refused_unreadable(self, session: Session, message: LookedUp, found: Found) -> bool:
        # Taken for unknown, a job that ended long ago would be run once more.
        shop = self.shop
        job_id = JobId(
            message.job.job_id if isinstance(message, Submit | SpawnChild) else message.job_id
        )
        # That it ended does not help: how would be looked up again for ever.
        is_at_hand = job_id in shop.ledger.jobs or shop.ledger.recent.get(job_id) is not None
        if found.problem is None or is_at_hand:
            return False
        if isinstance(message, SpawnChild):
            self._workers.on_unreadable(session, job_id, found.problem)
            return True
        if isinstance(message, Submit) and shop.submitting.get(job_id) == found.job_id:
            del shop.submitting[job_id]
        self._clients.on_unreadable(session, job_id, found.problem)
        return True

    def _may_be_known(self, job_id: JobId) -> bool:
        # The lookup says what was true when it was read; a Submit may have come since.
        shop = self.shop
        return (
            job_id in shop.ledger.jobs or job_id in shop.ledger.recent or job_id in shop.submitting
        )

    def _resubmit(self, session: Session, submit: Submit, found: Found) -> None:
        shop, job_id = self.shop, JobId(submit.job.job_id)
        if shop.submitting.get(job_id) == found.job_id:
            del shop.submitting[job_id]
        if session not in shop.clients:
            return
        is_itself = job_id == found.job_id
        if not is_itself and not self._may_be_known(found.job_id):
            self._clients.on_unknown_dependency(session, job_id, found.job_id)
            return
        # The history does not know it, or what it knew is in ``recent`` by now.
        found_out = {"is_repeat": False, "is_fresh": True} if is_itself else {}
        self._clients.on_submit(session, submit.model_copy(update=found_out))
