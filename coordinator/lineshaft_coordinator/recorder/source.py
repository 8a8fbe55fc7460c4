"""What the recorder reads of the coordinator's database: only what is committed, never writing."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from lineshaft_coordinator.store.interface import JobRow
from lineshaft_coordinator.store.queries import events_of, records_of, row_of, stretches_of
from lineshaft_coordinator.store.readers import connect_read_only
from lineshaft_coordinator.store.stretches import Stretch

PAGE_EVENTS: Final = 5000
PAGE_BYTES: Final = 4 * 1024 * 1024
TELLING: Final = ("metrics", "checkpoint", "artifact")
"""Kinds of events that make a job a run."""
SLACK_S: Final = 60.0
FILES_MAX: Final = 100
"""Hashes of files in provenance.yaml."""
_TOLD: Final = re.compile(r"([0-9]{1,16})\.([0-9]{1,16})")
"""The id of a file that an event told of: attempt and number, none longer than SQLite takes."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a record says first about a job."""

    job_id: str
    name: str | None
    kind: str
    tags: tuple[str, ...]
    group: str | None
    """The lead of its gang; None if it is no part of one."""
    rank: int | None
    experiment: str | None
    params: dict[str, Any]
    """As they were told; empty if they were not."""
    origin: dict[str, Any]
    """What provenance.yaml says of it."""
    submitted_at: float
    started_at: float | None
    """When its first attempt was given to a worker, seconds since 1970; None before."""


class Source:
    """Reads one data folder's database."""

    def __init__(self, data: Path) -> None:
        self._connection = connect_read_only(data / "lineshaft.sqlite")

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def row(self, job_id: str) -> JobRow | None:
        """Read where a job is; None if nobody knows it, or it was pruned."""
        return row_of(self._connection, job_id)

    def events(self, job_id: str, after: tuple[int, int]) -> list[Stretch]:
        """Read the next events of a job."""
        return stretches_of(self._connection, job_id, after, PAGE_EVENTS, PAGE_BYTES)

    def records(self, job_id: str) -> list[tuple[float, dict[str, Any]]]:
        """Read the journal of a job: wall time in seconds, record."""
        return [(at, json.loads(data)) for _, at, data in records_of(self._connection, job_id)]

    def begun(self, job_id: str) -> Begun | None:
        """Read what a job is; None if nobody knows it."""
        job: dict[str, Any] | None = None
        owner: str | None = None
        worker_id: str | None = None
        submitted_at, started_at = 0.0, None
        for at, record in self.records(job_id):
            if record["type"] == "JobSubmitted":
                job, submitted_at, owner = record["job"], at, record.get("owner")
            elif record["type"] == "AttemptStarted" and started_at is None:
                started_at, worker_id = at, record["worker_id"]
        if job is None:
            return None
        part: dict[str, Any] = job.get("part") or {}
        return Begun(
            job_id,
            job.get("name"),
            job["kind"],
            tuple(job.get("tags") or ()),
            part.get("job_id"),
            part.get("rank"),
            job.get("experiment"),
            params_of(job.get("params")),
            origin_of(job, worker_id, owner),
            submitted_at,
            started_at,
        )

    def tag_of(self, job_id: str, file_id: str) -> str | None:
        """Read which tag a job gave a picture or sound as it told of it; None for other files."""
        told = _TOLD.fullmatch(file_id)
        if told is None:
            return None  # One of its folder of outputs.
        place = (int(told[1]), int(told[2]))
        for event in events_of(self._connection, job_id, (place[0], place[1] - 1), 1, None):
            if (event.attempt, event.seq) == place:
                tag = json.loads(event.body)["body"].get("tag")
                return tag if isinstance(tag, str) else None
        return None

    def is_telling(self, job_id: str) -> bool:
        """Whether a job told something that makes it a run."""
        marks = [json.dumps({"kind": kind})[1:-1].replace(" ", "").encode() for kind in TELLING]
        found = self._connection.execute(
            "SELECT 1 FROM events WHERE job_id = ?"
            " AND (instr(body, ?) OR instr(body, ?) OR instr(body, ?)) LIMIT 1",
            (job_id, *marks),
        )
        return found.fetchone() is not None

    def candidates(self, ended_since: float) -> Iterator[tuple[str, str]]:
        """Yield id and kind of jobs that may be runs: live ones, and those that ended lately."""
        has_events = "EXISTS (SELECT 1 FROM events WHERE events.job_id = jobs.job_id)"
        # All at once: a statement that stays open would hold its snapshot.
        live = self._connection.execute(
            f"SELECT job_id, kind FROM jobs WHERE is_live = 1 AND (kind = 'pipeline' OR {has_events})"  # noqa: S608, E501 - constants
        ).fetchall()
        ended = self._connection.execute(
            f"SELECT job_id, kind FROM jobs WHERE is_live = 0 AND (kind = 'pipeline' OR {has_events})"  # noqa: S608, E501 - constants
            " AND finished_at >= ?",
            (ended_since - SLACK_S,),
        ).fetchall()
        yield from live
        yield from ended


def origin_of(job: Mapping[str, Any], worker_id: str | None, owner: str | None) -> dict[str, Any]:
    """Return what a job was made of, in the words of seed 004, and in ours what those do not have.

    Nothing that is in its variables or arguments: they may be secret.
    """
    environment: Mapping[str, Any] = job.get("environment") or {}
    requirements: Mapping[str, Any] = environment.get("requirements") or {}
    payload: Mapping[str, Any] = job.get("payload") or {}
    files: Sequence[str] = job.get("files") or ()
    about: dict[str, object] = {
        "kind": job["kind"],
        "owner": owner,
        "payload": payload.get("blob") or _hash_of(job["kind"], payload.get("inline")),
        "code": job.get("code"),
        "files": list(files[:FILES_MAX]),
        "requirements": requirements.get("blob"),
        "python": environment.get("requires_python") or job.get("python"),
        "retry_of": job.get("retry_of"),
    }
    return {
        "command": job.get("name") or job["kind"],
        "hostname": worker_id,
        "scheduler": {"LINESHAFT_JOB_ID": job["job_id"]},
        "lineshaft": {key: each for key, each in about.items() if each},
    }


def _hash_of(kind: str, inline: str | None) -> str | None:
    """Return the hash of files that came with the job itself, as small ones do.

    Of a function these are its arguments, and a hash tells those that can be guessed.
    """
    if kind != "pipeline" or inline is None:
        return None
    return hashlib.sha256(base64.b64decode(inline)).hexdigest()


def params_of(told: str | None) -> dict[str, Any]:
    """Read what a client told of its job's parameters; what is none is ignored."""
    try:
        params: object = json.loads(told or "{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", params) if isinstance(params, dict) else {}
