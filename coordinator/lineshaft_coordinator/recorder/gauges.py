"""How busy the machines of jobs are, for the records of their runs: what heartbeats told.

It lives in memory: what a coordinator saw and had not handed on when it ended is missing from the
record, as is the time in which a worker was away.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from lineshaft_coordinator.core.fleet import Fleet, Worker
from lineshaft_protocol.ids import JobId, WorkerId

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


@dataclass(slots=True)
class _Place:
    worker_id: WorkerId
    devices: tuple[str, ...]
    seen: dict[str, JsonValue] | None = None
    """What its last heartbeat told that was looked at."""


class Gauges:
    """Looks at the machines of jobs that leave records: as they begin, now and then, at their end.

    What is seen is what the last heartbeat told; at its end a job whose worker has told nothing
    new is not looked at again.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: set[JobId] = set()
        self._waiting: dict[JobId, deque[Look]] = {}
        self._places: dict[JobId, _Place] = {}
        """Where jobs run that were seen to begin."""

    def begin(self, job_id: JobId, at: float) -> None:
        """Look at the machine that a job was given, or now turned out to leave a record on.

        Args:
            job_id: Which job.
            at: The time, in seconds since 1970.
        """
        self.leave(job_id)
        for worker in self._fleet.workers.values():
            lease = worker.running.get(job_id)
            if lease is not None and worker.capacity is not None:
                place = self._places[job_id] = _Place(worker.worker_id, lease.devices)
                self._note(job_id, worker, place, at)

    def leave(self, job_id: JobId) -> None:
        """Forget where a job ran: it was given to another worker, and has no place there yet."""
        self._places.pop(job_id, None)

    def end(self, job_id: JobId, at: float) -> None:
        """Look once more, for the job has ended; the arguments are those of `begin`."""
        place = self._places.pop(job_id, None)
        worker = self._fleet.workers.get(place.worker_id) if place is not None else None
        if place is not None and worker is not None and worker.is_here:
            self._note(job_id, worker, place, at)

    def _note(self, job_id: JobId, worker: Worker, place: "_Place", at: float) -> None:
        if worker.load and worker.load is not place.seen:
            place.seen = worker.load
            looks = self._waiting.setdefault(job_id, deque(maxlen=KEPT_MAX))
            looks.append((at, seen_of(worker, place.devices)))

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
                        looks.append((at, seen_of(worker, lease.devices)))
                        if (place := self._places.get(job_id)) is not None:
                            place.seen = worker.load
        self._known = found
        self._places = {each: place for each, place in self._places.items() if each in wanted}
        if len(self._waiting) > KEPT_JOBS_MAX:
            # Nobody takes them, as where libraries of records are missing: jobs come and go.
            self._waiting = {each: self._waiting[each] for each in self._waiting if each in found}
        return any(len(looks) >= WAITING_MAX for looks in self._waiting.values())

    def take(self) -> dict[JobId, list[Look]]:
        """Return what waits, and forget it."""
        taken, self._waiting = self._waiting, {}
        return {job_id: list(looks) for job_id, looks in taken.items()}


def seen_of(worker: Worker, devices: Sequence[str]) -> Seen:
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
            if gpu.uuid in devices
        ],
    }


def _told(load: dict[str, JsonValue], name: str, index: int) -> float | None:
    values = load.get(name)
    return _number(values[index]) if isinstance(values, list) and index < len(values) else None


def _number(value: JsonValue) -> float | None:
    # A bool is an int.
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
