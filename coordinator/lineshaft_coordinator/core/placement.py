"""Which worker may take which shape, and why not. Pure questions, no changes."""

from collections.abc import Iterable
from dataclasses import dataclass

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.shapes import ONE_SLOT, Shape
from lineshaft_protocol.resources import GIB, Capacity, Gpu, Resources

EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing a worker lacks for a shape."""

    what: str
    is_for_ever: bool
    """Whether it would lack it even when idle."""

    def __str__(self) -> str:
        return self.what


def may_ever(worker: Worker, shape: Shape) -> bool:
    """Whether the worker, once idle, could run the shape."""
    if not suits(worker, shape) or worker.capacity is None:
        return False
    wanted, capacity = shape.resources, worker.capacity
    if wanted is ONE_SLOT:
        return True
    # The same as asking for the lacks that are for ever, a hundred times as fast.
    return (
        wanted.cpus <= capacity.cpus + EPSILON
        and wanted.memory_bytes <= capacity.memory_bytes
        and (
            not wanted.gpus
            or sum(gpu.memory_bytes >= wanted.gpu_memory_bytes for gpu in capacity.gpus)
            >= wanted.gpus
        )
    )


def has_room(worker: Worker, shape: Shape) -> bool:
    """Whether the shape could start there now."""
    capacity, wanted = worker.capacity, shape.resources
    assert capacity is not None, "only workers that are here are asked"
    if worker.used_slots >= capacity.slots:
        return False
    if wanted.cpus and worker.used_cpus + wanted.cpus > capacity.cpus + EPSILON:
        return False
    if (
        wanted.memory_bytes
        and worker.used_memory_bytes + wanted.memory_bytes > capacity.memory_bytes
    ):
        return False
    return not wanted.gpus or pick_devices(worker, wanted) is not None


def must_prepare(worker: Worker, shape: Shape) -> bool:
    """Whether the worker has to make the shape's environment, and can before it has a place."""
    return (
        shape.environment is not None
        and shape.environment not in worker.environments
        and shape.nodes == 1
        and _knows(worker, "unplaced")
    )


def may_prepare(worker: Worker, shape: Shape, most: int) -> bool:
    """Whether the worker may begin to: once for each environment, and for so many at a time."""
    return len(worker.preparing) < most and shape.environment not in (
        lease.shape.environment for lease in worker.preparing.values()
    )


def can_take(worker: Worker, shape: Shape, most: int) -> bool:
    """Whether a job of the shape could start there now, or be prepared for a place it would have.

    Args:
        worker: One that is here.
        shape: What is asked for.
        most: How many jobs a worker may prepare at a time.
    """
    return has_room(worker, shape) and (
        not must_prepare(worker, shape) or may_prepare(worker, shape, most)
    )


def gang_workers(able: Iterable[Worker], nodes: int) -> list[Worker] | None:
    """Which workers a gang would get now, rank 0's first; None when they are too few.

    Args:
        able: Those that could start a part now.
        nodes: How many it needs.
    """
    found = sorted(able, key=lambda worker: worker.used_slots)
    lead = next((worker for worker in found if worker.free_meeting is not None), None)
    if lead is None or len(found) < nodes:
        return None
    return [lead, *[worker for worker in found if worker is not lead][: nodes - 1]]


def suits(worker: Worker, shape: Shape) -> bool:
    """Whether the worker is of the right kind: its name, tags and Python, not its load."""
    return (
        (shape.worker_id is None or shape.worker_id == worker.worker_id)
        and (not shape.tags or worker.tags.issuperset(shape.tags))
        and (shape.python is None or shape.python in worker.pythons)
        and (shape.environment is None or _knows(worker, "environments"))
        and (not shape.has_processes or _knows(worker, "processes"))
        and (shape.nodes == 1 or worker.has_gangs)
    )


def _knows(worker: Worker, feature: str) -> bool:
    return worker.register is not None and feature in worker.register.versions.features


def pick_devices(worker: Worker, wanted: Resources) -> tuple[str, ...] | None:
    """The GPUs the shape would get now, fullest that still fit first; None when too few fit."""
    assert worker.capacity is not None, "only workers that are here are asked"
    fitting: list[tuple[int, str]] = []
    for gpu in worker.capacity.healthy_gpus:
        free_bytes = _free_bytes(worker, gpu, wanted)
        if free_bytes is not None:
            fitting.append((free_bytes, gpu.uuid))
    if len(fitting) < wanted.gpus:
        return None
    fitting.sort()
    return tuple(uuid for _, uuid in fitting[: wanted.gpus])


def _free_bytes(worker: Worker, gpu: Gpu, wanted: Resources) -> int | None:
    use = worker.devices.get(gpu.uuid)
    if wanted.gpu_memory_bytes == 0:
        return gpu.memory_bytes if use is None else None
    if use is None:
        free = gpu.memory_bytes
    elif use.is_exclusive:
        return None
    else:
        free = gpu.memory_bytes - use.memory_bytes
    return free if free >= wanted.gpu_memory_bytes else None


def lacks(worker: Worker, shape: Shape) -> list[Lack]:
    """Everything that keeps the shape off the worker now; empty when it could start."""
    if shape.worker_id is not None and shape.worker_id != worker.worker_id:
        return [Lack(f"the job may only run on worker {shape.worker_id}", is_for_ever=True)]
    found: list[Lack] = []
    if missing := [tag for tag in shape.tags if tag not in worker.tags]:
        found.append(Lack(f"it lacks the tag {', '.join(missing)}", is_for_ever=True))
    if shape.python is not None and shape.python not in worker.pythons:
        has = ", ".join(worker.pythons) or "none"
        found.append(
            Lack(f"it has Python {has}; the job was made with {shape.python}", is_for_ever=True)
        )
    if shape.nodes > 1 and not worker.has_gangs:
        found.append(Lack("it is too old for jobs on several workers", is_for_ever=True))
    if shape.has_processes and not _knows(worker, "processes"):
        found.append(Lack("it is too old for jobs in several processes", is_for_ever=True))
    if shape.environment is not None and not _knows(worker, "environments"):
        found.append(Lack("it is too old to make environments; update it", is_for_ever=True))
    if worker.session is None:
        found.append(Lack("it is not connected", is_for_ever=False))
    if worker.capacity is None:
        return found
    if worker.is_draining:
        found.append(Lack("it is draining", is_for_ever=False))
    found += _amount_lacks(worker, worker.capacity, shape.resources)
    if worker.reserved_for not in (None, shape):
        found.append(Lack("it is set aside for a job that has waited longer", is_for_ever=False))
    return found


def preparing_lacks(worker: Worker, shape: Shape, most: int) -> list[Lack]:
    """What else keeps a job from being prepared there, see `may_prepare`."""
    if not must_prepare(worker, shape) or may_prepare(worker, shape, most):
        return []
    others = [
        job_id
        for job_id, lease in worker.preparing.items()
        if lease.shape.environment == shape.environment
    ]
    if others:
        text = f"it makes the same environment for job {others[0]}"
    else:
        text = f"it makes {len(worker.preparing)} other environments, as many as it may at a time"
    return [Lack(text, is_for_ever=False)]


def _amount_lacks(worker: Worker, capacity: Capacity, wanted: Resources) -> list[Lack]:
    found: list[Lack] = []
    if worker.used_slots >= capacity.slots:
        found.append(Lack(f"all its {capacity.slots} slots are taken", is_for_ever=False))
    for name, asked, used, has, unit in (
        ("CPUs", wanted.cpus, worker.used_cpus, capacity.cpus, 1.0),
        (
            "GiB of memory",
            float(wanted.memory_bytes),
            float(worker.used_memory_bytes),
            float(capacity.memory_bytes),
            float(GIB),
        ),
    ):
        if asked and asked > has + EPSILON:
            text = f"it has {has / unit:.3g} {name}, the job asks for {asked / unit:.3g}"
            found.append(Lack(text, is_for_ever=True))
        elif asked and used + asked > has + EPSILON:
            text = f"{(has - used) / unit:.3g} of its {has / unit:.3g} {name} are free"
            found.append(Lack(f"{text}, the job asks for {asked / unit:.3g}", is_for_ever=False))
    return found + _gpu_lacks(worker, capacity, wanted)


def _gpu_lacks(worker: Worker, capacity: Capacity, wanted: Resources) -> list[Lack]:
    if not wanted.gpus:
        return []
    large_enough = [g for g in capacity.gpus if g.memory_bytes >= wanted.gpu_memory_bytes]
    asked = f"the job asks for {wanted.gpus}"
    if wanted.gpu_memory_bytes:
        asked += f" with {wanted.gpu_memory_bytes / GIB:.3g} GiB each"
    if len(large_enough) < wanted.gpus:
        count = len(large_enough) if wanted.gpu_memory_bytes else len(capacity.gpus)
        return [Lack(f"it has {count} such GPUs, {asked}", is_for_ever=True)]
    if pick_devices(worker, wanted) is None:
        faults = [f"{g.name} is out of use: {g.fault}" for g in capacity.gpus if g.fault]
        text = f"too few of its {len(capacity.gpus)} GPUs are free, {asked}"
        return [Lack("; ".join([text, *faults]), is_for_ever=False)]
    return []
