"""What workers say, and what it means.

What can race: an Ended and the loss of its worker's lease; an Assign in flight and the end of the
session that should carry it; two sessions of one worker. The newest session counts, an attempt
counts while the ledger leases it to the worker that speaks of it, and everything older is
answered with Settled: forget it.
"""

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.gangs import GangDesk
from lineshaft_coordinator.core.io import PROTOCOL_FAULT, AppendEvents
from lineshaft_coordinator.core.leasing import LeaseDesk
from lineshaft_coordinator.core.ledger import Job, Leased
from lineshaft_coordinator.core.pausing import PauseDesk
from lineshaft_coordinator.core.refusals import refusal_of
from lineshaft_coordinator.core.retries import retry_delay_s
from lineshaft_coordinator.core.roster import Roster
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.client_messages import Events
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId, Session, WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.wire import unchecked
from lineshaft_protocol.worker_messages import (
    Began,
    ChildFinished,
    Ended,
    EventsAck,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    JobEvents,
    Kept,
    Leaving,
    PauseTold,
    Prepared,
    Preparing,
    Register,
    Returned,
    Settled,
    SpawnChild,
)

_outcome, _settled = unchecked(Outcome), unchecked(Settled)


class WorkerDesk:
    """Handles the messages of workers."""

    def __init__(
        self,
        shop: Shop,
        flow: JobFlow,
        roster: Roster,
        pauses: PauseDesk,
        gangs: GangDesk,
        leases: LeaseDesk,
    ) -> None:
        self._shop, self._flow, self._roster, self._pauses = shop, flow, roster, pauses
        self._gangs, self._leases = gangs, leases

    def on_message(self, session: Session, message: FromWorker) -> None:
        """Act on what a worker said on its session."""
        shop = self._shop
        worker = shop.fleet.by_session.get(session)
        if type(message) is Register:
            self._roster.on_register(session, message)
            return
        if worker is None:
            shop.close(session, PROTOCOL_FAULT, "the first message must be Register")
            return
        if shop.now - worker.heard_at > shop.settings.suspect_s:
            self._flow.freed[worker.worker_id] = worker
        worker.heard_at = shop.now
        if type(message) is Ended:
            self._on_ended(worker, session, message.result)
            return
        match message:
            case Heartbeat():
                self._on_heartbeat(worker, session, message)
            case Preparing():
                self._leases.on_preparing(worker, message)
            case Prepared():
                self._leases.on_prepared(worker, message)
            case Began():
                self._on_began(worker, message)
            case JobEvents(events=events):
                self._on_events(worker, session, events)
            case Returned():
                self._on_returned(worker, session, message)
            case SpawnChild():
                self.on_spawn(session, message)
            case Kept(job_id=job_id, file=file):
                self._on_kept(worker, session, JobId(job_id), file)
            case PauseTold(job_id=job_id, attempt=attempt):
                if self._leased(worker, JobId(job_id), attempt) is not None:
                    self._pauses.on_told(worker, message)
            case Leaving():
                worker.is_draining = True
                shop.fleet.changed(worker)
            case _:
                shop.close(session, PROTOCOL_FAULT, f"unexpected {message.type}")

    def _on_heartbeat(self, worker: Worker, session: Session, beat: Heartbeat) -> None:
        worker.load = dict(beat.load)
        if beat.capacity is not None and beat.capacity != worker.capacity:
            worker.capacity = beat.capacity
        worker.meeting = beat.meeting or worker.meeting
        if beat.figures is not None:
            self._shop.environment_hits.add(beat.figures, since=worker.figures)
            worker.figures = beat.figures
        self._shop.send(session, HeartbeatAck(sent_at=beat.sent_at))
        self._shop.fleet.changed(worker)
        self._flow.freed[worker.worker_id] = worker

    def _leased(self, worker: Worker, job_id: JobId, attempt: int) -> Job | None:
        """The job, if the ledger leases this attempt of it to this worker."""
        job = self._shop.ledger.jobs.get(job_id)
        state = job.state if job is not None else None
        if (
            type(state) is Leased
            and state.attempt == attempt
            and state.worker_id == worker.worker_id
        ):
            return job
        return None

    def _on_kept(self, worker: Worker, session: Session, job_id: JobId, file: KeptFile) -> None:
        is_current = self._leased(worker, job_id, file.attempt) is not None
        if not is_current:
            self._count_stale(worker, job_id, file.attempt)
        self._pauses.keep(session, job_id, file, is_current=is_current)

    def _count_stale(self, worker: Worker, job_id: JobId, attempt: int) -> None:
        """Count what is refused; an end that is told again is on record already, and is not."""
        recent = self._shop.ledger.recent
        self._shop.stale_count += not recent.is_end_of(job_id, attempt, worker.worker_id)

    def _on_began(self, worker: Worker, began: Began) -> None:
        job_id = JobId(began.job_id)
        if self._leased(worker, job_id, began.attempt) is None or job_id in worker.preparing:
            return  # It is out of date; nobody begins what has no place.
        worker.promote(job_id)
        lease = worker.running[job_id]
        lease.is_started = True
        worker.note_environment(lease.shape.environment)
        self._flow.tell_state(job_id)

    def _on_returned(self, worker: Worker, session: Session, returned: Returned) -> None:
        job_id = JobId(returned.job_id)
        job = self._leased(worker, job_id, returned.attempt)
        if job is not None and self._shop.gang_of(job_id) is not None:
            self._gangs.on_left(job_id, "returned", returned.reason)
        elif job is not None and job.cancel_reason is not None:
            self._finish_cancelled(job_id, returned.attempt, worker.worker_id)
        elif job is not None:
            self._flow.leave(job_id, "returned", reason=returned.reason)
        self._shop.send(session, Settled(job_id=job_id, attempt=returned.attempt))

    def _on_ended(self, worker: Worker, session: Session, result: AttemptResult) -> None:
        job_id, attempt, shop = JobId(result.job_id), result.attempt, self._shop
        worker.ended_at = shop.now
        job = self._leased(worker, job_id, attempt)
        is_settled = True
        if job is not None and not job.is_plain and shop.gang_of(job_id) is not None:
            is_settled = self._gangs.on_ended(worker, job_id, result)
        elif job is not None:
            self._conclude(worker, job_id, job, result)
        else:
            self._count_stale(worker, job_id, attempt)
        if is_settled:
            shop.send(session, _settled(job_id=job_id, attempt=attempt))

    def _conclude(self, worker: Worker, job_id: JobId, job: Job, result: AttemptResult) -> None:
        match result.status:
            case "succeeded":
                self._shop.note_pace(job.spec, result.run_s)
                outcome = _outcome(
                    job_id=job_id,
                    status="succeeded",
                    attempt=result.attempt,
                    result=result.result,
                    worker_id=worker.worker_id,
                    run_s=result.run_s,
                    peak_memory_bytes=result.peak_memory_bytes,
                    peak_gpu_memory_bytes=result.peak_gpu_memory_bytes,
                )
                self._flow.finish(job_id, outcome)
            case "failed":
                failure = result.failure or Failure(cause="exit", message="no reason was given")
                if job.cancel_reason is not None:
                    self._finish_cancelled(job_id, result.attempt, worker.worker_id)
                elif job.failed_count < job.spec.retries:
                    delay_s = retry_delay_s(self._shop.settings, job.spec, job.failed_count)
                    reason = f"{failure.cause}: {failure.message}"
                    self._flow.leave(
                        job_id, "failed", reason=reason, failure=failure, delay_s=delay_s
                    )
                else:
                    self._finish_failed(
                        job_id, result.attempt, worker.worker_id, failure, result=result
                    )
            case "paused":
                if job.cancel_reason is not None:
                    self._finish_cancelled(job_id, result.attempt, worker.worker_id)
                elif job.pause is not None and job.pause.cause == "user":
                    self._flow.leave(job_id, "paused", reason=job.pause.reason)
                else:
                    # For another job, or because it was asked before somebody resumed it: it
                    # comes back by itself.
                    reason = job.pause.reason if job.pause is not None else "it was resumed"
                    self._flow.leave(job_id, "preempted", reason=reason)
            case "stopped":
                if job.cancel_reason is not None:
                    self._finish_cancelled(job_id, result.attempt, worker.worker_id)
                elif worker.is_draining:
                    reason = f"worker {worker.worker_id} was drained"
                    self._flow.leave(job_id, "returned", reason=reason)
                else:
                    reason = f"worker {worker.worker_id} stopped it"
                    if result.reason is not None:
                        reason += f": {result.reason}"
                    self._roster.give_up(job_id, "worker_lost", reason)

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
                peak_gpu_memory_bytes=result.peak_gpu_memory_bytes if result is not None else None,
            ),
        )

    def _on_events(self, worker: Worker, session: Session, events: tuple[JobEvent, ...]) -> None:
        shop = self._shop
        last: dict[tuple[JobId, int], int] = {}
        kept: dict[JobId, list[JobEvent]] = {}
        for event in events:
            job_id = JobId(event.job_id)
            last[job_id, event.attempt] = event.seq
            lease = worker.lease_of(job_id)
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
        elif self._is_anothers(job_id, spec):
            failure = Failure(cause="dependency", message="another job has the id of this node")
            outcome = Outcome(job_id=job_id, status="failed", attempt=0, failure=failure)
            shop.send(session, ChildFinished(outcome=outcome))
        elif (done := shop.ledger.recent.get(job_id)) is not None:
            shop.send(session, ChildFinished(outcome=done.outcome))
        elif job_id in shop.ledger.jobs:
            pass  # It is on its way; the answer follows.
        elif spawn.is_repeat or job_id in shop.ledger.recent:
            shop.look_up(job_id, session, spawn)
        elif shop.is_stopping:
            pass  # The next coordinator will be asked again.
        elif (refused := self._refusal_of_child(spec)) is not None:
            outcome = Outcome(job_id=job_id, status="failed", attempt=0, failure=refused)
            shop.send(session, ChildFinished(outcome=outcome))
        else:
            worker.suspend(JobId(parent.job_id))
            self._flow.freed[worker.worker_id] = worker
            shop.fleet.changed(worker)
            self._flow.accept(spec, job.client_id, job.owner)

    def on_unreadable(self, session: Session, job_id: JobId, problem: str) -> None:
        """Nobody can say whether a part of a plan is known."""
        if session in self._shop.fleet.by_session:
            failure = Failure(cause="dependency", message=problem)
            outcome = Outcome(job_id=job_id, status="failed", attempt=0, failure=failure)
            self._shop.send(session, ChildFinished(outcome=outcome))

    def _refusal_of_child(self, spec: JobSpec) -> Failure | None:
        """Why a part of a plan is not kept: the same checks as of a Submit."""
        if spec.after:
            return Failure(cause="dependency", message="a part of a plan comes after nothing")
        refused = refusal_of(self._shop, spec)
        if refused is None:
            return None
        code, text = refused
        return Failure(cause="unplaceable" if code == "unplaceable" else "start", message=text)

    def _is_anothers(self, job_id: JobId, spec: JobSpec) -> bool:
        ledger = self._shop.ledger
        known = ledger.jobs.get(job_id) or ledger.recent.get(job_id)
        return known is not None and known.spec.parent != spec.parent
