"""G14: nothing stays in a state for longer than the state's deadline and a stated slack.

Every state of a job, an attempt and a connection that has a deadline is a *stay* here: whose it is,
since when, and how long it may last. The time counts while the process that must end it is up and
awake, and anew when that starts again: timers are not durable, but each must be armed again.

What has no deadline: `paused` and `frozen` last until a user says otherwise, what waits for another
job or for a place in its array has that one's deadlines, and a run without `silence_timeout` may
last for ever. The time limit of a run is kept by the processes that execute it, which are not here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from tests.simulation.coordinator_node import CoordinatorNode
from tests.simulation.machine import Machine, Process
from tests.simulation.node import Node
from tests.simulation.world import SimulationError, World

from lineshaft_coordinator.core.ledger import Job, Leased, Queued
from lineshaft_coordinator.core.records import FileKept, Record
from lineshaft_coordinator.core.retries import retry_delay_s
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.jobs import Timeouts
from lineshaft_worker.core.attempts import Attempt, Phase
from lineshaft_worker.core.io import AttemptKey
from lineshaft_worker.core.machine import WorkerCore

LOOK_S = 1.0
"""How often somebody looks."""
DRIFT_MAX = 0.15
"""More than any clock here is wrong by."""
SLACK_S = 4.0
"""Two looks, a commit, and timers that are late."""
ANSWER_S = 20.0
"""An answer on a connection that stays: a full inbox at either end, slow commits, or the silence
after which the connection does not stay."""
DYING_S = 4.0
"""The most that a process here ignores that it is told to end."""
GIVE_BACK_S = 3.3
"""How long a GPU's memory is waited for."""

ON_ITS_WAY_S = 0.1
"""More than what a process says takes to reach a daemon that is awake."""

NO_LIMITS = Timeouts()


class Stay(NamedTuple):
    """A state that may not last."""

    what: str
    who: str
    which: tuple[object, ...]
    """Another stay of the same kind has another one."""
    limit_s: float


class Daemon(Protocol):
    """A worker, as far as it is looked at."""

    name: str
    boot: int
    is_up: bool
    stalled_since: float
    stalled_until: float
    machine: Machine

    @property
    def its_core(self) -> WorkerCore: ...


class Stays:
    """Looks on as time passes, and raises when something has stayed for too long."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[tuple[str, str], tuple[tuple[object, ...], float]] = {}
        self._turns: Counter[str] = Counter()
        """How often each job went on to another state."""

    def on_commit(self, records: Iterable[Record]) -> None:
        """Jobs moved."""
        for record in records:
            self._turns[record.job_id] += not isinstance(record, FileKept)

    def watch(self, coordinator: CoordinatorNode, workers: Iterable[Daemon]) -> None:
        """Look now, and again and again."""
        seen: dict[tuple[str, str], tuple[tuple[object, ...], float]] = {}
        now = self._world.now
        for stay in self._all(coordinator, workers):
            key = (stay.what, stay.who)
            which, since = self._since.get(key, ((), now))
            if which != stay.which:
                which, since = stay.which, now
            seen[key] = which, since
            limit_s = stay.limit_s * (1 + DRIFT_MAX) + SLACK_S
            if now - since > limit_s:
                raise SimulationError(
                    f"{stay.who} is {stay.what} for {now - since:.1f} s; its deadline was "
                    f"{stay.limit_s:g} s"
                )
        for what, _ in seen:
            self._world.mark(f"stay: {what}")
        self._since = seen
        self._world.after(LOOK_S, lambda: self.watch(coordinator, workers))

    def on_stop(self, worker: Daemon, key: AttemptKey) -> None:
        """A daemon ends an attempt: not for a deadline that has not passed."""
        # Its end may have been in the inbox behind what made the daemon stop it.
        attempt = worker.its_core.bench.attempts.get(key)
        process = worker.machine.processes.get(key)
        if attempt is None or attempt.verdict is None or process is None:
            return
        if not process.is_executing:
            return
        now, limits = self._world.now, attempt.assign.job.timeouts or NO_LIMITS
        self._world.mark(f"verdict: {attempt.verdict.cause}")
        silence_s = (limits.silence_s or 0.0) * (1 - DRIFT_MAX)
        quiet_s = now - self._heard_at(worker, process, silence_s)
        if attempt.verdict.cause == "prepare_timeout":
            is_wrong = process.began_at is not None and now - process.began_at > ON_ITS_WAY_S
        else:
            is_still = process.pause == "freeze" and now - process.signed_at > ON_ITS_WAY_S
            is_wrong = is_still or quiet_s < silence_s
        if is_wrong:
            raise SimulationError(
                f"{attempt.key} is ended for its {attempt.verdict.cause}: "
                f"began {process.began_at}, {process.pause}, said nothing for {quiet_s:.3f} s"
            )

    def _heard_at(self, worker: Daemon, process: Process, silence_s: float) -> float:
        """When a run said last what its daemon had to hear before it may be ended for silence."""
        last = heard = process.began_at or 0.0
        for at in process.signed:
            # Too late already, and unread until the daemon stands still no more.
            is_too_late = at - last >= silence_s and at >= worker.stalled_since
            last = at
            # What it said last may be on its way.
            if not is_too_late and self._world.now - at > ON_ITS_WAY_S:
                heard = at
        return heard

    def _all(self, coordinator: CoordinatorNode, workers: Iterable[Daemon]) -> Iterator[Stay]:
        if self._is_awake(coordinator):
            yield from self._of_coordinator(coordinator.boot, coordinator.its_core.shop)
        for worker in workers:
            if self._is_awake(worker):
                yield from _of_worker(worker)

    def _is_awake(self, node: Node | Daemon) -> bool:
        return node.is_up and node.stalled_until <= self._world.now

    def _of_coordinator(self, boot: int, shop: Shop) -> Iterator[Stay]:
        settings = shop.settings
        for worker_id, worker in shop.fleet.workers.items():
            if worker.session is not None:
                heard = (boot, worker.session, worker.heard_at)
                yield Stay("not heard", worker_id, heard, settings.silence_s)
        for session, client in shop.clients.items():
            heard = (boot, client.heard_at)
            yield Stay("not heard", f"client {session}", heard, settings.client_silence_s)
        for job_id, asking in shop.pending.items():
            yield Stay("looked up", job_id, (boot, asking[0][0]), SLACK_S)
        for job_id, job in shop.ledger.jobs.items():
            turn = (boot, self._turns[job_id], job.attempt_count)
            if isinstance(job.state, Leased):
                yield from _leased(shop, job_id, job, job.state, turn)
            elif isinstance(job.state, Queued):
                yield from _waiting(shop, job_id, job, turn)


def _waiting(shop: Shop, job_id: JobId, job: Job, turn: tuple[object, ...]) -> Iterator[Stay]:
    if job_id in shop.delayed:
        # Parts of a gang fail in its stead: it has waited the longest there is.
        failed_count = 30 if job.spec.nodes else job.failed_count
        delay_s = retry_delay_s(shop.settings, job.spec, failed_count)
        yield Stay("waiting for its retry", job_id, turn, delay_s)
    limits = job.spec.timeouts or NO_LIMITS
    if job_id in shop.queues and limits.queue_s is not None:
        yield Stay("queued", job_id, turn, limits.queue_s)


def _leased(
    shop: Shop, job_id: JobId, job: Job, state: Leased, turn: tuple[object, ...]
) -> Iterator[Stay]:
    settings, worker = shop.settings, shop.fleet.workers[state.worker_id]
    lease, gang = worker.lease_of(job_id), shop.gang_of(job_id)
    is_ending = job.cancel_reason is not None or (gang is not None and gang.is_broken)
    if worker.session is None:
        away_s = max(settings.lost_after_s_of(job.spec), settings.recovery_s)
        yield Stay("without its worker", job_id, (*turn, worker.last_session), away_s)
    elif is_ending:
        ending_s = ANSWER_S + DYING_S + GIVE_BACK_S
        yield Stay("cancelling", job_id, (*turn, worker.session), ending_s)
    is_frozen = lease is not None and lease.is_frozen
    if job.pause is not None and job.cancel_reason is None and not is_frozen:
        pausing_s = settings.pause_grace_s + settings.recovery_s
        yield Stay("pausing", job_id, (*turn, job.pause), pausing_s)


def _of_worker(worker: Daemon) -> Iterator[Stay]:
    core, boot = worker.its_core, worker.boot
    agreed = core._agreed
    if core._session is not None and agreed is None:
        registering = (boot, core._session)
        yield Stay("registering", worker.name, registering, core.settings.register_s)
    if agreed is not None:
        heard = (boot, core._session, core._heard_at)
        yield Stay("not answered", worker.name, heard, agreed.silence_s)
    for attempt in core.bench.attempts.values():
        who = f"{attempt.key.job_id}#{attempt.key.attempt} on {worker.name}"
        yield from _of_attempt(worker, core, attempt, who)


def _of_attempt(worker: Daemon, core: WorkerCore, attempt: Attempt, who: str) -> Iterator[Stay]:
    boot = worker.boot
    if core._acked_at is not None and attempt.is_going_on:
        own_s = attempt.assign.lease_s or core._lease_s
        lease_s = max(own_s, core._lease_s) if attempt.is_to_start else own_s
        yield Stay("on its own", who, (boot, core._acked_at, attempt.is_to_start), lease_s)
    match attempt.phase:
        case Phase.STOPPING:
            yield Stay("stopping", who, (boot,), DYING_S)
        case Phase.CHECKING:
            yield Stay("checking", who, (boot,), GIVE_BACK_S)
        case Phase.FETCHING | Phase.PREPARED | Phase.STORING if core._agreed is not None:
            yield Stay(attempt.phase.value, who, (boot, core._session), ANSWER_S)
        case Phase.ENDED if core._agreed is not None and attempt.assign.gang is None:
            yield Stay("ended and not settled", who, (boot, core._session), ANSWER_S)
        case _:
            pass
    yield from _watched(worker, attempt, who)


def _watched(worker: Daemon, attempt: Attempt, who: str) -> Iterator[Stay]:
    limits = attempt.assign.job.timeouts or NO_LIMITS
    process = worker.machine.processes.get(attempt.key)
    is_still = process is not None and process.standing is not None
    waits = is_still or attempt.is_suspended or bool(attempt.children)
    if waits or attempt.pause == "unknown" or attempt.is_frozen or not attempt.is_going_on:
        return
    if process is None or not process.is_executing:
        if limits.prepare_s is not None:
            yield Stay("being prepared", who, (worker.boot,), limits.prepare_s)
    elif limits.silence_s is not None:
        signs = (worker.boot, process.signs, attempt.pause)
        yield Stay("silent", who, signs, limits.silence_s)
