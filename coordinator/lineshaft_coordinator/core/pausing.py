"""Jobs that are asked to stand aside, and come back.

A job that nobody runs is paused at once. One that runs is asked to save a checkpoint and end its
attempt; then it is over as after any other end, and its slot, memory and devices are free. The
worker says so with the attempt's end, which names no outcome. What can race: the end of the code
itself (it counts), the loss of the worker (then there is nothing to wait for: the job is paused
with the checkpoints it had), a cancel (it goes before), and the deadline, from which on the job
goes on as if it had not been asked.

A frozen job stays where it is, with all it occupies: only its processes stand still.
"""

from typing import Literal

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.ledger import Leased, Paused, Queued
from lineshaft_coordinator.core.records import (
    FileKept,
    JobResumed,
    PauseCause,
    PauseRequested,
    PauseWithdrawn,
)
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.core.states import state_of
from lineshaft_protocol.client_messages import Answer, Pause, Resume
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.kept_files import KeptFile
from lineshaft_protocol.worker_messages import KeptAck, PauseTold, SetPause

Mode = Literal["checkpoint", "freeze"]


class PauseDesk:
    """Pauses and resumes jobs, and keeps the files from which they go on."""

    def __init__(self, shop: Shop, flow: JobFlow) -> None:
        self._shop, self._flow = shop, flow

    # --- what users ask ---

    def on_pause(self, session: Session, pause: Pause) -> None:
        """A client wants a job paused; it is answered when that is done, or will not be."""
        job_id = JobId(pause.job_id)
        if (problem := self._obstacle(job_id, "freeze" if pause.freeze else "checkpoint")) is None:
            self._shop.pausing.setdefault(job_id, []).append((session, pause.request_id))
            self.pause(job_id, pause.reason, freeze=pause.freeze, grace_s=pause.grace_s)
        else:
            self._shop.send(session, Answer(request_id=pause.request_id, error=problem))

    def on_resume(self, session: Session, resume: Resume) -> None:
        """A client wants a job to go on."""
        job_id = JobId(resume.job_id)
        if job_id not in self._shop.ledger.jobs:
            answer = Answer(request_id=resume.request_id, error=_not_live(job_id))
        else:
            self.resume(job_id)
            data = {"job_id": job_id, "status": state_of(self._shop, job_id).state}
            answer = Answer(request_id=resume.request_id, data={**data})
        self._shop.send(session, answer)

    def pause(
        self, job_id: JobId, reason: str, *, freeze: bool = False, grace_s: float | None = None
    ) -> None:
        """Pause a job for its user if it can be; whoever waits for that is answered."""
        shop = self._shop
        mode: Mode = "freeze" if freeze else "checkpoint"
        if self._obstacle(job_id, mode) is not None:
            return
        job = shop.job(job_id)
        match job.state:
            case Paused():
                self._flow.answer_pause(job_id)
            case Queued():
                shop.record(PauseRequested(job_id=job_id, reason=reason))
                self._flow.hold_back(job_id)
                self._flow.answer_pause(job_id)
                self._flow.tell_state(job_id, reason=reason)
            case Leased(worker_id=worker_id):
                if job.pause is None or job.pause.cause != "user":
                    self.ask(job_id, reason, mode=mode, cause="user", grace_s=grace_s)
                lease = shop.fleet.workers[worker_id].lease_of(job_id)
                if lease is not None and lease.is_frozen:
                    self._flow.answer_pause(job_id)

    def ask(
        self, job_id: JobId, reason: str, *, mode: Mode, cause: PauseCause, grace_s: float | None
    ) -> None:
        """Ask the attempt that runs to pause."""
        shop = self._shop
        shop.record(PauseRequested(job_id=job_id, mode=mode, cause=cause, reason=reason))
        self._watch(job_id, grace_s)
        self.send_pause(job_id)
        self._flow.tell_state(job_id, reason=reason)

    def resume(self, job_id: JobId, *, checkpoint: str | None = None) -> None:
        """Let a job go on, wherever it is; one that is not paused just does.

        Args:
            job_id: The job.
            checkpoint: File id of the one from which a paused job goes on; None, or one that is
                not kept any more: the last.
        """
        shop, job = self._shop, self._shop.job(job_id)
        match job.state:
            case Paused():
                is_kept = any(file.file_id == checkpoint for file in job.checkpoints)
                shop.record(JobResumed(job_id=job_id, checkpoint=checkpoint if is_kept else None))
                self._flow.let_in(job_id)
                self._flow.tell_state(job_id, reason="resumed")
            case Leased() if job.pause is not None:
                self.withdraw(job_id, "it was resumed")
            case Leased() | Queued():
                pass

    def _obstacle(self, job_id: JobId, mode: Mode) -> str | None:
        shop = self._shop
        job = shop.ledger.jobs.get(job_id)
        if job is None:
            return _not_live(job_id)
        if job.spec.parent is not None:
            return f"job {job_id} is a part of {job.spec.parent.job_id}; pause that one"
        if shop.gang_of(job_id) is not None:
            return f"job {job_id} runs on several workers and cannot be paused; cancel it instead"
        if job.cancel_reason is not None:
            return f"job {job_id} is being cancelled"
        if not isinstance(job.state, Leased):
            return None
        worker = shop.fleet.workers[job.state.worker_id]
        if worker.register is not None and "pause" not in worker.register.versions.features:
            return f"job {job_id} runs on {worker.worker_id}, which is too old to pause it"
        lease = worker.lease_of(job_id)
        is_started = lease is not None and lease.is_started
        if job.spec.kind not in ("function", "pipeline") and mode == "checkpoint" and is_started:
            kind = job.spec.kind
            return f"job {job_id} is a {kind} that runs; a {kind} can only be frozen"
        if job.pause is not None and job.pause.mode != mode:
            is_frozen = lease is not None and lease.is_frozen
            way = "frozen" if is_frozen else "being paused in the other way"
            return f"job {job_id} is {way}; 'lineshaft resume {job_id}' comes first"
        return None

    # --- what workers say ---

    def on_told(self, worker: Worker, told: PauseTold) -> None:
        """What became of a pause that did not end the attempt."""
        job_id = JobId(told.job_id)
        job, lease = self._shop.job(job_id), worker.lease_of(job_id)
        assert lease is not None, "only the holder of a lease is listened to"
        lease.is_frozen = told.is_frozen
        if job.pause is None:
            return
        if job.cancel_reason is not None:
            pass
        elif told.problem is not None:
            self.withdraw(job_id, told.problem)
        elif not told.is_frozen and ("pause", job_id) not in self._shop.deadlines:
            self._watch(job_id, None)
        elif told.is_frozen:
            self._shop.deadlines.clear(("pause", job_id))
            self._flow.answer_pause(job_id)
            self._flow.tell_state(job_id, reason=job.pause.reason)

    def on_late(self, job_id: JobId) -> None:
        """The time in which it should have paused is over."""
        job = self._shop.ledger.jobs.get(job_id)
        if job is None or job.pause is None or job.cancel_reason is not None:
            return
        text = "it did not save a checkpoint and end in time; does it ask run.should_pause()?"
        if job.pause.mode == "freeze":
            text = "its worker did not say in time that it stands still"
        self.withdraw(job_id, text)

    def withdraw(self, job_id: JobId, reason: str) -> None:
        """The attempt goes on."""
        shop, job = self._shop, self._shop.job(job_id)
        assert isinstance(job.state, Leased), "only an attempt can go on"
        lease = shop.fleet.workers[job.state.worker_id].lease_of(job_id)
        if lease is not None:
            lease.is_frozen = False
            lease.spared_until = shop.now + shop.settings.preempt_spare_s
        shop.record(PauseWithdrawn(job_id=job_id, reason=reason))
        shop.deadlines.clear(("pause", job_id))
        self.send_pause(job_id)
        self._flow.answer_pause(job_id, problem=reason)
        self._flow.tell_state(job_id, reason=f"it goes on: {reason}")

    def send_pause(self, job_id: JobId) -> None:
        """Tell the job's worker what the attempt is to do."""
        shop, job = self._shop, self._shop.job(job_id)
        assert isinstance(job.state, Leased), "only an attempt can be told"
        worker = shop.fleet.workers[job.state.worker_id]
        if worker.session is not None:
            mode = job.pause.mode if job.pause is not None else "none"
            message = SetPause(job_id=job_id, attempt=job.state.attempt, mode=mode)
            shop.send(worker.session, message)

    def restore(self, job_id: JobId) -> None:
        """After our restart: give an attempt that was asked to pause its time again."""
        job = self._shop.job(job_id)
        if job.pause is not None and job.cancel_reason is None:
            self._watch(job_id, None, more_s=self._shop.settings.recovery_s)

    def _watch(self, job_id: JobId, grace_s: float | None, *, more_s: float = 0.0) -> None:
        shop = self._shop
        wait_s = (grace_s if grace_s is not None else shop.settings.pause_grace_s) + more_s
        shop.deadlines.set(("pause", job_id), shop.now + wait_s)

    # --- files ---

    def keep(self, session: Session, job_id: JobId, file: KeptFile, *, is_current: bool) -> None:
        """Put a file on the job's record, unless it is there, or the attempt is out of date."""
        shop = self._shop
        job = shop.ledger.jobs.get(job_id)
        if is_current and job is not None and file.file_id not in job.files:
            kept = [f.file_id for f in job.checkpoints]
            most = job.spec.checkpoints_kept or shop.settings.checkpoints_kept
            is_new = file.kind == "checkpoint" and file.blob is not None
            dropped = kept[: max(0, len(kept) + 1 - most)] if is_new else []
            if len(job.files) - len(dropped) < shop.settings.files_max:
                shop.record(FileKept(job_id=job_id, file=file, dropped=tuple(dropped)))
        ack = KeptAck(job_id=job_id, attempt=file.attempt, file_id=file.file_id)
        shop.send(session, ack)


def _not_live(job_id: JobId) -> str:
    return f"no job {job_id} waits or runs: it has ended, or nobody submitted it"
