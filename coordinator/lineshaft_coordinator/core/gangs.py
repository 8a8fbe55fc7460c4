"""Jobs that run on several workers at once: all their parts, or none.

Theory. The job that its user submitted is rank 0, the *lead*; the coordinator makes a job for each
other rank with it, in the same batch. Only the lead waits in a line; when it is placed, all are
leased in one batch, so two gangs can never hold a half each. All attempts of a round have the
same number. What moves a gang on:

    waiting ── all leased at once ──► running ── every rank succeeded ──► all finish
       ▲                                │
       └── no rank is leased any more ◄─┴─ broken: a rank failed, was lost or came back, or its
           (or all finish)                 user cancels; the others are stopped

A rank that succeeded stays leased until the others have: its worker keeps its result, as of any
end that was not settled, so nothing of this need be on record. The counts that decide whether there
is another round are those of all ranks together, from the ledger.
"""

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.gang_parts import Gang, part_id
from lineshaft_coordinator.core.ledger import Leased
from lineshaft_coordinator.core.records import CancelRequested, ReturnCause
from lineshaft_coordinator.core.retries import retry_delay_s
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId, is_name
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.outcomes import AttemptResult, Failure, Outcome
from lineshaft_protocol.worker_messages import Settled, Stop


class GangDesk:
    """Ends gangs as one."""

    def __init__(self, shop: Shop, flow: JobFlow) -> None:
        self._shop, self._flow = shop, flow

    def restore(self) -> None:
        """After our restart: see which gangs are under way, and which of them are broken."""
        shop = self._shop
        for job_id, job in shop.ledger.jobs.items():
            if (job.spec.nodes or 1) > 1:
                gang = shop.open_gang(job_id)
                leased = sum(map(self._is_leased, gang.members))
                gang.is_broken = 0 < leased < gang.size or job.cancel_reason is not None

    def is_held(self, job_id: JobId) -> bool:
        """Whether the job must not wait in a line: a part, or a lead some of whose parts run."""
        gang = self._shop.gang_of(job_id)
        return gang is not None and (
            job_id != gang.lead_id or any(map(self._is_leased, gang.members))
        )

    def stop_reason(self, job_id: JobId) -> str | None:
        """Why the attempt of this rank must end; None if it may go on."""
        gang = self._shop.gang_of(job_id)
        return gang.reason or "its gang has ended" if gang is not None and gang.is_broken else None

    # --- ends of ranks ---

    def on_ended(self, worker: Worker, job_id: JobId, result: AttemptResult) -> bool:
        """An attempt of a rank is over; says whether its worker may forget it."""
        gang = self._gang(job_id)
        if result.status == "succeeded" and not gang.is_broken:
            gang.ended[job_id] = _outcome(job_id, worker, result)
            if len(gang.ended) < gang.size:
                return False
            self._succeed(gang)
        elif result.status == "failed":
            failure = result.failure or Failure(cause="exit", message="no reason was given")
            reason = f"{failure.cause}: {failure.message}"
            self.on_left(job_id, "failed", reason, failure=failure)
        elif worker.is_draining:
            self.on_left(job_id, "returned", f"worker {worker.worker_id} was drained")
        else:
            self.on_left(job_id, "worker_lost", f"worker {worker.worker_id} stopped it")
        return True

    def on_left(
        self, job_id: JobId, cause: ReturnCause, reason: str, *, failure: Failure | None = None
    ) -> None:
        """An attempt of a rank ended without success: the first one ends the whole gang."""
        gang, state = self._gang(job_id), self._shop.job(job_id).state
        assert isinstance(state, Leased), "only a leased rank can leave"
        gang.ended.pop(job_id, None)
        if gang.is_broken:
            self._flow.leave(job_id, "gang", reason=reason)
        else:
            # With several processes on each worker, ranks are theirs, and the failure names one.
            has_ranks = self._shop.job(gang.lead_id).spec.processes is not None
            what = "part" if has_ranks else "rank"
            where = f"{what} {gang.members.index(job_id)} on worker {state.worker_id}"
            gang.reason = f"{where}: {reason}"
            if failure is not None:
                message = f"{where} failed: {failure.message}"
                gang.failure = failure.model_copy(update={"message": message})
            self._flow.leave(job_id, cause, reason=reason, failure=failure)
            self._break(gang)
        self._end_if_over(gang)

    def cancel(self, job_id: JobId, reason: str) -> bool:
        """Cancel the gang of a rank; says whether the job is in a gang that runs."""
        shop = self._shop
        gang = shop.gang_of(job_id)
        if gang is None or not any(map(self._is_leased, gang.members)):
            return False
        if shop.job(gang.lead_id).cancel_reason is None:
            shop.record(CancelRequested(job_id=gang.lead_id, reason=reason))
        gang.reason = reason
        self._break(gang)
        self._flow.tell_state(gang.lead_id, reason=reason)
        self._end_if_over(gang)
        return True

    # --- the whole ---

    def _break(self, gang: Gang) -> None:
        """Stop every rank that is not over."""
        shop = self._shop
        gang.is_broken = True
        for member in gang.members:
            state = shop.job(member).state
            if not isinstance(state, Leased):
                continue
            session = shop.fleet.workers[state.worker_id].session
            if gang.ended.pop(member, None) is not None:
                self._flow.leave(member, "gang", reason=gang.reason)
                if session is not None:
                    shop.send(session, Settled(job_id=member, attempt=state.attempt))
            elif session is not None:
                stop = Stop(job_id=member, attempt=state.attempt, reason=gang.reason)
                shop.send(session, stop)

    def _end_if_over(self, gang: Gang) -> None:
        if any(map(self._is_leased, gang.members)):
            return
        shop, lead_id = self._shop, gang.lead_id
        lead = shop.job(lead_id)
        jobs = [shop.job(member) for member in gang.members]
        failed_count = sum(job.failed_count for job in jobs)
        lost_count = sum(job.lost_count for job in jobs)
        failure: Failure | None = None
        if lead.cancel_reason is not None:
            self._finish(gang, lead.cancel_reason, None)
        elif failed_count > lead.spec.retries:
            # After our restart nobody remembers what it said; the story of its part does.
            text = f"a rank failed; the stories of {lead_id} and its parts tell why"
            failure = gang.failure or Failure(cause="exception", message=text)
            self._finish(gang, None, failure)
        elif lost_count >= shop.settings.lost_max:
            text = f"{gang.reason}; {lost_count} workers were lost with this job"
            self._finish(gang, None, Failure(cause="worker_lost", message=text))
        else:
            has_failed = gang.failure is not None
            delay_s = retry_delay_s(shop.settings, lead.spec, failed_count - 1)
            gang.start_over()
            self._flow.go_back(lead_id, delay_s=delay_s if has_failed else 0.0)

    def _finish(self, gang: Gang, cancel_reason: str | None, failure: Failure | None) -> None:
        outcome = Outcome(
            job_id=gang.lead_id,
            status="failed" if failure is not None else "cancelled",
            attempt=self._shop.job(gang.lead_id).attempt_count,
            failure=failure,
            reason=cancel_reason,
        )
        self._flow.finish(gang.lead_id, outcome)

    def _succeed(self, gang: Gang) -> None:
        shop = self._shop
        settled = [(member, shop.job(member).state) for member in gang.members]
        self._flow.finish(gang.lead_id, gang.ended[gang.lead_id])
        for member, state in settled:
            assert isinstance(state, Leased), "a rank that succeeded was leased"
            worker = shop.fleet.workers.get(state.worker_id)
            if worker is not None and worker.session is not None:
                shop.send(worker.session, Settled(job_id=member, attempt=state.attempt))

    def _gang(self, job_id: JobId) -> Gang:
        gang = self._shop.gang_of(job_id)
        assert gang is not None, "only ranks come here"
        return gang

    def _is_leased(self, job_id: JobId) -> bool:
        return isinstance(self._shop.job(job_id).state, Leased)


def gang_fault(shop: Shop, spec: JobSpec) -> str | None:
    """Why a job cannot run on several workers; None if it can, or does not want to."""
    if spec.part is not None:
        return "only the coordinator makes parts of a job that runs on several workers"
    if (spec.nodes or 1) == 1:
        return None
    if spec.kind != "pipeline":
        return f"a {spec.kind} runs on one worker; only pipeline jobs take nodes"
    if spec.array is not None:
        return "an item of a job array runs on one worker"
    if spec.line is not None:
        return "a job that waits in a line runs on one worker"
    if spec.preemptible or spec.worker_id is not None:
        what = "preemptible" if spec.preemptible else "tied to one worker"
        return f"a job on several workers cannot be {what}"
    parts = [part_id(JobId(spec.job_id), rank) for rank in range(1, spec.nodes or 1)]
    if not is_name(parts[-1]) or any(part in shop.ledger.jobs for part in parts):
        return f"its parts would be called {parts[-1]}, which cannot be; choose another id"
    return None


def _outcome(job_id: JobId, worker: Worker, result: AttemptResult) -> Outcome:
    return Outcome(
        job_id=job_id,
        status="succeeded",
        attempt=result.attempt,
        result=result.result,
        worker_id=worker.worker_id,
        run_s=result.run_s,
        peak_memory_bytes=result.peak_memory_bytes,
        peak_gpu_memory_bytes=result.peak_gpu_memory_bytes,
    )
