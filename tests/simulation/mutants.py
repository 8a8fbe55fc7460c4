"""Planted bugs: each must be caught by some seed, or the simulation proves nothing.

A mutant replaces one method of the real code by one with a plausible mistake.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.simulation.coordinator_node import CoordinatorNode
from tests.simulation.place_mutants import PLACE_PLANTS

from lineshaft.core.machine import ClientCore
from lineshaft_coordinator.core import arrays, ledger, placement, plain
from lineshaft_coordinator.core import flow as coordinator_flow
from lineshaft_coordinator.core.clients import ClientDesk
from lineshaft_coordinator.core.fleet import Fleet
from lineshaft_coordinator.core.flow import JobFlow
from lineshaft_coordinator.core.gangs import GangDesk
from lineshaft_coordinator.core.ledger import Job, Leased
from lineshaft_coordinator.core.machine import CoordinatorCore
from lineshaft_coordinator.core.pausing import PauseDesk
from lineshaft_coordinator.core.roster import Roster
from lineshaft_coordinator.core.scheduler import Scheduler
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.workers import WorkerDesk
from lineshaft_protocol.client_messages import Unwatch
from lineshaft_protocol.jobs import JobSpec
from lineshaft_protocol.worker_messages import Assign, GangSeat, SpawnChild
from lineshaft_worker.core import watchdog
from lineshaft_worker.core.attempts import Bench, Phase
from lineshaft_worker.core.flow import AttemptFlow
from lineshaft_worker.core.machine import WorkerCore
from lineshaft_worker.core.supplies import Supplies
from lineshaft_worker.core.watchdog import Watchdog

Patch = Callable[[object, str, object], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug, and the seed from which to look for the run that catches it."""

    plant: Callable[[Patch], None]
    seed: int = 0


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Run with the bug."""
    kept: list[tuple[object, str, object]] = []

    def patch(owner: object, name: str, value: object) -> None:
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    mutant.plant(patch)
    try:
        yield
    finally:
        for owner, name, value in reversed(kept):
            setattr(owner, name, value)


def _send_before_append(patch: Patch) -> None:
    perform = CoordinatorNode.perform

    def early(self: CoordinatorNode, effects: list[object]) -> None:
        self._carry_out(effects)
        if self.is_up:
            perform(self, [e for e in effects if type(e).__name__.startswith("Append")])

    patch(CoordinatorNode, "perform", early)


def _no_fence(patch: Patch) -> None:
    def any_attempt(self: WorkerDesk, _worker: object, job_id: Any, _attempt: int) -> object:
        job = self._shop.ledger.jobs.get(job_id)
        return job if job is not None and isinstance(job.state, Leased) else None

    patch(WorkerDesk, "_leased", any_attempt)


def _cancelled_when_asked(patch: Patch) -> None:
    cancel = JobFlow.cancel

    def at_once(self: JobFlow, job_id: Any, reason: str) -> None:
        cancel(self, job_id, reason)
        job = self._shop.ledger.jobs.get(job_id)
        if job is not None and isinstance(job.state, Leased):
            outcome = coordinator_flow.Outcome(
                job_id=job_id, status="cancelled", attempt=job.state.attempt, reason=reason
            )
            self.finish(job_id, outcome)

    patch(JobFlow, "cancel", at_once)


def _cancel_not_recorded(patch: Patch) -> None:
    def only_stop(self: JobFlow, job_id: Any, reason: str) -> None:
        job = self._shop.job(job_id)
        if not isinstance(job.state, Leased):
            return real(self, job_id, reason)
        job.cancel_reason = "already"
        real(self, job_id, reason)
        job.cancel_reason = None
        return None

    real = JobFlow.cancel
    patch(JobFlow, "cancel", only_stop)


def _slot_freed_by_stop(patch: Patch) -> None:
    stop = AttemptFlow._stop

    def too_early(self: AttemptFlow, attempt: Any) -> None:
        was_running = attempt.phase is Phase.RUNNING
        stop(self, attempt)
        if was_running:
            self._dispatcher.advance(self._bench.vacate(attempt), 0.0)

    patch(AttemptFlow, "_stop", too_early)


def _devices_not_checked(patch: Patch) -> None:
    on_ended = AttemptFlow.on_ended

    def at_once(self: AttemptFlow, ended: Any, now: float) -> None:
        on_ended(self, replace(ended, gone_pid=None), now)

    patch(AttemptFlow, "on_ended", at_once)


def _quarantine_not_told(patch: Patch) -> None:
    patch(WorkerCore, "_on_capacity", lambda _self, _capacity: None)


def _settled_ignored(patch: Patch) -> None:
    patch(AttemptFlow, "on_settled", lambda _self, _key: None)


def _attempts_count_anew(patch: Patch) -> None:
    register = Roster.on_register

    def reset(self: Roster, session: Any, message: Any) -> None:
        register(self, session, message)
        for job in self._shop.ledger.jobs.values():
            if not isinstance(job.state, Leased):
                job.attempt_count = 0

    patch(Roster, "on_register", reset)


def _nobody_is_lost(patch: Patch) -> None:
    patch(Roster, "expect_return", lambda _self, _job_id, **_: None)


def _silence_is_fine(patch: Patch) -> None:
    patch(Roster, "on_silence", _listen_on)


def _listen_on(roster: Roster, worker_id: Any) -> None:
    worker = roster._shop.fleet.workers.get(worker_id)
    if worker is not None and worker.session is not None:
        worker.heard_at = roster._shop.now
        roster._watch_silence(worker)


def _ended_not_held(patch: Patch) -> None:
    register = AttemptFlow.register

    def without_ended(self: AttemptFlow) -> object:
        return tuple(
            held
            for held in register(self)
            if self._bench.attempts[held.job_id, held.attempt].phase is not Phase.ENDED
        )

    patch(AttemptFlow, "register", without_ended)


def _shared_gpu_overfull(patch: Patch) -> None:
    def ignores_others(_worker: Any, gpu: Any, wanted: Any) -> int | None:
        return gpu.memory_bytes if gpu.memory_bytes >= wanted.gpu_memory_bytes else None

    patch(placement, "_free_bytes", ignores_others)


def _worker_trusts_devices(patch: Patch) -> None:
    patch(Bench, "_device_fits", lambda _self, _uuid, _memory_bytes: True)


def _worker_trusts_memory(patch: Patch) -> None:
    fits = Bench.fits

    def only_slots(self: Bench, attempt: Any) -> bool:
        return fits(self, attempt) or (self.has_free_slot() and not attempt.assign.devices)

    patch(Bench, "fits", only_slots)


def _dependencies_ignored(patch: Patch) -> None:
    patch(JobFlow, "enter", lambda self, job_id: self._enqueue(job_id))


def _submit_twice_is_two(patch: Patch) -> None:
    submit = ClientDesk.on_submit

    def forgetful(self: ClientDesk, session: Any, message: Any) -> None:
        self._shop.ledger.recent.pop(message.job.job_id)
        submit(self, session, message.model_copy(update={"is_repeat": False, "is_fresh": True}))

    patch(ClientDesk, "on_submit", forgetful)


def _events_not_deduplicated(patch: Patch) -> None:
    on_events = ClientCore._on_events

    def all_of_them(self: ClientCore, events: Any) -> None:
        for event in events:
            if event.job_id in self.jobs:
                self.jobs[event.job_id].last = (0, 0)
        on_events(self, events)

    patch(ClientCore, "_on_events", all_of_them)


def _lease_never_ends(patch: Patch) -> None:
    def forgets(self: WorkerCore, now: float) -> None:
        if self._acked_at is not None and now >= self._acked_at + self._lease_s:
            self._acked_at = None

    patch(WorkerCore, "_end_leases", forgets)
    patch(WorkerCore, "_lease_ends_at", lambda _self: None)
    # Else the shims do what the daemon does not.
    _shims_hold_no_lease(patch)


def _shims_hold_no_lease(patch: Patch) -> None:
    def told_to_nobody(self: WorkerCore, since: float) -> None:
        self._acked_at = since

    patch(WorkerCore, "_keep_leases", told_to_nobody)


def _every_id_is_new(patch: Patch) -> None:
    submit = ClientDesk.on_submit

    def trusting(self: ClientDesk, session: Any, message: Any) -> None:
        submit(self, session, message.model_copy(update={"is_fresh": True, "is_repeat": False}))

    patch(ClientDesk, "on_submit", trusting)


def _no_recovery_window(patch: Patch) -> None:
    real = Roster.expect_return

    def impatient(self: Roster, job_id: Any, *, not_before: float) -> None:
        del not_before
        real(self, job_id, not_before=0.0)

    patch(Roster, "expect_return", impatient)


def _children_not_asked_again(patch: Patch) -> None:
    send = AttemptFlow._send

    def not_repeats(self: AttemptFlow, message: Any) -> None:
        if not (isinstance(message, SpawnChild) and message.is_repeat):
            send(self, message)

    patch(AttemptFlow, "_send", not_repeats)


def _left_is_forgotten(patch: Patch) -> None:
    def at_once(self: ClientCore, job_id: Any) -> None:
        if self.jobs.pop(job_id, None) is not None:
            self._tell(Unwatch(job_id=job_id))

    patch(ClientCore, "_on_unwatch", at_once)


def _not_watched_again(patch: Patch) -> None:
    patch(ClientCore, "_watch", lambda _self, _job_id, _job: None)


def _lookups_unanswered(patch: Patch) -> None:
    patch(CoordinatorCore, "_on_found", lambda _self, _found: None)


def _plan_keeps_no_place_for_its_child(patch: Patch) -> None:
    patch(Bench, "suspend", lambda _self, _attempt: None)


def _returned_is_forgotten(patch: Patch) -> None:
    patch(WorkerDesk, "_on_returned", lambda _self, _worker, _session, _returned: None)


def _pause_frees_the_slot(patch: Patch) -> None:
    ask = PauseDesk.ask

    def at_once(self: PauseDesk, job_id: Any, reason: str, **more: Any) -> None:
        ask(self, job_id, reason, **more)
        self._flow.leave(job_id, "paused", reason=reason)

    patch(PauseDesk, "ask", at_once)


def _paused_jobs_go_on(patch: Patch) -> None:
    leave = JobFlow.leave

    def impatient(self: JobFlow, job_id: Any, *args: Any, **more: Any) -> None:
        self._shop.job(job_id).pause = None
        leave(self, job_id, *args, **more)
        self.answer_pause(job_id)

    patch(JobFlow, "leave", impatient)


def _nobody_says_go_on(patch: Patch) -> None:
    send_pause = PauseDesk.send_pause

    def only_pauses(self: PauseDesk, job_id: Any) -> None:
        if self._shop.job(job_id).pause is not None:
            send_pause(self, job_id)

    patch(PauseDesk, "send_pause", only_pauses)


def _files_not_recorded(patch: Patch) -> None:
    keep = PauseDesk.keep

    def forgetful(self: PauseDesk, session: Any, job_id: Any, file: Any, **_: Any) -> None:
        keep(self, session, job_id, file, is_current=False)

    patch(PauseDesk, "keep", forgetful)


def _checkpoint_of_the_past(patch: Patch) -> None:
    def first(self: Job) -> object:
        return next(iter(self.checkpoints), None)

    patch(JobFlow, "lease", _with_checkpoint(JobFlow.lease, first))


def _with_checkpoint(lease: Any, choose: Any) -> Any:
    def changed(self: JobFlow, job_id: Any, worker: Any, **more: Any) -> None:
        before = len(self._shop.effects)
        lease(self, job_id, worker, **more)
        for index in range(before, len(self._shop.effects)):
            effect: Any = self._shop.effects[index]
            if isinstance(getattr(effect, "message", None), Assign):
                other = {"checkpoint": choose(self._shop.job(job_id))}
                message = effect.message.model_copy(update=other)
                self._shop.effects[index] = replace(effect, message=message)

    return changed


def _full_for_ever(patch: Patch) -> None:
    right = Fleet.changed

    def leaves_out(self: Fleet, worker: Any) -> None:
        was_free = worker.worker_id in self.free
        right(self, worker)
        if not was_free:
            self.free.pop(worker.worker_id, None)

    patch(Fleet, "changed", leaves_out)


def _environment_not_awaited(patch: Patch) -> None:
    patch(Supplies, "_prepare", lambda self, attempt: self._ready(attempt))


def _build_not_ended(patch: Patch) -> None:
    patch(Supplies, "abandon", lambda _self, _attempt: None)


def _line_without_limit(patch: Patch) -> None:
    limited = arrays.limited_item
    patch(
        coordinator_flow,
        "limited_item",
        lambda spec: None if spec.line is not None else limited(spec),
    )


def _array_without_limit(patch: Patch) -> None:
    patch(arrays, "_has_place", lambda _array, _item: True)


def _place_kept(patch: Patch) -> None:
    patch(JobFlow, "_give_place", lambda _self, _job_id, _spec: None)


def _half_a_gang(patch: Patch) -> None:
    def those_there_is_room_for(self: Scheduler, lead_id: Any, shape: Shape, priority: int) -> bool:
        able = [
            worker
            for worker in self._shop.fleet.open.values()
            if self._admits(worker, shape, priority) and placement.has_room(worker, shape)
        ]
        workers = placement.gang_workers(able, min(len(able), shape.nodes))
        meeting = workers[0].free_meeting if workers else None
        if workers is None or meeting is None:
            return False
        for rank, worker in enumerate(workers):
            devices = placement.pick_devices(worker, shape.resources) or ()
            seat = GangSeat(rank=rank, nodes=shape.nodes, meeting=meeting)
            job_id = self._shop.gangs[lead_id].members[rank]
            self._flow.lease(job_id, worker, devices=devices, is_backlog=False, seat=seat)
        return True

    patch(Scheduler, "_start_gang", those_there_is_room_for)


def _the_rest_of_a_gang_goes_on(patch: Patch) -> None:
    def only_notes_it(_self: GangDesk, gang: Any) -> None:
        gang.is_broken = True

    patch(GangDesk, "_break", only_notes_it)


def _queue_deadline_lost(patch: Patch) -> None:
    recover = CoordinatorCore._recover

    def without_it(self: CoordinatorCore) -> None:
        recover(self)
        for job_id in self.shop.ledger.jobs:
            self.shop.deadlines.clear(("queue", job_id))

    patch(CoordinatorCore, "_recover", without_it)


def _pause_deadline_not_set(patch: Patch) -> None:
    patch(PauseDesk, "_watch", lambda _self, _job_id, _grace_s, **_: None)


def _pause_deadline_lost(patch: Patch) -> None:
    patch(PauseDesk, "restore", lambda _self, _job_id: None)


def _silence_not_watched(patch: Patch) -> None:
    patch(Watchdog, "watch", lambda _self, _key, _now: None)


def _adopted_has_not_begun(patch: Patch) -> None:
    adopt = AttemptFlow.adopt

    def as_new(self: AttemptFlow, assign: Any, lane: int) -> None:
        adopt(self, assign, lane)
        for attempt in self._bench.attempts.values():
            attempt.has_begun = False

    patch(AttemptFlow, "adopt", as_new)


def _waiting_is_silence(patch: Patch) -> None:
    patch(Watchdog, "hold", lambda _self, _now: None)


def _standing_still_is_silence(patch: Patch) -> None:
    patch(watchdog, "_may_be_silent", lambda attempt: bool(attempt.children))


def _one_look_is_enough(patch: Patch) -> None:
    due = Watchdog.due

    def at_once(self: Watchdog, now: float) -> object:
        return due(self, now) or due(self, now)

    patch(watchdog, "LOOK_AGAIN_S", 0.0)
    patch(Watchdog, "due", at_once)


def _unreadable_is_unknown(patch: Patch) -> None:
    patch(CoordinatorCore, "_has_refused_unreadable", lambda *_: False)


def _unreadable_is_looked_up_again(patch: Patch) -> None:
    refused = CoordinatorCore._has_refused_unreadable

    def unless_ended(self: CoordinatorCore, session: Any, message: Any, found: Any) -> bool:
        has_ended = found.job_id in self.shop.ledger.recent
        return not has_ended and refused(self, session, message, found)

    patch(CoordinatorCore, "_has_refused_unreadable", unless_ended)


def _owner_forgotten(patch: Patch) -> None:
    patch(ledger, "intern", lambda _: None)


def _unreadable_is_not_told(patch: Patch) -> None:
    patch(ClientDesk, "on_unreadable", lambda *_: None)


def _every_job_is_plain(patch: Patch) -> None:
    patch(plain, "PLAIN_FIELDS", frozenset(JobSpec.model_fields))


MUTANTS: Mapping[str, Mutant] = {
    "what a job asks for besides a slot is not looked at": Mutant(_every_job_is_plain),
    "sends leave before the commit": Mutant(_send_before_append),
    "any attempt may end a job": Mutant(_no_fence, 4),
    "a cancelled job ends when its stop is sent": Mutant(_cancelled_when_asked),
    "a cancellation is not recorded": Mutant(_cancel_not_recorded),
    "a stop frees the slot at once": Mutant(_slot_freed_by_stop),
    "a GPU is given out before its memory was looked at": Mutant(_devices_not_checked),
    "a GPU that kept its memory stays in use": Mutant(_quarantine_not_told),
    "the worker ignores that an attempt is settled": Mutant(_settled_ignored),
    "attempts are counted anew after a reconnect": Mutant(_attempts_count_anew),
    "no worker is ever lost": Mutant(_nobody_is_lost),
    "a silent worker is not noticed": Mutant(_silence_is_fine),
    "ended attempts are not among the held": Mutant(_ended_not_held),
    "a shared GPU is packed over its memory": Mutant(_shared_gpu_overfull),
    "the worker trusts the coordinator's devices": Mutant(_worker_trusts_devices, 1634),
    "the worker trusts the coordinator's sums": Mutant(_worker_trusts_memory, 300),
    "a job starts before what it comes after": Mutant(_dependencies_ignored),
    "a job submitted twice runs twice": Mutant(_submit_twice_is_two),
    "the client repeats events": Mutant(_events_not_deduplicated, 0),
    "the worker's lease never ends": Mutant(_lease_never_ends, 12),
    "a lease ends with its daemon": Mutant(_shims_hold_no_lease, 144),
    "leases are judged right after a restart": Mutant(_no_recovery_window),
    "every id is taken for a new one": Mutant(_every_id_is_new, 10),
    "children are not asked for again": Mutant(_children_not_asked_again, 3),
    "a job whose future is dropped is not submitted again": Mutant(_left_is_forgotten),
    "jobs are not watched again": Mutant(_not_watched_again),
    "lookups are not answered": Mutant(_lookups_unanswered),
    "a plan keeps its slot while it waits": Mutant(_plan_keeps_no_place_for_its_child, 39),
    "what a worker gives back is forgotten": Mutant(_returned_is_forgotten, 4),
    "a pause frees the slot when it is asked for": Mutant(_pause_frees_the_slot),
    "a job that paused goes back to its line": Mutant(_paused_jobs_go_on),
    "a frozen job is not told to go on": Mutant(_nobody_says_go_on, 7),
    "files are acknowledged and not recorded": Mutant(_files_not_recorded),
    "a job goes on from its oldest checkpoint": Mutant(_checkpoint_of_the_past, 3),
    "a worker that was full is never looked at again": Mutant(_full_for_ever),
    "half a gang runs": Mutant(_half_a_gang),
    "the rest of a gang goes on": Mutant(_the_rest_of_a_gang_goes_on),
    "a job starts before its environment is there": Mutant(_environment_not_awaited),
    "an environment is built for nobody": Mutant(_build_not_ended, 3),
    "a queue_timeout is lost over a restart": Mutant(_queue_deadline_lost, 47),
    "a pause is waited for for ever": Mutant(_pause_deadline_not_set),
    "a pause is waited for for ever after a restart": Mutant(_pause_deadline_lost, 3),
    "nobody watches for silence": Mutant(_silence_not_watched, 19),
    "what a new daemon finds running has not begun": Mutant(_adopted_has_not_begun, 592),
    "the time in which a plan waited counts as silence": Mutant(_waiting_is_silence, 90),
    "the time in which a job stands still is silence": Mutant(_standing_still_is_silence, 20),
    "what was said while the daemon stood still is not waited for": Mutant(_one_look_is_enough, 95),
    "a line has no limit": Mutant(_line_without_limit),
    "an array has no limit": Mutant(_array_without_limit, 3),
    "an item that ended keeps its place in its array": Mutant(_place_kept),
    "a job of which a record cannot be read is taken for unknown": Mutant(_unreadable_is_unknown),
    "what is known to have ended is looked up for ever": Mutant(_unreadable_is_looked_up_again),
    "nobody is told that a record cannot be read": Mutant(_unreadable_is_not_told),
    "whose a plan is, is forgotten": Mutant(_owner_forgotten),
    **{name: Mutant(plant, seed) for name, (plant, seed) in PLACE_PLANTS.items()},
}
