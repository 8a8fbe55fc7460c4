"""Planted bugs of attempts that are prepared before they have a place."""

from collections.abc import Callable, Mapping
from typing import Any

from lineshaft_coordinator.core import placement
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.leasing import LeaseDesk
from lineshaft_coordinator.core.records import AttemptPlaced
from lineshaft_coordinator.core.scheduler import Scheduler
from lineshaft_coordinator.core.shop import Shop
from lineshaft_worker.core.flow import AttemptFlow

Patch = Callable[[object, str, object], None]


def _never_placed(patch: Patch) -> None:
    patch(LeaseDesk, "on_prepared", lambda _self, _worker, _prepared: None)


def _placed_without_a_record(patch: Patch) -> None:
    record = Shop.record

    def forgetful(self: Shop, said: Any) -> None:
        if not isinstance(said, AttemptPlaced):
            record(self, said)

    patch(Shop, "record", forgetful)


def _place_not_sent_again(patch: Patch) -> None:
    patch(LeaseDesk, "reconcile", lambda *_: True)


def _place_that_others_have(patch: Patch) -> None:
    def without_looking(self: Scheduler, job_id: Any, worker: Any) -> None:
        wanted = worker.preparing[job_id].shape.resources
        devices = tuple(gpu.uuid for gpu in worker.capacity.gpus[: wanted.gpus])
        self._leases.place(job_id, worker, devices)

    patch(Scheduler, "_place", without_looking)


def _holds_room_while_prepared(patch: Patch) -> None:
    lease = JobFlow.lease

    def occupies(self: JobFlow, job_id: Any, worker: Any, **more: Any) -> None:
        lease(self, job_id, worker, **more)
        if job_id in worker.preparing:
            worker.occupy(job_id, worker.preparing.pop(job_id))

    patch(JobFlow, "lease", occupies)


def _room_of_the_prepared_not_given_back(patch: Patch) -> None:
    def counts_twice(self: Any, job_id: Any, devices: Any) -> object:
        lease = self.preparing[job_id]
        lease.devices = devices
        self.occupy(job_id, lease)
        return lease

    patch(placement.Worker, "place", counts_twice)


def _begins_without_a_place(patch: Patch) -> None:
    patch(AttemptFlow, "_supplied", lambda self, attempt: self._wait(attempt))


def _placed_by_a_restart(patch: Patch) -> None:
    restore = LeaseDesk.restore

    def as_placed(self: LeaseDesk, job_id: Any) -> None:
        restore(self, job_id)
        worker = self._shop.fleet.workers[self._shop.job(job_id).state.worker_id]  # type: ignore[union-attr]
        if job_id in worker.preparing:
            worker.occupy(job_id, worker.preparing.pop(job_id))

    patch(LeaseDesk, "restore", as_placed)


def _cancelled_is_placed(patch: Patch) -> None:
    place = Scheduler._place

    def ignores_it(self: Scheduler, job_id: Any, worker: Any) -> None:
        job = self._shop.job(job_id)
        kept, job.cancel_reason = job.cancel_reason, None
        place(self, job_id, worker)
        job.cancel_reason = kept

    patch(Scheduler, "_place", ignores_it)


def _one_environment_for_many(patch: Patch) -> None:
    patch(placement, "may_prepare", lambda _worker, _shape, _most: True)


def _room_given_straight_back(patch: Patch) -> None:
    patch(Scheduler, "_is_wanted", lambda *_, **__: False)


PLACE_PLANTS: Mapping[str, tuple[Callable[[Patch], None], int]] = {
    "a prepared job is never placed": (_never_placed, 0),
    "a place is given and not recorded": (_placed_without_a_record, 0),
    "a place that was lost on its way is not sent again": (_place_not_sent_again, 420),
    "a prepared job gets a place that others have": (_place_that_others_have, 0),
    "a job holds room while it is prepared": (_holds_room_while_prepared, 0),
    "a place is counted twice": (_room_of_the_prepared_not_given_back, 0),
    "a worker begins what has no place": (_begins_without_a_place, 0),
    "what was only prepared has a place after a restart": (_placed_by_a_restart, 0),
    "a cancelled job is placed": (_cancelled_is_placed, 440),
    "room that was made is given straight back": (_room_given_straight_back, 100),
    "several jobs wait for one environment on a worker": (_one_environment_for_many, 0),
}
"""What is wrong, and from which seed to look."""
