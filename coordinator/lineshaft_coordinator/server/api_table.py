"""All of `/api/v1`, one line an operation: what the OpenAPI document is made of."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from lineshaft_coordinator.server.api_answers import (
    ArrayAnswer,
    ArrayCancelled,
    BackupAnswer,
    Changed,
    CurvesAnswer,
    InfoAnswer,
    JobAnswer,
    LogAnswer,
    MeAnswer,
    Retried,
    RunAnswer,
    StoryRecord,
    TicketAnswer,
    WhyAnswer,
    WorkerAnswer,
)
from lineshaft_coordinator.server.api_queries import QUERIES
from lineshaft_protocol.events import JobEvent
from lineshaft_protocol.kept_files import KeptFile

BYTES: Final = "application/octet-stream"
STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | str | None
    """The schema of its JSON, or the media type of what is none; None: any JSON."""
    is_list: bool = False
    errors: tuple[int, ...] = ()
    """What it may answer beside 400, 401 and 403."""
    is_open: bool = False
    """No token is looked at."""

    @property
    def query(self) -> tuple[str, ...]:
        """Names in PARAMETERS."""
        return QUERIES.get(self.path, ())


PARAMETERS: Final[dict[str, tuple[str, str]]] = {
    "status": ("string", "only those with this status; `live`: all that have not ended"),
    "limit": ("integer", "the most to answer"),
    "before": ("string", "only what is listed behind this job"),
    "kind": ("string", "only jobs of this kind"),
    "tag": ("string", "only what has this whole tag"),
    "name": ("string", "a part of the name"),
    "find": ("string", "a part of the name, the id or a tag"),
    "owner": ("string", "only jobs submitted by the token of this id; `me`: by yours"),
    "since": ("string", "jobs: seconds since 1970; a live feed: a place, as `1.42`"),
    "since_seq": ("string", "the `seq` behind which to begin, as `1.42`; `since` is the same"),
    "offset": ("string", "where to go on: what an earlier answer said, or how many to leave out"),
    "after_attempt": ("integer", "only events behind this attempt and `after_seq`"),
    "after_seq": ("integer", "see `after_attempt`"),
    "attempt": ("integer", "only this attempt"),
    "stream": ("string", "`stdout` or `stderr`"),
    "tail": ("integer", "begin so many lines before the end"),
    "wait": ("integer", "how long to wait for something, in seconds"),
    "metrics": ("string", "patterns of metrics, joined by commas"),
    "kinds": ("string", "kinds of events, joined by commas"),
    "rate": ("number", "messages a second at most; more are summed up"),
    "gaps": ("string", "`0`: do not tell what was skipped"),
    "experiment": ("string", "only runs of this experiment"),
    "names": ("string", "names of metrics, joined by commas"),
    "since_step": ("integer", "the first step"),
    "until_step": ("integer", "the last step"),
    "max_points": ("integer", "points of each metric at most; more are thinned"),
    "attempts": ("string", "`newest` or `all`"),
    "system": ("string", "`true`: with how busy the machine and its GPUs were"),
    "file": ("string", "which text file of the run"),
    "path": ("string", "which artifact of the run"),
    "file_id": ("string", "Which of several files of one path; the last if it is not said"),
    "preview": ("string", "`true`: the first rows of a table, as JSON"),
    "runs": ("string", "ids of runs, joined by commas"),
}

_JOB: Final = "/api/v1/jobs/{job_id}"
_RUN: Final = "/api/v1/runs/{run}"

OPERATIONS: Final = (
    Operation("get", "/api/v1/openapi.json", "This document", None, is_open=True),
    Operation("get", "/api/v1/info", "What the coordinator is and has to do", InfoAnswer),
    Operation("get", "/api/v1/me", "Who you are, and what you may do", MeAnswer),
    Operation("get", "/api/v1/jobs", "Jobs, the last one first", JobAnswer, True, (404,)),
    Operation("get", _JOB, "One job", JobAnswer, errors=(404,)),
    Operation("get", f"{_JOB}/why", "Why it is where it is", WhyAnswer, errors=(404,)),
    Operation("get", f"{_JOB}/story", "Every record about it", StoryRecord, True, (404,)),
    Operation("get", f"{_JOB}/events", "What it said", JobEvent, True, (404,)),
    Operation("get", f"{_JOB}/logs", "A page of its output", LogAnswer, errors=(404,)),
    Operation("get", f"{_JOB}/live", "As it goes", STREAM, errors=(404,)),
    Operation("post", f"{_JOB}/cancel", "End it", Changed, errors=(404,)),
    Operation("post", f"{_JOB}/pause", "Save a checkpoint and pause", Changed, errors=(404,)),
    Operation("post", f"{_JOB}/freeze", "Let its processes stand still", Changed, errors=(404,)),
    Operation("post", f"{_JOB}/resume", "Let it go on", Changed, errors=(404,)),
    Operation("post", f"{_JOB}/retry", "Do it again", Retried, errors=(404, 409, 410, 503)),
    Operation("get", f"{_JOB}/files", "Checkpoints and artifacts", KeptFile, True, (404,)),
    Operation("get", f"{_JOB}/files/{{file_id}}", "A kept file", BYTES, errors=(404, 410)),
    Operation(
        "post", f"{_JOB}/files/{{file_id}}/ticket", "A link to it", TicketAnswer, errors=(404,)
    ),
    Operation(
        "get", f"{_JOB}/files/{{file_id}}/preview", "Its first rows", None, errors=(404, 503)
    ),
    Operation(
        "get", "/api/v1/downloads/{ticket}", "What it is for", BYTES, errors=(404,), is_open=True
    ),
    Operation(
        "get",
        "/api/v1/arrays/{job_id}",
        "A job array and some of its items",
        ArrayAnswer,
        errors=(404,),
    ),
    Operation(
        "post", "/api/v1/arrays/{job_id}/cancel", "End all of it", ArrayCancelled, errors=(404,)
    ),
    Operation("get", "/api/v1/workers", "All workers", WorkerAnswer, True),
    Operation(
        "post", "/api/v1/admin/backup", "Make a backup", BackupAnswer, errors=(409, 500, 507)
    ),
    Operation(
        "get",
        "/api/v1/runs",
        "Records of runs",
        RunAnswer,
        True,
        (503,),
    ),
    Operation("get", _RUN, "One run", RunAnswer, errors=(404, 503)),
    Operation("get", f"{_RUN}/metrics", "Its curves", CurvesAnswer, errors=(404, 503)),
    Operation(
        "get",
        f"{_RUN}/histograms",
        "Its histograms",
        None,
        errors=(404, 503),
    ),
    Operation(
        "get",
        f"{_RUN}/text",
        "A text of it",
        None,
        errors=(404, 503),
    ),
    Operation(
        "get",
        f"{_RUN}/artifacts/content",
        "An artifact",
        BYTES,
        errors=(404, 410, 503),
    ),
    Operation("get", "/api/v1/compare", "Runs side by side", None, errors=(404, 503)),
)
