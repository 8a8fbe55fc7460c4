"""Leases that began before we did, and those that get their place later.

A worker that has to make a job's environment gets the attempt without a place. While it prepares
it, the attempt occupies nothing that we count: whoever else fits is given the room. It may not
begin. Once it is prepared there are two ways on: it gets its place there, on record before the
worker hears of it; or others have the room, and it goes back to the front of its line. From there
priorities and preemption decide as for any job, and it starts at once where its environment is.

What can race: the worker's Prepared and whatever ends the attempt. A job that is cancelled or
asked to pause is not placed: its worker was told to end it or to hand it back. A Place that was
lost with its session is sent again when the worker registers and says that it has none.
"""

from lineshaft_coordinator.core.arrays import limited_item
from lineshaft_coordinator.core.fleet import Lease, Worker
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.ledger import Leased
from lineshaft_coordinator.core.records import AttemptPlaced
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId, Session
from lineshaft_protocol.worker_messages import Held, Place, Prepared, Preparing, Settled


class LeaseDesk:
    """Restores leases, and gives places to what was prepared."""

    def __init__(self, shop: Shop, flow: JobFlow) -> None:
        self._shop, self._flow = shop, flow

    def restore(self, job_id: JobId) -> None:
        """After our restart: count a lease from the ledger for the worker it names."""
        shop, job = self._shop, self._shop.job(job_id)
        state = job.state
        assert isinstance(state, Leased), "only a leased job has a lease"
        worker = shop.fleet.worker(state.worker_id)
        worker.gone_at = shop.now
        lease = Lease(state.attempt, Shape.of(job.spec), state.devices, is_started=state.is_placed)
        if state.is_placed:
            worker.occupy(job_id, lease)
        else:
            worker.preparing[job_id] = lease
        if job.spec.preemptible:
            shop.preemptible[job_id] = None
        if job.spec.parent is not None:
            shop.children.setdefault(JobId(job.spec.parent.job_id), {})[job_id] = None
        if (item := limited_item(job.spec)) is not None:
            shop.arrays.restore(job_id, item)

    def on_preparing(self, worker: Worker, preparing: Preparing) -> None:
        """A worker makes an environment."""
        lease = worker.lease_of(JobId(preparing.job_id))
        if lease is None or lease.attempt != preparing.attempt:
            return
        lease.doing = preparing.doing
        # What follows it should not hold a place for it as well.
        if lease.shape.environment is not None:
            worker.environments.pop(lease.shape.environment, None)

    def on_prepared(self, worker: Worker, prepared: Prepared) -> None:
        """A worker has all that an attempt without a place needs; the scheduler decides."""
        job_id = JobId(prepared.job_id)
        lease = worker.preparing.get(job_id)
        if lease is None or lease.attempt != prepared.attempt:
            return  # It has its place by now, or is over.
        lease.doing = ""
        worker.note_environment(lease.shape.environment)
        self._flow.prepared[job_id] = worker, lease.attempt
        self._flow.freed[worker.worker_id] = worker

    def place(self, job_id: JobId, worker: Worker, devices: tuple[str, ...]) -> None:
        """Give a prepared attempt its room, and have it begin."""
        assert worker.session is not None, "who says that it has prepared something is here"
        attempt = worker.preparing[job_id].attempt
        self._shop.record(AttemptPlaced(job_id=job_id, attempt=attempt, devices=devices or None))
        worker.place(job_id, devices)
        self._say(job_id, worker.session, attempt, devices)
        self._flow.tell_state(job_id)

    def send_back(self, job_id: JobId, worker: Worker, *, reason: str) -> None:
        """End an attempt without a place; its job waits in front of its line."""
        assert worker.session is not None, "who says that it has prepared something is here"
        attempt = worker.preparing[job_id].attempt
        self._flow.leave(job_id, "returned", reason=reason)
        self._shop.send(worker.session, Settled(job_id=job_id, attempt=attempt))

    def reconcile(self, session: Session, worker: Worker, job_id: JobId, held: Held) -> bool:
        """A worker that registers has this attempt: have it know whether it has a place.

        Returns:
            Whether it keeps the attempt.
        """
        lease, job = worker.lease_of(job_id), self._shop.job(job_id)
        assert lease is not None, "what is compared is a lease"
        is_placed = job_id not in worker.preparing
        if is_placed and held.is_unplaced and job.cancel_reason is None and job.pause is None:
            self._say(job_id, session, lease.attempt, lease.devices)
        elif not is_placed and not held.is_unplaced:
            # Only a journal that lost its end knows less than the worker: what it began is ended.
            self.send_back(job_id, worker, reason="the record of its place is lost")
            return False
        return True

    def _say(self, job_id: JobId, session: Session, attempt: int, devices: tuple[str, ...]) -> None:
        message = Place(job_id=job_id, attempt=attempt, devices=devices or None)
        self._shop.send(session, message)
