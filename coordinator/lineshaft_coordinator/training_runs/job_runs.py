"""Lineshaft's own jobs, as seed 000 shows runs."""

import json

from pydantic import JsonValue

from lineshaft_coordinator.feeds.hub import Source
from lineshaft_coordinator.feeds.told import BEGINNING, place_of
from lineshaft_coordinator.server.history import LogsAsked
from lineshaft_coordinator.server.questions import Questions
from lineshaft_coordinator.store.interface import Sought
from lineshaft_coordinator.training_runs.reported import RunView, shown_metrics
from lineshaft_coordinator.training_runs.words import Status, status_of, timestamp
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.ids import JobId

_ENDS = {"completed": "succeeded", "failed": "failed", "stopped": "cancelled"}
_LEVELS = {"stdout": "INFO", "stderr": "ERROR"}


class JobRuns:
    """Reads jobs; what changes them is asked of the core by who serves."""

    def __init__(self, questions: Questions, source: Source) -> None:
        self._questions, self._source = questions, source

    async def get(self, run_id: str) -> RunView:
        """One job.

        Raises:
            UnknownJobError: There is none.
        """
        view = await self._view(await self._questions.job(JobId(run_id)))
        latest = await self._latest_metrics(run_id)
        if latest is not None:
            view["latest_metrics"] = latest
        return view

    def owner_of(self, run_id: str) -> str | None:
        """By which token a job was submitted, at once; empty if unknown, None if there is no job.

        Raises:
            StoreError: It cannot be read.
        """
        return self._questions.owner_of(JobId(run_id))

    async def owner(self, run_id: str) -> str | None:
        """The same, without holding up the loop by a read."""
        return await self._questions.owner(JobId(run_id))

    async def listed(self, *, owner: str, status: Status | None, limit: int) -> list[RunView]:
        """Jobs, the newest first, without their latest metrics; an empty owner means all."""
        wanted = None if status is None else _ENDS.get(status, "live")
        sought = Sought(owner=owner)
        jobs = await self._questions.jobs(status=wanted, sought=sought, limit=limit)
        views = [await self._view(job) for job in jobs if isinstance(job, dict)]
        return [view for view in views if status in (None, view["status"])]

    async def metrics(self, run_id: str, *, limit: int) -> list[JsonValue]:
        """The first of all metrics that the job logged and that seed 000 has words for."""
        found: list[JsonValue] = []
        after = BEGINNING
        while len(found) < limit and (page := await self._source.page(run_id, after)):
            after = place_of(page[-1])
            found += [shown for event in page if (shown := _shown(event)) is not None]
        return found[:limit]

    async def logs(self, run_id: str, *, offset: int, limit: int) -> list[JsonValue]:
        """Lines of its output."""
        lines: list[JsonValue] = []
        after = (0, 0)
        while len(lines) <= offset + limit:
            page = await self._questions.history.logs(JobId(run_id), LogsAsked(after=after))
            pieces = page["pieces"]
            for piece in pieces if isinstance(pieces, list) else ():
                lines += _lines(piece)
            attempt, seq = page["after_attempt"], page["after_seq"]
            if not page["has_more"] or not isinstance(attempt, int) or not isinstance(seq, int):
                break
            after = attempt, seq
        return lines[offset : offset + limit]

    async def _view(self, job: dict[str, JsonValue]) -> RunView:
        run_id = str(job["job_id"])
        status = status_of(str(job["status"]))
        story = await self._questions.story(JobId(run_id))
        starts = [
            record.get("at")
            for record in story
            if isinstance(record, dict) and record.get("type") == "AttemptStarted"
        ]
        times = {
            "started_at": starts[0] if starts else None,
            "completed_at": job["finished_at"],
            "created_at": job["submitted_at"],
        }
        return {
            "id": run_id,
            "user_id": job["owner"] or job["client_id"],
            "name": job["name"] or run_id,
            "model_type": job["kind"],
            "status": status,
            "config": _config(story),
            **{name: timestamp(at) for name, at in times.items() if isinstance(at, int | float)},
        }

    async def _latest_metrics(self, run_id: str) -> RunView | None:
        tail = await self._source.tail(run_id)
        found = (_shown(event) for event in reversed(tail))
        return next((shown for shown in found if shown is not None), None)


def _config(story: list[JsonValue]) -> JsonValue:
    """The parameters that a job was submitted with, as they are shown; empty if it has none."""
    for record in story:
        match record:
            case {"type": "JobSubmitted", "job": {"params": str(params)}}:
                try:
                    config: JsonValue = json.loads(params)
                except ValueError:  # The client's words; nobody checked them.
                    return {}
                return config if isinstance(config, dict) else {}
            case _:
                pass
    return {}


def _shown(event: JobEvent) -> RunView | None:
    if event.kind != "metrics":
        return None
    shown = shown_metrics(event.body, event.at)
    return shown if "step" in shown else None


def _lines(piece: JsonValue) -> list[JsonValue]:
    match piece:
        case {"at": int() | float() as at, "stream": str(stream), "text": str(text)}:
            level = _LEVELS.get(stream, "INFO")
            return [
                {"timestamp": timestamp(at), "level": level, "message": line}
                for line in text.splitlines()
            ]
        case _:
            return []
