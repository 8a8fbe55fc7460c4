"""A job's way through the shop: every transition of every job is one of these methods."""

from lineshaft_coordinator.core.arrays import limited_item
from lineshaft_coordinator.core.fleet import Lease, Worker
from lineshaft_coordinator.core.gang_parts import Gang, parts_of
from lineshaft_coordinator.core.ledger import Leased, Paused, Queued
from lineshaft_coordinator.core.plain import is_plain
from lineshaft_coordinator.core.records import (
    AttemptLeft,
    AttemptStarted,
    CancelRequested,
    JobFinished,
    JobSubmitted,
    ReturnCause,
)
from lineshaft_coordinator.core.settings import LeaseTimes
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.core.states import state_of
from lineshaft_protocol.client_messages import Answer, Finished
from lineshaft_protocol.ids import ClientId, JobId, Session, WorkerId
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import Failure, Outcome, Status
from lineshaft_protocol.wire import unchecked
from lineshaft_protocol.worker_messages import Assign, ChildFinished, GangSeat, Stop

# Of each of these there is one for every job.
_submitted, _started = unchecked(JobSubmitted), unchecked(AttemptStarted)
_assign, _job_finished = unchecked(Assign), unchecked(JobFinished)
_finished = unchecked(Finished)


class JobFlow:
    """Moves jobs; keeps ledger, queues, fleet and those who wait in step."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.arrived: list[Shape] = []
        """Shapes with something more urgent waiting than before: the scheduler's next."""
        self.freed: dict[WorkerId, Worker] = {}
        """Workers that may have room they had not before."""
        self.prepared: dict[JobId, tuple[Worker, int]] = {}
        """Jobs that their worker has prepared, and in which attempt: each begins there now, or
        goes back to its line."""
        self._lease_times = LeaseTimes(shop.settings)
        self._ripples: list[Outcome] = []
        self._is_rippling = False

    # --- in ---

    def accept(self, spec: JobSpec, client_id: ClientId, owner: str | None) -> None:
        """Keep a new job, for the token of this id."""
        job_id = JobId(spec.job_id)
        shop = self._shop
        shop.record(_submitted(job_id=job_id, client_id=client_id, job=spec, owner=owner))
        if is_plain(spec):
            self._enqueue(job_id)
            return
        if spec.parent is None and (spec.nodes or 1) > 1:
            for part in parts_of(spec):
                shop.record(
                    JobSubmitted(job_id=part.job_id, client_id=client_id, job=part, owner=owner)
                )
            shop.open_gang(job_id)
        self.enter(job_id)

    def enter(self, job_id: JobId) -> None:
        """Let a queued job wait for what it comes after, or for a worker."""
        shop, spec = self._shop, self._shop.job(job_id).spec
        if spec.parent is not None:
            shop.children.setdefault(JobId(spec.parent.job_id), {})[job_id] = None
        pending = {JobId(other): None for other in spec.after or () if other in shop.ledger.jobs}
        for other in spec.after or ():
            ended = shop.ledger.recent.status(JobId(other))
            if ended is not None and ended != "succeeded":
                self._finish_for_dependency(job_id, other, ended)
                return
        if pending:
            shop.blocked[job_id] = pending
            for other in pending:
                shop.dependents.setdefault(other, {})[job_id] = None
        else:
            self._enqueue(job_id)

    def _enqueue(self, job_id: JobId, *, is_first: bool = False) -> None:
        shop = self._shop
        job = shop.ledger.jobs[job_id]
        if type(job.state) is Paused:
            return
        spec = job.spec
        if job.is_plain:
            shape = shop.plain_shapes.of(spec)
        else:
            item, timeouts = limited_item(spec), spec.timeouts
            if item is not None and not shop.arrays.enter(job_id, item, is_first=is_first):
                return
            shape = Shape.of(spec)
            if timeouts is not None and timeouts.queue_s is not None:
                shop.deadlines.set(("queue", job_id), shop.now + timeouts.queue_s)
        if shop.queues.add(
            job_id,
            shape,
            client_id=job.client_id,
            priority=spec.priority,
            now=shop.now,
            is_first=is_first,
        ):
            self.arrived.append(shape)

    # --- leases ---

    def lease(
        self,
        job_id: JobId,
        worker: Worker,
        *,
        devices: tuple[str, ...],
        is_backlog: bool,
        is_unplaced: bool = False,
        seat: GangSeat | None = None,
    ) -> None:
        """Promise the job to a worker that is here, or have it prepared there (see `leasing`)."""
        shop = self._shop
        job = shop.ledger.jobs[job_id]
        spec, attempt, epoch = job.spec, job.attempt_count + 1, shop.epoch
        assert worker.session is not None, "work goes to workers that are here"
        shape, wait_left_s = shop.take_out(job_id, spec)
        shop.record(
            _started(
                job_id=job_id,
                attempt=attempt,
                worker_id=worker.worker_id,
                epoch=epoch,
                devices=devices or None,
                incarnation=worker.incarnation,
                is_unplaced=is_unplaced or None,
            )
        )
        if spec.preemptible:
            shop.preemptible[job_id] = None
        lease = Lease(attempt, shape, devices, wait_left_s=wait_left_s)
        worker.keep(job_id, lease, is_backlog=is_backlog, is_unplaced=is_unplaced)
        lease_s, grace_s = self._lease_times.of(spec, is_plain=job.is_plain)
        shop.send(
            worker.session,
            _assign(
                job=spec,
                attempt=attempt,
                epoch=epoch,
                devices=devices or None,
                expected_s=shop.pace_of(spec),
                checkpoint=job.checkpoint,
                lease_s=lease_s,
                lease_grace_s=grace_s,
                gang=seat,
                is_unplaced=is_unplaced or None,
            ),
        )
        self.tell_state(job_id)

    def leave(
        self,
        job_id: JobId,
        cause: ReturnCause,
        *,
        reason: str = "",
        failure: Failure | None = None,
        delay_s: float = 0.0,
    ) -> None:
        """End the attempt without an outcome; the job goes back to its line."""
        shop, job = self._shop, self._shop.job(job_id)
        state = job.state
        assert isinstance(state, Leased), "only a leased job can leave its worker"
        waiting = shop.fleet.workers[state.worker_id].waiting_lease(job_id)
        shop.record(
            AttemptLeft(
                job_id=job_id, attempt=state.attempt, cause=cause, reason=reason, failure=failure
            )
        )
        self._vacate(job_id, state)
        # Not why: that may be words of its code, and who sees an end is told its reason.
        self._end_children(job_id, f"attempt {state.attempt} of {job_id} ended: {cause}")
        if isinstance(job.state, Paused):
            self._give_place(job_id, job.spec)
            self.answer_pause(job_id)
        elif shop.gang_of(job_id) is None:
            self.go_back(job_id, delay_s=delay_s)
        if waiting is not None:
            shop.had_no_room(job_id, waiting)
        self.tell_state(job_id, reason=reason or cause)

    def go_back(self, job_id: JobId, *, delay_s: float) -> None:
        """Put a job whose attempt is over in front of its line, now or after a while."""
        shop = self._shop
        if delay_s > 0:
            self._give_place(job_id, shop.job(job_id).spec)
            shop.delayed[job_id] = None
            shop.deadlines.set(("retry", job_id), shop.now + delay_s)
        else:
            self._enqueue(job_id, is_first=True)

    def retry_now(self, job_id: JobId) -> None:
        """Its delay is over."""
        if job_id in self._shop.delayed:
            del self._shop.delayed[job_id]
            self._enqueue(job_id)

    def _vacate(self, job_id: JobId, state: Leased) -> None:
        shop = self._shop
        shop.deadlines.clear(("lost", job_id))
        shop.deadlines.clear(("pause", job_id))
        shop.preemptible.pop(job_id, None)
        worker = shop.fleet.workers[state.worker_id]
        worker.vacate(job_id)
        self.freed[worker.worker_id] = worker
        shop.fleet.changed(worker)
        shop.fleet.forget_if_idle(worker)

    # --- out ---

    def finish(self, job_id: JobId, outcome: Outcome) -> None:
        """Record the one outcome, and tell everybody who waits for it."""
        shop = self._shop
        job = shop.ledger.jobs[job_id]
        state, spec = job.state, job.spec
        shop.record(_job_finished(job_id=job_id, outcome=outcome))
        match state:
            case Leased():
                self._vacate(job_id, state)
            case Queued() | Paused():
                self._leave_line(job_id)
        if not job.is_plain:
            self._give_place(job_id, spec)
        if job_id in shop.pausing:
            self.answer_pause(job_id, problem=f"it ended as {outcome.status} before it could pause")
        for session in shop.watchers.pop(job_id, {}):
            events = shop.clients[session].watched.pop(job_id, False)
            shop.send(session, _finished(outcome=outcome, events=events or None))
        if job_id in shop.children:
            self._end_children(job_id, f"its plan {job_id} ended")
        if not job.is_plain:
            if spec.parent is not None:
                self._tell_parent(spec, outcome)
            if (gang := shop.gangs.pop(job_id, None)) is not None:
                self._finish_parts(gang, outcome)
        if job_id in shop.dependents:
            self._ripple(outcome)

    def _finish_parts(self, gang: Gang, outcome: Outcome) -> None:
        for job_id in gang.members[1:]:
            attempt = self._shop.job(job_id).attempt_count
            self.finish(job_id, gang.outcome_of_part(job_id, attempt, outcome))

    def _ripple(self, outcome: Outcome) -> None:
        # A list and not recursion: a chain of dependencies may be longer than the stack.
        self._ripples.append(outcome)
        if self._is_rippling:
            return
        self._is_rippling = True
        while self._ripples:
            self._free_dependents(self._ripples.pop())
        self._is_rippling = False

    def _leave_line(self, job_id: JobId) -> None:
        shop = self._shop
        self._leave_queue(job_id)
        for other in shop.blocked.pop(job_id, {}):
            waiting = shop.dependents.get(other, {})
            waiting.pop(job_id, None)
            if not waiting:
                shop.dependents.pop(other, None)

    def _leave_queue(self, job_id: JobId) -> None:
        shop = self._shop
        shop.deadlines.clear(("queue", job_id))
        if job_id in shop.queues:
            shop.queues.remove(job_id, now=shop.now, is_served=False)
        elif job_id in shop.delayed:
            del shop.delayed[job_id]
            shop.deadlines.clear(("retry", job_id))

    def _give_place(self, job_id: JobId, spec: JobSpec) -> None:
        """Let others of its array, if only so many may be under way, have its place."""
        if (item := limited_item(spec)) is not None:
            for other in self._shop.arrays.leave(job_id, item):
                self._enqueue(other)

    def _end_children(self, job_id: JobId, reason: str) -> None:
        for child_id in tuple(self._shop.children.pop(job_id, {})):
            if child_id in self._shop.ledger.jobs:
                self.cancel(child_id, reason)

    def _tell_parent(self, spec: JobSpec, outcome: Outcome) -> None:
        shop = self._shop
        assert spec.parent is not None, "only children have a parent to tell"
        parent_id = JobId(spec.parent.job_id)
        siblings = shop.children.get(parent_id)
        if siblings is not None:
            siblings.pop(JobId(spec.job_id), None)
            if not siblings:
                del shop.children[parent_id]
        parent = shop.ledger.jobs.get(parent_id)
        if (
            parent is None
            or not isinstance(parent.state, Leased)
            or parent.state.attempt != spec.parent.attempt
        ):
            return
        worker = shop.fleet.workers[parent.state.worker_id]
        worker.resume(parent_id)
        if worker.session is not None:
            shop.send(worker.session, ChildFinished(outcome=outcome))

    def _free_dependents(self, outcome: Outcome) -> None:
        shop, job_id = self._shop, JobId(outcome.job_id)
        for waiting_id in tuple(shop.dependents.pop(job_id, {})):
            pending = shop.blocked.get(waiting_id)
            if pending is None:
                continue
            if outcome.status != "succeeded":
                self._finish_for_dependency(waiting_id, job_id, outcome.status)
                continue
            pending.pop(job_id, None)
            if not pending:
                del shop.blocked[waiting_id]
                self._enqueue(waiting_id)

    def _finish_for_dependency(self, job_id: JobId, other: str, ended: Status) -> None:
        text = f"job {other}, which it comes after, ended as {ended}"
        failure = Failure(cause="dependency", message=text)
        self.finish(job_id, Outcome(job_id=job_id, status="failed", attempt=0, failure=failure))

    def cancel(self, job_id: JobId, reason: str) -> None:
        """End the job: at once if nobody runs it, else once its worker says it is over."""
        shop, job = self._shop, self._shop.job(job_id)
        match job.state:
            case Queued() | Paused():
                self.finish(
                    job_id,
                    Outcome(
                        job_id=job_id, status="cancelled", attempt=job.attempt_count, reason=reason
                    ),
                )
            case Leased(attempt=attempt, worker_id=worker_id):
                if job.cancel_reason is None:
                    shop.record(CancelRequested(job_id=job_id, reason=reason))
                    shop.deadlines.clear(("pause", job_id))
                    self.answer_pause(job_id, problem=f"it was cancelled: {reason}")
                worker = shop.fleet.workers[worker_id]
                if worker.session is not None:
                    shop.send(worker.session, Stop(job_id=job_id, attempt=attempt, reason=reason))
                self.tell_state(job_id, reason=reason)

    # --- standing aside, see pausing ---

    def hold_back(self, job_id: JobId) -> None:
        """Take a job that was just paused out of its line; what it comes after still counts."""
        self._leave_queue(job_id)
        self._give_place(job_id, self._shop.job(job_id).spec)

    def let_in(self, job_id: JobId) -> None:
        """Put a job that was just resumed back in front of its line."""
        if job_id not in self._shop.blocked:
            self._enqueue(job_id, is_first=True)

    def answer_pause(self, job_id: JobId, *, problem: str | None = None) -> None:
        """Tell those who asked for it that the job has paused, or why it has not."""
        for session, request_id in self._shop.pausing.pop(job_id, ()):
            if session not in self._shop.clients:
                continue
            if problem is not None:
                answer = Answer(
                    request_id=request_id, error=f"job {job_id} did not pause: {problem}"
                )
            else:
                data = {"job_id": job_id, "status": state_of(self._shop, job_id).state}
                answer = Answer(request_id=request_id, data={**data, "step": self.step_of(job_id)})
            self._shop.send(session, answer)

    def step_of(self, job_id: JobId) -> int | None:
        """The step of the checkpoint from which it would go on."""
        checkpoint = self._shop.job(job_id).checkpoint
        return checkpoint.step if checkpoint is not None else None

    def tell_state(self, job_id: JobId, *, reason: str | None = None) -> None:
        """Tell those who listen to the job's events where it is."""
        for session in self._shop.watchers.get(job_id, ()):
            if self._shop.clients[session].watched.get(job_id):
                self._shop.send(session, state_of(self._shop, job_id, reason=reason))

    def watch(self, job_id: JobId, session: Session, *, events: bool) -> None:
        """Tell this session how the job ends."""
        client = self._shop.clients[session]
        client.watched[job_id] = client.watched.get(job_id, False) or events
        self._shop.watchers.setdefault(job_id, {})[session] = None
