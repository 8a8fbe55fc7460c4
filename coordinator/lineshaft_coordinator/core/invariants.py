"""What must hold between any two events: every index of the core against every other.

Cost is linear in all that the core knows: made for tests, simulation and ``lineshaft doctor``.
"""

from collections.abc import Iterator

from lineshaft_coordinator.core.arrays import limited_item
from lineshaft_coordinator.core.fleet import DeviceUse, Worker
from lineshaft_coordinator.core.ledger import Leased, Paused
from lineshaft_coordinator.core.placement import EPSILON, can_take, gang_workers, suits
from lineshaft_coordinator.core.shapes import Shape
from lineshaft_coordinator.core.shop import Shop
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.resources import Gpu

SUMS_DRIFT = 1e-6
"""How far sums of CPUs may be off: they are added and taken away as floats."""


class InvariantError(AssertionError):
    """Two indexes of the core contradict each other."""


def check(shop: Shop) -> None:
    """Compare everything with everything.

    Raises:
        InvariantError: A bug of ours; the text lists every contradiction.
    """
    wrong = [
        *_places(shop),
        *_unplaced(shop),
        *_queues(shop),
        *_gangs(shop),
        *_workers(shop),
        *_devices(shop),
        *_watchers(shop),
        *_relatives(shop),
        *_deadlines(shop),
        *_pauses(shop),
        *_arrays(shop),
        *_idleness(shop),
    ]
    if wrong:
        raise InvariantError("; ".join(wrong))


def _places(shop: Shop) -> Iterator[str]:
    leased: dict[JobId, None] = {}
    for worker in shop.fleet.workers.values():
        for job_id in worker.lease_ids():
            lease, job = worker.lease_of(job_id), shop.ledger.jobs.get(job_id)
            if job_id in leased:
                yield f"{job_id} has two leases"
            leased[job_id] = None
            if job is None or not isinstance(job.state, Leased) or lease is None:
                yield f"{worker.worker_id} has a lease of {job_id}, the ledger has none"
            elif (job.state.worker_id, job.state.attempt) != (worker.worker_id, lease.attempt):
                yield f"{worker.worker_id} has attempt {lease.attempt} of {job_id}: {job.state}"
    held = 0
    for job_id, job in shop.ledger.jobs.items():
        places = [job_id in shop.queues, job_id in shop.blocked, job_id in shop.delayed]
        places.append(job_id in shop.arrays)
        if _waits_for_its_gang(shop, job_id):
            held += 1
            if any(places):
                yield f"{job_id} waits for its gang, but queued, blocked, delayed is {places}"
        elif isinstance(job.state, Leased):
            if any(places) or job_id not in leased:
                yield f"{job_id} is leased, but queued, blocked, delayed, in an array is {places}"
        elif isinstance(job.state, Paused):
            if job_id in leased or places[0] or places[2] or places[3]:
                yield f"{job_id} is paused, but leased, queued or delayed"
        elif sum(places) != 1:
            yield f"{job_id} waits, but queued, blocked, delayed, in an array is {places}"
        elif job.cancel_reason is not None:
            yield f"{job_id} waits although it was cancelled"
    waiting = len(shop.queues) + len(shop.blocked) + len(shop.delayed) + len(shop.arrays) + held
    waiting += sum(
        isinstance(job.state, Paused) and job_id not in shop.blocked
        for job_id, job in shop.ledger.jobs.items()
    )
    paused = sum(isinstance(job.state, Paused) for job in shop.ledger.jobs.values())
    if paused != shop.ledger.paused_count:
        yield f"{paused} jobs are paused, but {shop.ledger.paused_count} are counted"
    if waiting + len(leased) != len(shop.ledger.jobs):
        yield f"{waiting} waiting and {len(leased)} leased are not {len(shop.ledger.jobs)} jobs"


def _unplaced(shop: Shop) -> Iterator[str]:
    """What is only prepared has nothing of its worker, here as in the ledger."""
    for worker in shop.fleet.workers.values():
        environments = [lease.shape.environment for lease in worker.preparing.values()]
        if None in environments or len(set(environments)) < len(environments):
            yield f"{worker.worker_id} prepares one environment for several jobs, or none"
        if len(environments) > shop.settings.preparing_max:
            yield f"{worker.worker_id} prepares {len(environments)} jobs at a time"
        for job_id, lease in worker.preparing.items():
            if lease.devices or lease.is_started or lease.child_count:
                yield f"{job_id} has no place on {worker.worker_id} and has {lease}"
    for job_id, job in shop.ledger.jobs.items():
        if isinstance(job.state, Leased):
            holder = shop.fleet.workers[job.state.worker_id]
            if (job_id in holder.preparing) == job.state.is_placed:
                yield f"{job_id} has a place, or has none: {job.state}"


def _waits_for_its_gang(shop: Shop, job_id: JobId) -> bool:
    gang, jobs = shop.gang_of(job_id), shop.ledger.jobs
    if gang is None or isinstance(jobs[job_id].state, Leased):
        return False
    is_running = any(isinstance(jobs[member].state, Leased) for member in gang.members)
    return is_running or job_id != gang.lead_id


def _gangs(shop: Shop) -> Iterator[str]:
    jobs = shop.ledger.jobs
    for job_id, job in jobs.items():
        lead_id = job_id if job.spec.part is None else JobId(job.spec.part.job_id)
        if ((job.spec.nodes or 1) > 1 or job.spec.part is not None) and lead_id not in shop.gangs:
            yield f"{job_id} has lost its gang"
    for lead_id, gang in shop.gangs.items():
        if any(member not in jobs for member in gang.members):
            yield f"the gang of {lead_id} is not whole"
            continue
        leased = [m for m in gang.members if isinstance(jobs[m].state, Leased)]
        if 0 < len(leased) < gang.size and not gang.is_broken:
            yield f"half of the gang {lead_id} runs: {leased}"
        if not leased and (gang.is_broken or gang.ended or jobs[lead_id].cancel_reason):
            yield f"the gang {lead_id} is over and was not ended"
        if len({jobs[member].attempt_count for member in gang.members}) > 1:
            yield f"ranks of {lead_id} are in different rounds"
        if any(member not in leased for member in gang.ended):
            yield f"a rank of {lead_id} succeeded and is not leased"


def _queues(shop: Shop) -> Iterator[str]:
    for shape, queue in shop.queues.by_shape.items():
        lines = [line for clients in queue.lines.values() for line in clients.values()]
        if not lines or any(not line.jobs for line in lines):
            yield f"the queue of {shape} keeps an empty line"
        if queue.size != sum(len(line.jobs) for line in lines):
            yield f"the queue of {shape} has not {queue.size} jobs"
        for priority, clients in queue.lines.items():
            for client_id, line in clients.items():
                for job_id in line.jobs:
                    job = shop.ledger.jobs.get(job_id)
                    if job is None or job_id not in shop.queues:
                        yield f"{job_id} is in a line, but nowhere else"
                    elif (job.client_id, job.spec.priority) != (client_id, priority):
                        yield f"{job_id} is in the line of {client_id}, {priority}"
                    elif Shape.of(job.spec) != shape:
                        yield f"{job_id} is in the queue of another shape"
    if len(shop.queues) != sum(queue.size for queue in shop.queues.by_shape.values()):
        yield "the queues have lost count"


def _workers(shop: Shop) -> Iterator[str]:
    fleet = shop.fleet
    for worker in fleet.workers.values():
        name, leases = worker.worker_id, worker.running.values()
        if worker.used_slots != sum(lease.child_count == 0 for lease in leases):
            yield f"{name} does not use {worker.used_slots} slots"
        cpus = sum(lease.shape.resources.cpus for lease in leases)
        if abs(worker.used_cpus - cpus) > SUMS_DRIFT:
            yield f"{name} uses {cpus} CPUs, not {worker.used_cpus}"
        if worker.used_memory_bytes != sum(v.shape.resources.memory_bytes for v in leases):
            yield f"{name} does not use {worker.used_memory_bytes} bytes"
        if fleet.known.get(name) is not worker:
            yield f"{name} is not the {name} that is known"
        if worker.session is not None and fleet.by_session.get(worker.session) is not worker:
            yield f"{name} is not found by its session"
        if worker.session is None and not worker.lease_ids():
            yield f"{name} is away, has nothing, and is not forgotten"
        if (name in fleet.open) != (worker.is_here and not worker.is_draining):
            yield f"{name} is among the open workers and should not be, or the reverse"
        has_slot = worker.capacity is not None and worker.used_slots < worker.capacity.slots
        if name in fleet.open and name not in fleet.free and has_slot:
            yield f"{name} has a free slot and is left out of those that may"
    for session, worker in fleet.by_session.items():
        if worker.session != session or fleet.workers.get(worker.worker_id) is not worker:
            yield f"session {session} is not that of {worker.worker_id}"
    for name in fleet.open:
        if name not in fleet.workers:
            yield f"{name} is open and not there"
    for name in fleet.free:
        if name not in fleet.open:
            yield f"{name} may have a free slot and is not open"


def _devices(shop: Shop) -> Iterator[str]:
    for worker in shop.fleet.workers.values():
        sums: dict[str, DeviceUse] = {}
        for job_id, lease in worker.running.items():
            wanted = lease.shape.resources
            if len(lease.devices) != wanted.gpus:
                yield f"{job_id} has {len(lease.devices)} GPUs and asked for {wanted.gpus}"
            for uuid in lease.devices:
                use = sums.setdefault(uuid, DeviceUse())
                use.job_count += 1
                use.memory_bytes += wanted.gpu_memory_bytes
                use.is_exclusive |= wanted.gpu_memory_bytes == 0
        if sums != worker.devices:
            yield f"{worker.worker_id} uses {sums}, not {worker.devices}"
        sizes = {gpu.uuid: gpu.memory_bytes for gpu in _gpus(worker)}
        for uuid, use in sums.items():
            if use.is_exclusive and use.job_count > 1:
                yield f"{uuid} is promised to {use.job_count} jobs, one of which wants it alone"
            if uuid in sizes and use.memory_bytes > sizes[uuid]:
                yield f"more of the memory of {uuid} is promised than it has"
        for job_id, lease in worker.backlog.items():
            if lease.devices or lease.is_started:
                yield f"{job_id} is in the backlog of {worker.worker_id} and has started"


def _gpus(worker: Worker) -> tuple[Gpu, ...]:
    return worker.capacity.gpus if worker.capacity is not None else ()


def _watchers(shop: Shop) -> Iterator[str]:
    for job_id, sessions in shop.watchers.items():
        if not sessions or job_id not in shop.ledger.jobs:
            yield f"watchers of {job_id} are kept for nothing"
        for session in sessions:
            client = shop.clients.get(session)
            if client is None or job_id not in client.watched:
                yield f"session {session} watches {job_id} and does not know it"
    for session, client in shop.clients.items():
        for job_id in client.watched:
            if session not in shop.watchers.get(job_id, {}):
                yield f"session {session} thinks that it watches {job_id}"
    for job_id, messages in shop.pending.items():
        if not messages:
            yield f"{job_id} is looked up for nobody"
    for job_id in shop.had_ended:
        if job_id not in shop.pending:
            yield f"{job_id} is remembered as ended for a lookup that is over"


def _relatives(shop: Shop) -> Iterator[str]:
    jobs = shop.ledger.jobs
    for job_id, others in shop.blocked.items():
        if not others:
            yield f"{job_id} waits for nothing"
        for other in others:
            if other not in jobs or job_id not in shop.dependents.get(other, {}):
                yield f"{job_id} waits for {other}, which will not say when it ends"
    for other, waiting in shop.dependents.items():
        if not waiting:
            yield f"{other} keeps an empty list of those who wait for it"
        for job_id in waiting:
            if other not in shop.blocked.get(job_id, {}):
                yield f"{other} will tell {job_id}, which does not wait for it"
    for parent_id, children in shop.children.items():
        if not children or any(child not in jobs for child in children):
            yield f"{parent_id} keeps children that ended"
    for job_id, job in jobs.items():
        if job.spec.parent is not None:
            parent_id = JobId(job.spec.parent.job_id)
            if job_id not in shop.children.get(parent_id, {}) and job.cancel_reason is None:
                yield f"{job_id} is a child that its parent {parent_id} does not know"
    for worker in shop.fleet.by_session.values():
        for job_id, lease in worker.running.items():
            count = sum(
                (parent := jobs[child].spec.parent) is not None and parent.attempt == lease.attempt
                for child in shop.children.get(job_id, {})
                if child in jobs
            )
            if lease.child_count != count:
                yield f"{job_id} waits for {count} children, not {lease.child_count}"


def _deadlines(shop: Shop) -> Iterator[str]:
    deadlines = shop.deadlines
    for worker in shop.fleet.workers.values():
        is_away = worker.session is None
        for job_id in worker.lease_ids():
            if (("lost", job_id) in deadlines) != is_away:
                yield f"{job_id} on {worker.worker_id}, away: {is_away}, has the wrong deadline"
        if (("silence", worker.worker_id) in deadlines) == is_away:
            yield f"nobody listens for the silence of {worker.worker_id}, or it is away"
    for session in shop.clients:
        if ("client", session) not in deadlines:
            yield f"nobody listens for the silence of client session {session}"
    for job_id in shop.delayed:
        if ("retry", job_id) not in deadlines:
            yield f"{job_id} is delayed for ever"
    for job_id, job in shop.ledger.jobs.items():
        if isinstance(job.state, Leased) and ("queue", job_id) in deadlines:
            yield f"{job_id} is leased and still has a deadline for waiting"


def _pauses(shop: Shop) -> Iterator[str]:
    preemptible: dict[JobId, None] = {}
    for job_id, job in shop.ledger.jobs.items():
        has_deadline = ("pause", job_id) in shop.deadlines
        is_asked = isinstance(job.state, Leased) and job.pause is not None
        if job.pause is not None and not isinstance(job.state, Leased):
            yield f"{job_id} is asked to pause and nobody runs it"
        if job_id in shop.pausing and not is_asked:
            yield f"somebody waits for {job_id} to pause, which nobody asked it to"
        if isinstance(job.state, Leased):
            if job.spec.preemptible:
                preemptible[job_id] = None
            lease = shop.fleet.workers[job.state.worker_id].lease_of(job_id)
            is_frozen = lease is not None and lease.is_frozen
            is_late = is_asked and job.cancel_reason is None and not is_frozen
            if is_late and not has_deadline:
                yield f"{job_id} may take for ever to pause"
        if has_deadline and not is_asked:
            yield f"{job_id} has a deadline for a pause that nobody wants"
        if isinstance(job.state, Paused) and ("queue", job_id) in shop.deadlines:
            yield f"{job_id} is paused and its waiting is limited"
    if preemptible.keys() != shop.preemptible.keys():
        yield f"{shop.preemptible} are not the leased jobs that may be preempted"
    if any(job_id not in shop.ledger.jobs for job_id in shop.pausing):
        yield "somebody waits for a job to pause that has ended"


def _arrays(shop: Shop) -> Iterator[str]:
    for array_id in shop.arrays.ids():
        under_way, waiting = shop.arrays.under_way(array_id), shop.arrays.waiting(array_id)
        if not under_way:
            yield f"array {array_id} waits for nobody"
        for job_id in (*under_way, *waiting):
            if job_id not in shop.ledger.jobs:
                yield f"{job_id} has ended and is still in its array"
        for job_id in under_way:
            is_leased = isinstance(shop.job(job_id).state, Leased)
            if not is_leased and job_id not in shop.queues:
                yield f"{job_id} has a place in its array and is not under way"
        head = limited_item(shop.job(waiting[0]).spec) if waiting else None
        if head is not None and len(under_way) < head.at_most:
            yield f"{waiting[0]} waits and its array has a place"
    for job_id, job in shop.ledger.jobs.items():
        if (item := limited_item(job.spec)) is None:
            continue
        is_under_way = isinstance(job.state, Leased) or job_id in shop.queues
        if is_under_way and job_id not in shop.arrays.under_way(item.array_id):
            yield f"{job_id} is under way without a place in its array"


def _idleness(shop: Shop) -> Iterator[str]:
    """The scheduler's rule: no shape waits while an open worker could start its head."""
    if shop.is_stopping:
        return
    for shape, queue in shop.queues.by_shape.items():
        priority = -shop.queues.head(queue)[0][0]
        able: list[Worker] = []
        for worker in shop.fleet.open.values():
            is_heard = shop.now - worker.heard_at <= shop.settings.suspect_s - EPSILON
            is_free = worker.reserved_for in (None, shape) or priority > worker.reserved_priority
            if (
                is_heard
                and is_free
                and suits(worker, shape)
                and can_take(worker, shape, shop.settings.preparing_max)
            ):
                able.append(worker)
        if able if shape.nodes == 1 else gang_workers(able, shape.nodes):
            names = ", ".join(worker.worker_id for worker in able)
            yield f"{shape} waits, {names} has room for it"
