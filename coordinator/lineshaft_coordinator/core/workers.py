"""What workers say, and what it means.

What can race: an Ended and the loss of its worker's lease; an Assign in flight and the end of the
session that should carry it; two sessions of one worker. The newest session counts, an attempt
counts while the ledger leases it to the worker that speaks of it, and everything older is
answered with Settled: forget it.
"""

from typing import Literal

from lineshaft_coordinator.core.fleet import Lease, Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.io import POLICY, PROTOCOL_FAULT, AppendEvents
from lineshaft_coordinator.core.ledger import Job, Leased
from lineshaft_coordinator.core.retries import retry_delay_s
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.client_messages import Events
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.versions import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN, Versions, settle
from lineshaft_protocol.worker_messages import (
    Began,
    ChildFinished,
    Ended,
    EventsAck,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Held,
    JobEvents,
    LeaveNow,
    Leaving,
    Register,
    Registered,
    Returned,
    Settled,
    SpawnChild,
    Stop,
)


class WorkerDesk:
    """Handles the messages and the silence of workers."""

    def __init__(self, shop: Shop, flow: JobFlow) -> None:
        self._shop, self._flow = shop, flow

    def on_message(self, session: Session, message: FromWorker) -> None:
        """Act on what a worker said on its session."""
        shop = self._shop
        if isinstance(message, Register):
            self._on_register(session, message)
            return
        worker = shop.fleet.by_session.get(session)
        if worker is None:
            shop.close(session, PROTOCOL_FAULT, "the first message must be Register")
            return
        if shop.now - worker.heard_at > shop.settings.suspect_s:
            self._flow.freed[worker.worker_id] = worker
        worker.heard_at = shop.now
        match message:
            case Ended(result=result):
                self._on_ended(worker, session, result)
            case Heartbeat():
                self._on_heartbeat(worker, session, message)
            case Began():
                self._on_began(worker, message)
            case JobEvents(events=events):
                self._on_events(worker, session, events)
            case Returned():
                self._on_returned(worker, session, message)
            case SpawnChild():
                self.on_spawn(session, message)
            case Leaving():
                worker.is_draining = True
                shop.fleet.changed(worker)
            case _:
                shop.close(session, PROTOCOL_FAULT, f"unexpected {message.type}")

    # --- coming and going ---

    def _on_register(self, session: Session, register: Register) -> None:
        shop = self._shop
        ours = Versions()
        protocol = settle(ours, register.versions)
        if protocol is None:
            text = f"this coordinator speaks protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}"
            shop.close(session, POLICY, f"{text}; upgrade the older side")
            return
        if session in shop.fleet.by_session:
            shop.close(session, PROTOCOL_FAULT, "a session registers once")
            return
        worker = shop.fleet.worker(WorkerId(register.worker_id))
        if worker.session is not None:
            if worker.session > session:
                shop.close(session, POLICY, "a newer connection of this worker is open")
                return
            shop.close(worker.session, POLICY, "replaced by a newer connection of this worker")
            shop.fleet.detach(worker, shop.now)
        if register.is_draining or worker.incarnation != register.incarnation:
            worker.leave_now = None
        worker.incarnation, worker.register = register.incarnation, register
        worker.capacity, worker.pythons = register.capacity, register.pythons
        worker.tags, worker.is_draining = frozenset(register.tags), register.is_draining
        shop.fleet.attach(worker, session, shop.now)
        self._watch_silence(worker)
        settings = shop.settings
        shop.send(
            session,
            Registered(
                worker_id=worker.worker_id,
                protocol=protocol,
                epoch=shop.epoch,
                features=tuple(f for f in FEATURES if f in register.versions.features),
                heartbeat_s=settings.heartbeat_s,
                silence_s=settings.silence_s,
                lease_s=settings.lease_s,
            ),
        )
        self._reconcile(worker, session, register.held)
        if worker.leave_now is not None:
            self.drain(worker, stop=worker.leave_now.stop)
        shop.fleet.changed(worker)
        self._flow.freed[worker.worker_id] = worker

    def _reconcile(self, worker: Worker, session: Session, held: tuple[Held, ...]) -> None:
        """Make what the worker has and what the ledger says it has the same."""
        shop = self._shop
        has = {(JobId(h.job_id), h.attempt): h for h in held}
        for job_id in worker.lease_ids():
            lease = worker.lease_of(job_id)
            assert lease is not None, "lease_ids lists leases"
            shop.deadlines.clear(("lost", job_id))
            found = has.pop((job_id, lease.attempt), None)
            if found is None:
                self._on_not_held(worker, job_id)
                continue
            if found.is_running and not lease.is_started:
                worker.promote(job_id)
                lease.is_started = True
            lease.is_recalled = False
            self._count_children(worker, job_id, lease)
            reason = shop.job(job_id).cancel_reason
            if reason is not None:
                shop.send(session, Stop(job_id=job_id, attempt=lease.attempt, reason=reason))
            self._flow.tell_state(job_id)
        for job_id, attempt in has:
            shop.send(session, Settled(job_id=job_id, attempt=attempt))

    def _count_children(self, worker: Worker, job_id: JobId, lease: Lease) -> None:
        # After our restart the children are in the ledger, but nobody counted them yet.
        count = 0
        for child_id in self._shop.children.get(job_id, {}):
            parent = self._shop.job(child_id).spec.parent
            count += parent is not None and parent.attempt == lease.attempt
        while lease.child_count < count and job_id in worker.running:
            worker.suspend(job_id)

    def _on_not_held(self, worker: Worker, job_id: JobId) -> None:
        state = self._shop.job(job_id).state
        assert isinstance(state, Leased), "a worker's leases are the ledger's"
        if state.incarnation == worker.incarnation or job_id in worker.backlog:
            # Our Assign never reached it, or it was waiting there when its daemon ended. What
            # might have run counts: a job that kills its worker at once must not do so for ever.
            self._give_up(job_id, "not_delivered", "it never reached its worker")
        else:
            self._give_up(job_id, "worker_lost", f"worker {worker.worker_id} was restarted")

    def on_disconnected(self, session: Session) -> None:
        """A worker's session ended; what it runs goes on until its leases say otherwise."""
        shop = self._shop
        worker = shop.fleet.by_session.get(session)
        if worker is None:
            return
        shop.fleet.detach(worker, shop.now)
        shop.deadlines.clear(("silence", worker.worker_id))
        for job_id in worker.lease_ids():
            self.expect_return(job_id, not_before=shop.started_at + shop.settings.recovery_s)
        shop.fleet.forget_if_idle(worker)

    def expect_return(self, job_id: JobId, *, not_before: float) -> None:
        """Set the moment from which the job's worker counts as lost to it."""
        shop = self._shop
        wait_s = shop.settings.lost_after_s_of(shop.job(job_id).spec)
        # What never started may start elsewhere as soon as anything may.
        shop.deadlines.set(("lost", job_id), max(shop.now + wait_s, not_before))

    def on_lost(self, job_id: JobId) -> None:
        """The job's worker has been away for too long."""
        job = self._shop.ledger.jobs.get(job_id)
        if job is None or not isinstance(job.state, Leased):
            return
        self._give_up(job_id, "worker_lost", f"worker {job.state.worker_id} was lost")

    def _give_up(
        self, job_id: JobId, cause: Literal["not_delivered", "worker_lost"], reason: str
    ) -> None:
        shop, job = self._shop, self._shop.job(job_id)
        assert isinstance(job.state, Leased), "only a leased job is given up"
        attempt, worker_id = job.state.attempt, job.state.worker_id
        if job_id in shop.fleet.workers[worker_id].backlog:
            cause = "not_delivered"
        if job.cancel_reason is not None:
            text = f"{job.cancel_reason}; {reason}, so the end of its processes was not seen"
            outcome = Outcome(
                job_id=job_id,
                status="cancelled",
                attempt=attempt,
                worker_id=worker_id,
                reason=text,
            )
            self._flow.finish(job_id, outcome)
        elif cause == "not_delivered":
            self._flow.leave(job_id, "not_delivered", reason=reason)
        elif job.lost_count + 1 >= shop.settings.lost_max:
            text = f"{reason}; {job.lost_count + 1} workers were lost with this job"
            failure = Failure(cause="worker_lost", message=text)
            self._finish_failed(job_id, attempt, worker_id, failure)
        else:
            self._flow.leave(job_id, "worker_lost", reason=reason)

    def _watch_silence(self, worker: Worker) -> None:
        at = worker.heard_at + self._shop.settings.silence_s
        self._shop.deadlines.set(("silence", worker.worker_id), at)

    def on_silence(self, worker_id: WorkerId) -> None:
        """A worker may have been silent for too long."""
        shop = self._shop
        worker = shop.fleet.workers.get(worker_id)
        if worker is None or worker.session is None:
            return
        # Compared as it was set, see ClientDesk.on_silence.
        if shop.now < worker.heard_at + shop.settings.silence_s:
            self._watch_silence(worker)
            return
        session = worker.session
        shop.close(session, POLICY, f"silent for {shop.settings.silence_s:g} s")
        self.on_disconnected(session)

    # --- while it is here ---

    def _on_heartbeat(self, worker: Worker, session: Session, beat: Heartbeat) -> None:
        worker.load = dict(beat.load)
        if beat.capacity is not None and beat.capacity != worker.capacity:
            worker.capacity = beat.capacity
        self._shop.send(session, HeartbeatAck(sent_at=beat.sent_at))
        self._shop.fleet.changed(worker)
        self._flow.freed[worker.worker_id] = worker

    def _leased(self, worker: Worker, job_id: JobId, attempt: int) -> Job | None:
        """The job, if the ledger leases this attempt of it to this worker."""
        job = self._shop.ledger.jobs.get(job_id)
        if (
            job is not None
            and isinstance(job.state, Leased)
            and job.state.attempt == attempt
            and job.state.worker_id == worker.worker_id
        ):
            return job
        return None

    def _on_began(self, worker: Worker, began: Began) -> None:
        job_id = JobId(began.job_id)
        if self._leased(worker, job_id, began.attempt) is None:
            return
        worker.promote(job_id)
        worker.running[job_id].is_started = True
        self._flow.tell_state(job_id)

    def _on_returned(self, worker: Worker, session: Session, returned: Returned) -> None:
        job_id = JobId(returned.job_id)
        job = self._leased(worker, job_id, returned.attempt)
        if job is not None and job.cancel_reason is not None:
            self._finish_cancelled(job_id, returned.attempt, worker.worker_id)
        elif job is not None:
            self._flow.leave(job_id, "returned", reason=returned.reason)
        self._shop.send(session, Settled(job_id=job_id, attempt=returned.attempt))

    def _on_ended(self, worker: Worker, session: Session, result: AttemptResult) -> None:
        job_id = JobId(result.job_id)
        worker.ended_at = self._shop.now
        job = self._leased(worker, job_id, result.attempt)
        if job is not None:
            self._conclude(worker, job_id, job, result)
        self._shop.send(session, Settled(job_id=job_id, attempt=result.attempt))

    def _conclude(self, worker: Worker, job_id: JobId, job: Job, result: AttemptResult) -> None:
        match result.status:
            case "succeeded":
                self._shop.note_pace(job.spec, result.run_s)
                outcome = Outcome(
                    job_id=job_id,
                    status="succeeded",
                    attempt=result.attempt,
                    result=result.result,
                    worker_id=worker.worker_id,
                    run_s=result.run_s,
                    peak_memory_bytes=result.peak_memory_bytes,
                )
                self._flow.finish(job_id, outcome)
            case "failed":
                failure = result.failure or Failure(cause="exit", message="no reason was given")
                if job.cancel_reason is not None:
                    self._finish_cancelled(job_id, result.attempt, worker.worker_id)
                elif job.failed_count < job.spec.retries:
                    delay_s = retry_delay_s(self._shop.settings, job.failed_count)
                    reason = f"{failure.cause}: {failure.message}"
                    self._flow.leave(
                        job_id, "failed", reason=reason, failure=failure, delay_s=delay_s
                    )
                else:
                    self._finish_failed(
                        job_id, result.attempt, worker.worker_id, failure, result=result
                    )
            case "stopped":
                if job.cancel_reason is not None:
                    self._finish_cancelled(job_id, result.attempt, worker.worker_id)
                elif worker.is_draining:
                    reason = f"worker {worker.worker_id} was drained"
                    self._flow.leave(job_id, "returned", reason=reason)
                else:
                    self._give_up(job_id, "worker_lost", f"worker {worker.worker_id} stopped it")

    def _finish_cancelled(self, job_id: JobId, attempt: int, worker_id: WorkerId) -> None:
        reason = self._shop.job(job_id).cancel_reason
        self._flow.finish(
            job_id,
            Outcome(
                job_id=job_id,
                status="cancelled",
                attempt=attempt,
                worker_id=worker_id,
                reason=reason,
            ),
        )

    def _finish_failed(
        self,
        job_id: JobId,
        attempt: int,
        worker_id: WorkerId,
        failure: Failure,
        *,
        result: AttemptResult | None = None,
    ) -> None:
        self._flow.finish(
            job_id,
            Outcome(
                job_id=job_id,
                status="failed",
                attempt=attempt,
                failure=failure,
                worker_id=worker_id,
                run_s=result.run_s if result is not None else None,
                peak_memory_bytes=result.peak_memory_bytes if result is not None else None,
            ),
        )

    def _on_events(self, worker: Worker, session: Session, events: tuple[JobEvent, ...]) -> None:
        shop = self._shop
        last: dict[tuple[JobId, int], int] = {}
        kept: dict[JobId, list[JobEvent]] = {}
        for event in events:
            job_id = JobId(event.job_id)
            last[job_id, event.attempt] = event.seq
            lease = worker.running.get(job_id) or worker.backlog.get(job_id)
            if lease is None or lease.attempt != event.attempt or event.seq <= lease.event_seq:
                continue
            lease.event_seq = event.seq
            kept.setdefault(job_id, []).append(event)
        for job_id, new in kept.items():
            shop.effects.append(AppendEvents(tuple(new), shop.job(job_id).client_id))
            for watcher in shop.watchers.get(job_id, ()):
                if shop.clients[watcher].watched.get(job_id):
                    shop.send(watcher, Events(events=tuple(new)))
        for (job_id, attempt), seq in last.items():
            shop.send(session, EventsAck(job_id=job_id, attempt=attempt, seq=seq))

    # --- children of plans ---

    def on_spawn(self, session: Session, spawn: SpawnChild) -> None:
        """A plan wants a node done elsewhere."""
        shop, spec = self._shop, spawn.job
        worker = shop.fleet.by_session.get(session)
        if worker is None:
            return
        job_id, parent = JobId(spec.job_id), spec.parent
        job = self._leased(worker, JobId(parent.job_id), parent.attempt) if parent else None
        if parent is None or job is None:
            failure = Failure(cause="dependency", message="its plan no longer runs here")
            outcome = Outcome(job_id=job_id, status="failed", attempt=0, failure=failure)
            shop.send(session, ChildFinished(outcome=outcome))
        elif (done := shop.ledger.recent.get(job_id)) is not None:
            shop.send(session, ChildFinished(outcome=done.outcome))
        elif job_id in shop.ledger.jobs:
            pass  # It is on its way; the answer follows.
        elif spawn.is_repeat:
            shop.look_up(job_id, session, spawn)
        else:
            worker.suspend(JobId(parent.job_id))
            self._flow.freed[worker.worker_id] = worker
            shop.fleet.changed(worker)
            self._flow.accept(spec, job.client_id)

    def drain(self, worker: Worker, *, stop: bool) -> None:
        """Ask a worker that is here to take nothing more."""
        assert worker.session is not None, "only a worker that is here can be asked"
        worker.is_draining, worker.leave_now = True, LeaveNow(stop=stop)
        self._shop.fleet.changed(worker)
        self._shop.send(worker.session, worker.leave_now)
