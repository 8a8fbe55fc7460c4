"""How busy the machines of jobs are, for the records of their runs: what heartbeats told.

It lives in memory: what a coordinator saw and had not handed on when it ended is missing from the
record, as is the time in which a worker was away.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.core.fleet import Fleet, Lease, Worker
from lineshaft_protocol.ids import JobId

WAITING_MAX: Final = 20
"""Looks at the machine of a job after which somebody has to take them."""
KEPT_MAX: Final = 240
"""Of each job, while nobody takes them: an hour, after which the oldest go."""
KEPT_JOBS_MAX: Final = 100
"""Jobs of which there may be some; beyond it those that run."""
Seen = dict[str, JsonValue]
"""Shares from 0 to 1 and bytes; the recorder makes columns of it, for this process has no
libraries of records in its memory."""
Look = tuple[float, Seen]
"""When, in seconds since 1970, and what was seen."""


class Gauges:
    """Looks at the machines of jobs that leave records.

    A job is looked at from the second time on that it is found running: brief ones never are.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: set[JobId] = set()
        self._waiting: dict[JobId, deque[Look]] = {}

    def look(self, job_ids: Iterable[JobId], at: float) -> bool:
        """Look once; returns whether so much waits that it has to be taken.

        Args:
            job_ids: Jobs that leave records.
            at: The time, in seconds since 1970.
        """
        wanted, found = set(job_ids), set[JobId]()
        for worker in self._fleet.workers.values():
            if not worker.is_here or not worker.load:
                continue
            for job_id in wanted.intersection(worker.running):
                lease = worker.running[job_id]
                if lease.is_started:
                    found.add(job_id)
                    if job_id in self._known:
                        looks = self._waiting.setdefault(job_id, deque(maxlen=KEPT_MAX))
                        looks.append((at, seen_of(worker, lease)))
        self._known = found
        if len(self._waiting) > KEPT_JOBS_MAX:
            # Nobody takes them, as where libraries of records are missing: jobs come and go.
            self._waiting = {each: self._waiting[each] for each in self._waiting if each in found}
        return any(len(looks) >= WAITING_MAX for looks in self._waiting.values())

    def take(self) -> dict[JobId, list[Look]]:
        """Return what waits, and forget it."""
        taken, self._waiting = self._waiting, {}
        return {job_id: list(looks) for job_id, looks in taken.items()}


def seen_of(worker: Worker, lease: Lease) -> Seen:
    """Return how a machine is by its last heartbeat, and those of its GPUs that an attempt has."""
    capacity, load = worker.capacity, worker.load
    assert capacity is not None, "a worker that is here said what it has"
    return {
        "cpu": _number(load.get("cpu_usage")),
        "memory": _number(load.get("memory_usage")),
        "memory_bytes": capacity.memory_bytes,
        "gpus": [
            {
                "index": index,
                "busy": _told(load, "gpu_usage", index),
                "used_bytes": _told(load, "gpu_memory_used_bytes", index),
                "total_bytes": gpu.memory_bytes,
                "temperature_c": _told(load, "gpu_temperature_c", index),
                "power_w": _told(load, "gpu_power_w", index),
            }
            for index, gpu in enumerate(capacity.gpus)
            if gpu.uuid in lease.devices
        ],
    }


def _told(load: dict[str, JsonValue], name: str, index: int) -> float | None:
    values = load.get(name)
    return _number(values[index]) if isinstance(values, list) and index < len(values) else None


def _number(value: JsonValue) -> float | None:
    # A bool is an int.
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
