"""How busy the machines of jobs are, for the records of their runs: what heartbeats told.

It lives in memory: what a coordinator saw and had not handed on when it ended is missing from the
record, as is the time in which a worker was away.
"""

from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.core.fleet import Fleet, Lease, Worker
from lineshaft_protocol.ids import JobId

WAITING_MAX: Final = 20
"""Looks at the machine of a job after which somebody has to take them."""
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
        self._waiting: dict[JobId, list[Look]] = {}

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
                        seen = seen_of(worker, lease)
                        self._waiting.setdefault(job_id, []).append((at, seen))
        self._known = found
        return any(len(looks) >= WAITING_MAX for looks in self._waiting.values())

    def take(self) -> dict[JobId, list[Look]]:
        """Return what waits, and forget it."""
        taken, self._waiting = self._waiting, {}
        return taken


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
