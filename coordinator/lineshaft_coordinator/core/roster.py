"""Which workers are here, what they still hold, and when they count as lost.

The newest session of a worker counts. When it registers, what it holds and what the ledger leases
to it are made the same; when it is gone, each of its leases waits as long as its kind of work is
worth, and only then is the job given away.
"""

from typing import Literal

from lineshaft_coordinator.core.fleet import Lease, Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.gangs import GangDesk
from lineshaft_coordinator.core.io import POLICY, PROTOCOL_FAULT
from lineshaft_coordinator.core.leasing import LeaseDesk
from lineshaft_coordinator.core.ledger import Leased
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.figures import Figures
from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.outcomes import Failure, Outcome
from lineshaft_protocol.versions import FEATURES, PROTOCOL_MAX, PROTOCOL_MIN, Versions, settle
from lineshaft_protocol.worker_messages import (
    Held,
    LeaveNow,
    Register,
    Registered,
    SetPause,
    Settled,
    Stop,
)


class Roster:
    """Handles the coming, going and silence of workers."""

    def __init__(self, shop: Shop, flow: JobFlow, gangs: GangDesk, leases: LeaseDesk) -> None:
        self._shop, self._flow, self._gangs, self._leases = shop, flow, gangs, leases

    def on_register(self, session: Session, register: Register) -> None:
        """A worker says who it is, what it offers and what it holds."""
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
        if worker.last_session > session:
            shop.close(session, POLICY, "this worker has registered on a newer connection")
            shop.fleet.forget_if_idle(worker)
            return
        if worker.session is not None:
            shop.close(worker.session, POLICY, "replaced by a newer connection of this worker")
            shop.fleet.detach(worker, shop.now)
        if register.is_draining or worker.incarnation != register.incarnation:
            worker.leave_now = None
        # A daemon that we did not know may have counted long before; one started since has not.
        if worker.incarnation not in ("", register.incarnation):
            worker.figures = Figures()
        worker.incarnation, worker.register = register.incarnation, register
        worker.capacity, worker.pythons = register.capacity, register.pythons
        worker.tags, worker.is_draining = frozenset(register.tags), register.is_draining
        worker.meeting = register.meeting
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
            if not self._leases.reconcile(session, worker, job_id, found):
                continue
            if found.is_running and not found.is_unplaced:
                worker.promote(job_id)
                lease.is_started = True
                worker.note_environment(lease.shape.environment)
            lease.is_recalled = False
            self._count_children(worker, job_id, lease)
            self._repeat_pause(session, job_id, found)
            reason = shop.job(job_id).cancel_reason or self._gangs.stop_reason(job_id)
            if reason is not None:
                shop.send(session, Stop(job_id=job_id, attempt=lease.attempt, reason=reason))
            self._flow.tell_state(job_id)
        for job_id, attempt in has:
            shop.send(session, Settled(job_id=job_id, attempt=attempt))

    def _repeat_pause(self, session: Session, job_id: JobId, held: Held) -> None:
        pause = self._shop.job(job_id).pause
        mode = pause.mode if pause is not None else "none"
        if held.pause != mode:
            attempt = held.attempt
            self._shop.send(session, SetPause(job_id=job_id, attempt=attempt, mode=mode))

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
        if state.incarnation == worker.incarnation or worker.waiting_lease(job_id):
            # Our Assign never reached it, or it was waiting there when its daemon ended. What
            # might have run counts: a job that kills its worker at once must not do so for ever.
            self.give_up(job_id, "not_delivered", "it never reached its worker")
        else:
            self.give_up(job_id, "worker_lost", f"worker {worker.worker_id} was restarted")

    def on_disconnected(self, session: Session) -> None:
        """A worker's session ended; what it runs goes on until its leases say otherwise."""
        shop = self._shop
        worker = shop.fleet.by_session.get(session)
        if worker is None:
            return
        shop.fleet.detach(worker, shop.now)
        shop.deadlines.clear(("silence", worker.worker_id))
        for job_id in worker.lease_ids():
            # Whoever was here since our start was heard by us: no window to wait for.
            self.expect_return(job_id, not_before=shop.now)
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
        self.give_up(job_id, "worker_lost", f"worker {job.state.worker_id} was lost")

    def give_up(
        self, job_id: JobId, cause: Literal["not_delivered", "worker_lost"], reason: str
    ) -> None:
        """End an attempt that its worker will not end."""
        shop, job = self._shop, self._shop.job(job_id)
        assert isinstance(job.state, Leased), "only a leased job is given up"
        attempt, worker_id = job.state.attempt, job.state.worker_id
        if shop.fleet.workers[worker_id].waiting_lease(job_id):
            cause = "not_delivered"
        if shop.gang_of(job_id) is not None:
            self._gangs.on_left(job_id, cause, reason)
        elif job.cancel_reason is not None:
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
            outcome = Outcome(
                job_id=job_id,
                status="failed",
                attempt=attempt,
                failure=failure,
                worker_id=worker_id,
            )
            self._flow.finish(job_id, outcome)
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

    def drain(self, worker: Worker, *, stop: bool) -> None:
        """Ask a worker that is here to take nothing more."""
        assert worker.session is not None, "only a worker that is here can be asked"
        worker.is_draining, worker.leave_now = True, LeaveNow(stop=stop)
        self._shop.fleet.changed(worker)
        self._shop.send(worker.session, worker.leave_now)
