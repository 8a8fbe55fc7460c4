"""HTTP for people and programs: health, and the state of jobs and workers as JSON."""

import asyncio
import base64
import hashlib
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, cast
from urllib.parse import urlencode

from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError
from lineshaft_coordinator.server.api_queries import refuse_unknown
from lineshaft_coordinator.server.backups import OtherDataError, Summary, summary_view
from lineshaft_coordinator.server.bounded_body import bounded_body
from lineshaft_coordinator.server.families import UnknownArrayError
from lineshaft_coordinator.server.foreign_files import FOREIGN_FILE
from lineshaft_coordinator.server.guard import Guard, Refusal
from lineshaft_coordinator.server.history import PAGE_BYTES, LogsAsked, Place
from lineshaft_coordinator.server.query_numbers import number
from lineshaft_coordinator.server.questions import Questions, UnknownJobError, owner_of
from lineshaft_coordinator.server.retrying import RetryRefusedError
from lineshaft_coordinator.server.roles import UNSAID, Permission
from lineshaft_coordinator.server.tickets import Tickets
from lineshaft_coordinator.server.viewing import without_output
from lineshaft_coordinator.store.errors import (
    BackupExistsError,
    StoreError,
    StoreFullError,
    StoreNotWritableError,
)
from lineshaft_coordinator.store.interface import Sought
from lineshaft_coordinator.strict_json import spelled
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.wire import NUMBER_MAX
from lineshaft_runtime.serving import let_in

LIMIT_MAX = 1000
TAIL_MAX = 10_000
WAIT_S_MAX = 60
OBJECTS_AWAY = "the object store cannot be used; blobs that lie there alone cannot be had"
_RETRY_STATUS = {"unknown_job": 404, "blob_missing": 410, "draining": 503}


class Actions(Protocol):
    """What HTTP may change."""

    async def cancel(self, job_id: JobId, reason: str) -> None:
        """Ask for the end of a job."""
        ...

    async def pause(self, job_id: JobId, reason: str, *, freeze: bool) -> None:
        """Ask a job to pause."""
        ...

    async def resume(self, job_id: JobId) -> None:
        """Let a job go on."""
        ...

    async def retry(self, job_id: JobId, owner: str) -> JobId:
        """Do an ended job again, for the token of this id; returns the new job's id.

        Raises:
            RetryRefusedError: It cannot be done again.
        """
        ...

    async def back_up(self, data: Path, target: Path) -> Summary:
        """Back up the data folder; both paths are absolute.

        Raises:
            StoreError: It cannot be made, or ours is another data folder.
        """
        ...


class Rest:
    """Builds the HTTP application.

    Args:
        blob_file: Where a blob lies, or None.
        is_ready: Whether new work is accepted; the text says why not.
        more: Other routes of the same port.
    """

    def __init__(
        self,
        questions: Questions,
        actions: Actions,
        blob_file: Callable[[str], Path | None],
        guard: Guard,
        is_ready: Callable[[], str | None],
        more: Sequence[Route] = (),
    ) -> None:
        self._questions, self._actions = questions, actions
        self._blob_file = blob_file
        self._guard, self._is_ready = guard, is_ready
        self._more = more
        self._tickets = Tickets(time.monotonic)

    def application(self) -> Starlette:
        """The ASGI application."""
        seen = partial(self._guarded, takes="look")
        steered = partial(self._guarded, takes="control")
        post = partial(Route, methods=["POST"])
        routes: list[Route] = [
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/api/v1/info", seen(self._info)),
            Route("/api/v1/jobs", seen(self._jobs)),
            Route("/api/v1/jobs/{job_id}", seen(self._job)),
            Route("/api/v1/jobs/{job_id}/why", seen(self._why)),
            Route("/api/v1/jobs/{job_id}/story", seen(self._story)),
            Route("/api/v1/jobs/{job_id}/events", seen(self._events)),
            Route("/api/v1/jobs/{job_id}/logs", self._guarded(self._logs, takes="read_output")),
            post("/api/v1/jobs/{job_id}/cancel", steered(self._cancel)),
            *(
                post(f"/api/v1/jobs/{{job_id}}/{verb}", steered(partial(self._change, verb)))
                for verb in ("pause", "freeze", "resume")
            ),
            Route("/api/v1/jobs/{job_id}/files", seen(self._files)),
            Route(
                "/api/v1/jobs/{job_id}/files/{file_id}",
                self._guarded(self._content, takes="download"),
            ),
            post(
                "/api/v1/jobs/{job_id}/files/{file_id}/ticket",
                self._guarded(self._ticket, takes="download"),
            ),
            Route("/api/v1/downloads/{ticket}", self._download),
            post("/api/v1/jobs/{job_id}/retry", self._guarded(self._retry)),
            Route("/api/v1/arrays/{job_id}", seen(self._array)),
            post("/api/v1/arrays/{job_id}/cancel", steered(self._cancel_array)),
            Route("/api/v1/workers", seen(self._workers)),
            post("/api/v1/admin/backup", self._guarded(self._backup, takes="back_up")),
            *self._more,
        ]
        return Starlette(routes=refuse_unknown(routes))

    async def _livez(self, request: Request) -> Response:
        del request
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        del request
        obstacle = self._is_ready()
        if obstacle is None:
            objects = self._questions.objects
            is_whole = objects is None or objects.problem is None
            # Whose address it is, only who has a token is told.
            return PlainTextResponse("ok\n" if is_whole else f"ok\n{OBJECTS_AWAY}\n")
        return PlainTextResponse(f"{obstacle}\n", status_code=503)

    def _guarded(
        self,
        answer: Callable[[Request], Awaitable[JsonValue | Response]],
        *,
        takes: Permission = UNSAID,
    ) -> Callable[[Request], Awaitable[Response]]:
        """Let in whom the guard lets in, and say what went wrong."""

        async def endpoint(request: Request) -> Response:
            grant = self._guard.enter(request, takes)
            if isinstance(grant, Refusal):
                return _error(grant.status, grant.text)
            request.state.shows_output = grant.may("read_output")
            request.state.token_id = grant.token_id
            try:
                data = await answer(request)
            except (UnknownJobError, UnknownArrayError) as error:
                return _error(404, str(error))
            except RetryRefusedError as error:
                return _error(_RETRY_STATUS.get(error.code, 409), str(error))
            except StoreFullError as error:
                return _error(507, str(error))
            except (BackupExistsError, StoreNotWritableError, OtherDataError) as error:
                return _error(409, str(error))
            except StoreError as error:
                return _error(500, str(error))
            except BlobElsewhereError as error:
                return _error(503, str(error))
            except ValueError as error:
                return _error(400, str(error))
            return data if isinstance(data, Response) else _fresh(request, data)

        return endpoint

    async def _info(self, request: Request) -> JsonValue:
        del request
        return await self._questions.info()

    async def _jobs(self, request: Request) -> Response:
        limit = number(request, "limit", 100, least=1, most=LIMIT_MAX)
        asked = request.query_params
        jobs = await self._questions.jobs(
            status=asked.get("status"),
            limit=limit,
            before=JobId(asked["before"]) if "before" in asked else None,
            kind=asked.get("kind"),
            sought=_sought(request),
        )
        last = jobs[-1] if len(jobs) == limit else None
        if not isinstance(last, dict):
            return _fresh(request, jobs)
        # Relative, so that it is right behind a proxy, too.
        query = urlencode({**asked, "before": str(last["job_id"])})
        return _fresh(request, jobs, {"Link": f'<jobs?{query}>; rel="next"'})

    async def _job(self, request: Request) -> JsonValue:
        return await self._questions.job(_job_id(request))

    async def _why(self, request: Request) -> JsonValue:
        return await self._questions.why(_job_id(request), shows_output=request.state.shows_output)

    async def _story(self, request: Request) -> JsonValue:
        return await self._questions.story(_job_id(request))

    async def _events(self, request: Request) -> JsonValue:
        after = (
            number(request, "after_attempt", 0),
            number(request, "after_seq", 0),
        )
        limit = number(request, "limit", 100, least=1, most=LIMIT_MAX)
        job_id = _job_id(request)
        found = await self._questions.history.events(job_id, after, limit)
        if not found:
            await self._questions.job(job_id)  # Nobody may know it.
        return found

    async def _logs(self, request: Request) -> JsonValue:
        job_id = _job_id(request)
        asked = LogsAsked(
            attempt=number(request, "attempt", 0) or None,
            stream=_stream(request),
            after=_offset(request),
            tail=number(request, "tail", 0, most=TAIL_MAX) or None,
            limit_bytes=number(request, "limit", PAGE_BYTES, least=1, most=PAGE_BYTES),
        )
        wait_s = number(request, "wait", 0, most=WAIT_S_MAX)
        page = await self._questions.logs(job_id, asked, wait_s=wait_s)
        page["offset"] = f"{page.pop('after_attempt')}.{page.pop('after_seq')}"
        return {"job_id": job_id, **page}

    async def _cancel(self, request: Request) -> JsonValue:
        job_id = _job_id(request)
        job = await self._questions.job(job_id)
        await self._actions.cancel(job_id, "cancelled over HTTP")
        return {"job_id": job_id, "status_before": job["status"]}

    async def _change(self, verb: str, request: Request) -> JsonValue:
        job_id = _job_id(request)
        job = await self._questions.job(job_id)
        if verb == "resume":
            await self._actions.resume(job_id)
        else:
            is_freeze = verb == "freeze"
            await self._actions.pause(job_id, "paused over HTTP", freeze=is_freeze)
        return {"job_id": job_id, "status_before": job["status"]}

    async def _retry(self, request: Request) -> JsonValue:
        job_id = _job_id(request)
        new_id = await self._actions.retry(job_id, request.state.token_id)
        return {"job_id": new_id, "retry_of": job_id}

    async def _array(self, request: Request) -> JsonValue:
        return await self._questions.array(
            _job_id(request),
            status=request.query_params.get("status"),
            offset=number(request, "offset", 0),
            limit=number(request, "limit", 100, least=1),
        )

    async def _cancel_array(self, request: Request) -> JsonValue:
        rows = await self._questions.families.items(_job_id(request))
        # The last ones first: those that wait must not begin because of those that end.
        live = [JobId(row.job_id) for row in reversed(rows.values()) if row.is_live]
        for job_id in live:
            await self._actions.cancel(job_id, "cancelled over HTTP")
        return {"array_id": _job_id(request), "cancelled": len(live)}

    async def _files(self, request: Request) -> JsonValue:
        return await self._questions.files(_job_id(request))

    async def _content(self, request: Request) -> Response:
        """The bytes of a kept file; a part of them for a Range."""
        wanted = str(request.path_params["file_id"])
        return await self._file(_job_id(request), wanted)

    async def _ticket(self, request: Request) -> JsonValue:
        """An address for one file and a minute: a browser saves what an address has."""
        job_id, file_id = _job_id(request), str(request.path_params["file_id"])
        await self._questions.files(job_id)  # Nobody may know it.
        return {"url": f"api/v1/downloads/{self._tickets.issue(job_id, file_id)}"}

    async def _download(self, request: Request) -> Response:
        found = self._tickets.find(str(request.path_params["ticket"]))
        if found is None:
            return _error(404, "this address has expired; ask for another one")
        let_in(request.scope)
        return await self._file(*found)

    async def _file(self, job_id: JobId, wanted: str) -> Response:
        for file in await self._questions.files(job_id):
            if isinstance(file, dict) and file.get("file_id") == wanted:
                digest = str(file.get("blob"))
                is_kept = bool(file.get("blob"))
                path = await asyncio.to_thread(self._blob_file, digest) if is_kept else None
                if path is None:
                    return _error(410, str(file.get("problem") or "its content is gone"))
                name = Path(str(file["name"])).name + (".tar" if file.get("is_folder") else "")
                sha256 = base64.b64encode(bytes.fromhex(digest)).decode()
                headers = {
                    **FOREIGN_FILE,
                    "ETag": f'"{digest}"',
                    "Repr-Digest": f"sha-256=:{sha256}:",
                }
                return FileResponse(
                    path, headers=headers, filename=name, media_type="application/octet-stream"
                )
        return _error(404, f"the job keeps no file {wanted[:100]!r}")

    async def _backup(self, request: Request) -> JsonValue:
        # Paths of this machine: whoever has the local token is its user, who may write there.
        body: object = json.loads(await bounded_body(request))
        paths = cast("dict[str, object]", body) if isinstance(body, dict) else {}
        data, target = (Path(str(paths.get(name, ""))) for name in ("data", "target"))
        if not data.is_absolute() or not target.is_absolute():
            raise ValueError('send {"data": …, "target": …}, two absolute paths')
        return summary_view(await self._actions.back_up(data, target))

    async def _workers(self, request: Request) -> JsonValue:
        del request
        return self._questions.workers()


def _job_id(request: Request) -> JobId:
    return JobId(str(request.path_params["job_id"]))


def _sought(request: Request) -> Sought:
    asked = request.query_params
    since = asked.get("since")
    try:
        at = float(since) if since is not None else None
        is_time = at is None or math.isfinite(at)
    except ValueError:
        at, is_time = None, False
    if not is_time:
        raise ValueError(f"since must be seconds since 1970, not {str(since)[:40]!r}")
    find, name, tag = (asked.get(key, "") for key in ("find", "name", "tag"))
    owner = owner_of(asked.get("owner"), request.state.token_id)
    return Sought(find=find, name=name, tag=tag, owner=owner, since=at)


def _stream(request: Request) -> Literal["stdout", "stderr"] | None:
    match request.query_params.get("stream"):
        case ("stdout" | "stderr" | None) as stream:
            return stream
        case other:
            raise ValueError(f"stream must be stdout or stderr, not {other[:40]!r}")


def _offset(request: Request) -> Place:
    text = request.query_params.get("offset", "0.0")
    attempt, _, seq = text.partition(".")
    if not (attempt.isdecimal() and seq.isdecimal() and max(len(attempt), len(seq)) <= 16):
        raise ValueError(f"offset must be that of an earlier answer, not {text[:40]!r}")
    return min(int(attempt), NUMBER_MAX), min(int(seq), NUMBER_MAX)


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text.strip()}, status_code=status)


def _fresh(request: Request, data: JsonValue, headers: Mapping[str, str] | None = None) -> Response:
    """Send data, or 304 when the reader has just that; without output, where one only looks."""
    if not request.state.shows_output:
        data = without_output(data)
    body = json.dumps(spelled(data), allow_nan=False, separators=(",", ":")).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, **(headers or {})}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
