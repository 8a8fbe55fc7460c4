"""How things stand at the moment of a scrape.

The cost of a look grows with workers and with what they have in hand, never with the queue or the
history.
"""

import platform
from collections import Counter as Tally
from collections.abc import Sequence

from lineshaft_coordinator.core.fleet import Worker
from lineshaft_coordinator.core.ledger import Queued
from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.core.states import leased_state
from lineshaft_coordinator.metrics.exposition import Family, Labels
from lineshaft_protocol.resources import Gpu
from lineshaft_protocol.version import __version__

STATES = (
    "waiting",
    "queued",
    "assigned",
    "running",
    "pausing",
    "frozen",
    "paused",
    "cancelling",
)
_FAULTS = (
    ("xid", ("Xid",)),
    ("memory_errors", ("memory errors",)),
    ("not_given_back", ("still holds", "not given back")),
    ("in_use", ("in use", "used by others")),
)
"""By what stands in a worker's words; anything else is the driver's."""
FAULT_REASONS = (*(reason for reason, _ in _FAULTS), "driver")


def census(shop: Shop, now: float) -> list[Family]:
    """Count jobs, workers, slots and GPUs as they are.

    Args:
        shop: The core's state.
        now: On the core's clock, in seconds.
    """
    here = [worker for worker in shop.fleet.workers.values() if worker.is_here]
    return [
        _gauge("lineshaft_jobs", "Live jobs, by where they are.", "state", job_counts(shop)),
        _gauge(
            "lineshaft_workers",
            "Workers: idle, busy, draining, or away with jobs in hand.",
            "status",
            _worker_counts(shop),
        ),
        _gauge("lineshaft_slots", "Slots of workers that are here.", "state", _slots(here)),
        Family(
            "lineshaft_queue_stalled_seconds",
            "For how long the first job of a line has not moved; of all lines the longest.",
            "gauge",
            {(): max((now - each.since for each in shop.queues.by_shape.values()), default=0.0)},
        ),
        Family("lineshaft_clients", "Sessions of clients.", "gauge", {(): len(shop.clients)}),
        _spools(here),
        *_gpus(here),
        Family(
            "lineshaft_stale_writes_refused_total",
            "Ends and files of attempts that were no longer their worker's.",
            "counter",
            {(): shop.stale_count},
        ),
        Family(
            "lineshaft_epoch", "Goes up with each start on this data.", "gauge", {(): shop.epoch}
        ),
        Family(
            "lineshaft_build_info",
            "Always 1; the labels say what runs here.",
            "gauge",
            {(("version", __version__), ("python", platform.python_version())): 1},
        ),
    ]


def job_counts(shop: Shop) -> dict[str, int]:
    """How many live jobs are where, without a look at each that waits."""
    counts: dict[str, int] = dict.fromkeys(STATES, 0)
    for worker in shop.fleet.workers.values():
        for job_id in worker.lease_ids():
            counts[leased_state(shop.job(job_id), worker.lease_of(job_id))] += 1
    # Only the lead of a gang stands in a line; the others come with it.
    parts = (part for gang in shop.gangs.values() for part in gang.members[1:])
    part_count = sum(isinstance(shop.job(part).state, Queued) for part in parts)
    counts["queued"] = len(shop.queues) + part_count
    counts["paused"] = shop.ledger.paused_count
    counts["waiting"] = len(shop.ledger.jobs) - sum(counts.values())
    return counts


_SENSORS = (
    ("gpu_usage", "lineshaft_gpu_busy_ratio", "How busy each GPU is, from 0 to 1."),
    ("gpu_temperature_c", "lineshaft_gpu_temperature_celsius", "How warm each GPU is."),
    ("gpu_power_w", "lineshaft_gpu_power_watts", "What each GPU takes."),
)
"""What heartbeats tell of GPUs in order, and the names of it here."""


def fault_reason(fault: str) -> str:
    """Put a worker's words about a GPU into one of few, fit for a label."""
    for reason, texts in _FAULTS:
        if any(text in fault for text in texts):
            return reason
    return "driver"


def _worker_counts(shop: Shop) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(("idle", "busy", "draining", "away"), 0)
    for worker in shop.fleet.workers.values():
        if not worker.is_here:
            counts["away"] += 1
        elif worker.is_draining:
            counts["draining"] += 1
        else:
            counts["busy" if worker.running else "idle"] += 1
    return counts


def _slots(here: Sequence[Worker]) -> dict[str, int]:
    total = sum(worker.capacity.slots for worker in here if worker.capacity is not None)
    used = sum(worker.used_slots for worker in here)
    return {"used": used, "free": max(0, total - used)}


def _spools(here: Sequence[Worker]) -> Family:
    return Family(
        "lineshaft_spool_bytes",
        "What jobs told and printed that waits on a worker to be acknowledged.",
        "gauge",
        {
            (("worker", str(worker.worker_id)),): worker.figures.spool_bytes
            for worker in here
            if worker.figures is not None
        },
    )


def _gpus(here: Sequence[Worker]) -> list[Family]:
    memory: dict[Labels, float] = {}
    sensors: dict[str, dict[Labels, float]] = {key: {} for key, _, _ in _SENSORS}
    faults: Tally[str] = Tally(dict.fromkeys(FAULT_REASONS, 0))
    for worker in here:
        gpus: tuple[Gpu, ...] = worker.capacity.gpus if worker.capacity is not None else ()
        told = worker.load.get("gpu_memory_used_bytes")
        used = told if isinstance(told, list) else []
        for index, gpu in enumerate(gpus):
            labels = (("worker", str(worker.worker_id)), ("gpu", gpu.uuid))
            memory[(*labels, ("kind", "total"))] = gpu.memory_bytes
            # GPUs that were unusable from the start are not looked at, and stand behind.
            amount = used[index] if index < len(used) else None
            if isinstance(amount, int | float):
                memory[(*labels, ("kind", "used"))] = amount
            for key, found in sensors.items():
                values = worker.load.get(key)
                value = values[index] if isinstance(values, list) and index < len(values) else None
                if isinstance(value, int | float):
                    found[labels] = value
            if gpu.fault is not None:
                faults[fault_reason(gpu.fault)] += 1
    return [
        Family(
            "lineshaft_gpu_memory_bytes",
            "Memory of each GPU of workers that are here, as the last heartbeat told.",
            "gauge",
            memory,
        ),
        *(Family(name, help_, "gauge", sensors[key]) for key, name, help_ in _SENSORS),
        _gauge(
            "lineshaft_gpu_quarantined",
            "GPUs on which nothing is placed, by why.",
            "reason",
            faults,
        ),
    ]


def _gauge(name: str, help_: str, label: str, counts: dict[str, int] | Tally[str]) -> Family:
    return Family(name, help_, "gauge", {((label, value),): n for value, n in counts.items()})
