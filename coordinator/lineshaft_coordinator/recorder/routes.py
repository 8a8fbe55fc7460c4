"""Runs over HTTP: `/api/v1/runs` in Lineshaft's words, `/api/experiments` in those of seed 004."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError
from lineshaft_coordinator.recorder.editing import ExperimentEdit, RunEdit, changes_of
from lineshaft_coordinator.recorder.streams import HEADERS, Streams
from lineshaft_coordinator.recorder.supervisor import AskError, Recorder, RecorderAwayError
from lineshaft_coordinator.server.admission import Door
from lineshaft_coordinator.server.bounded_body import BodyTooLongError, bounded_body
from lineshaft_coordinator.server.foreign_files import FOREIGN_FILE
from lineshaft_coordinator.server.guard import Guard, Refusal
from lineshaft_coordinator.server.query_numbers import number, number_asked
from lineshaft_coordinator.server.questions import UnknownJobError
from lineshaft_coordinator.server.roles import Permission
from lineshaft_protocol.ids import JobId
from lineshaft_protocol.version import __version__
from lineshaft_protocol.wire import NUMBER_MAX

LIMIT_MAX: Final = 10_000
POINTS_MAX: Final = 1_000_000
POINTS: Final = 2000
COMPARED_MAX: Final = 50
HISTOGRAMS_MAX: Final = 200
_UNREADABLE: Final = "its records cannot be read; a token for clients is told why"
_NO_NUMBERS: Final = ("nan", "inf", "-inf")


Endpoint = Callable[[Request], Awaitable[bytes | Response]]


class KeptFiles(Protocol):
    """Knows what jobs keep."""

    async def files(self, job_id: JobId) -> Sequence[JsonValue]:
        """List the files of a job; raises UnknownJobError."""
        ...


class RunRoutes:
    """The endpoints.

    Args:
        recorder: Who knows the runs.
        guard: Who may ask.
        files: Who knows what jobs keep.
        blob_file: Where the bytes of a kept file lie; None if they are gone.
    """

    def __init__(
        self,
        recorder: Recorder,
        guard: Guard,
        files: KeptFiles,
        blob_file: Callable[[str], Path | None],
    ) -> None:
        self._recorder, self._guard = recorder, guard
        self._files, self._blob_file = files, blob_file
        self._streams = Streams(recorder)

    def doors(self) -> Sequence[Door]:
        """No WebSockets."""
        return ()

    def routes(self) -> Sequence[Route]:
        """Its HTTP endpoints."""
        own = "/api/v1/runs/{run}"
        seed = "/api/experiments/{experiment}"
        run = f"{seed}/runs/{{run}}"
        # With what viewers may have: all but texts and contents.
        endpoints: list[tuple[str, Endpoint, Permission]] = [
            ("/api/v1/runs", self._runs, "look"),
            (own, self._run, "look"),
            (f"{own}/metrics", self._metrics, "look"),
            (f"{own}/histograms", self._histograms, "look"),
            (f"{own}/text", self._text, "read_output"),
            (f"{own}/artifacts/content", self._content, "download"),
            ("/api/v1/jobs/{job_id}/files/{file_id}/preview", self._preview, "download"),
            ("/api/v1/compare", self._compare, "look"),
            ("/api/experiments", self._experiments, "look"),
            (f"{seed}/metadata", self._experiment, "look"),
            (f"{seed}/runs", self._seed_runs, "look"),
            (f"{seed}/stats", self._seed_stats, "look"),
            (f"{run}/metrics", self._seed_rows, "look"),
            (f"{run}/config", self._config, "look"),
            (f"{run}/metadata", self._metadata, "look"),
            (f"{run}/log/stream", self._log_stream, "read_output"),
            ("/api/run/{experiment}/{run}/stream/vectors", self._row_stream, "look"),
            (f"{run}/artifacts", self._artifacts, "look"),
            (f"{run}/artifacts/content", self._seed_content, "download"),
            ("/api/stats", self._stats, "look"),
            ("/api/config", self._about, "look"),
        ]
        edits = ((f"{run}/metadata", self._edit), (f"{seed}/metadata", self._edit_experiment))
        return [
            *(Route(path, self._guarded(each, takes)) for path, each, takes in endpoints),
            *(
                Route(path, self._guarded(each, "control"), methods=["PATCH"])
                for path, each in edits
            ),
        ]

    def _guarded(
        self, answer: Endpoint, takes: Permission
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            entered = self._guard.enter(request, takes)
            if isinstance(entered, Refusal):
                return JSONResponse({"error": entered.text}, status_code=entered.status)
            try:
                found = await answer(request)
            except AskError as error:
                # What cannot be read is told with its path.
                is_told = error.status < 500 or entered.may("read_output")
                text = str(error) if is_told else _UNREADABLE
                return JSONResponse({"error": text}, status_code=error.status)
            except UnknownJobError as error:
                return JSONResponse({"error": str(error)}, status_code=404)
            except RecorderAwayError as error:
                return JSONResponse({"error": str(error)}, status_code=503)
            except BlobElsewhereError as error:
                return JSONResponse({"error": str(error)}, status_code=503)
            except BodyTooLongError as error:
                return JSONResponse({"error": str(error)}, status_code=413)
            except ClientDisconnect:
                return Response(status_code=400)
            except ValueError as error:
                return JSONResponse({"error": str(error)}, status_code=400)
            if isinstance(found, Response):
                return found
            return Response(found, media_type="application/json")

        return endpoint

    async def _runs(self, request: Request) -> bytes:
        asked = request.query_params
        return await self._recorder.ask(
            "runs",
            experiment=asked.get("experiment"),
            status=asked.get("status"),
            tag=asked.get("tag"),
            limit=number(request, "limit", 100, most=LIMIT_MAX),
            offset=number(request, "offset", 0, most=LIMIT_MAX),
        )

    async def _run(self, request: Request) -> bytes:
        return await self._recorder.ask("run", run=_run_of(request))

    async def _metrics(self, request: Request) -> bytes:
        attempts = request.query_params.get("attempts", "newest")
        if attempts not in ("newest", "all"):
            raise ValueError(f"attempts must be newest or all, not {attempts[:40]!r}")
        points = number(request, "max_points", POINTS, most=POINTS_MAX)
        return await self._recorder.ask(
            "metrics",
            run=_run_of(request),
            names=_names(request, "names"),
            since_step=number_asked(request, "since_step", least=-NUMBER_MAX),
            until_step=number_asked(request, "until_step", least=-NUMBER_MAX),
            max_points=points,
            attempts=attempts,
            system=request.query_params.get("system") == "true",
        )

    async def _histograms(self, request: Request) -> bytes:
        limit = number(request, "limit", HISTOGRAMS_MAX, most=LIMIT_MAX)
        tag = request.query_params.get("tag")
        return await self._recorder.ask(
            "histograms", run=_run_of(request), tag=tag, limit=max(limit, 1)
        )

    async def _text(self, request: Request) -> bytes:
        file = request.query_params.get("file", "run.log")
        offset = number(request, "offset", 0)
        return await self._recorder.ask("text", run=_run_of(request), file=file, offset=offset)

    async def _compare(self, request: Request) -> bytes:
        runs = _names(request, "runs") or []
        if not 1 <= len(runs) <= COMPARED_MAX:
            raise ValueError(f"name 1 to {COMPARED_MAX} runs: ?runs=a,b")
        return await self._recorder.ask("compare", runs=runs, names=_names(request, "names"))

    async def _content(self, request: Request) -> Response:
        """The bytes of an artifact, a part of them for a Range; or its first rows."""
        is_preview = request.query_params.get("preview") == "true"
        return await self._shown(request, "preview" if is_preview else None)

    async def _shown(self, request: Request, reading: str | None) -> Response:
        """A file of a run, wherever it is; read as a table if it says how."""
        wanted = request.query_params.get("path", "")
        if PurePosixPath(wanted).is_absolute() or ".." in PurePosixPath(wanted).parts:
            return JSONResponse({"error": "that is outside of the run"}, status_code=403)
        run, file_id = _run_of(request), request.query_params.get("file_id")
        found: str | None = json.loads(await self._recorder.ask("path", run=run, file=wanted))
        path, headers = Path(found) if found is not None else None, dict[str, str]()
        for each in () if path is not None else (await self._asked("run", run=run))["artifacts"]:
            is_it = each.get("file_id") == file_id if file_id else bool(each.get("file_id"))
            if each.get("path") == wanted and is_it:
                path = await asyncio.to_thread(self._blob_file, str(each["sha256"]))
                headers = {"ETag": f'"{each["sha256"]}"'}
                if path is None:
                    return JSONResponse({"error": "its content is gone"}, status_code=410)
        if path is None:
            return JSONResponse({"error": f"no artifact {wanted[:200]!r}"}, status_code=404)
        name = PurePosixPath(wanted).name
        if reading is not None:
            rows = await self._recorder.ask(reading, path=str(path), name=name)
            return Response(rows, media_type="application/json")
        return FileResponse(path, filename=name, headers={**headers, **FOREIGN_FILE})

    async def _preview(self, request: Request) -> Response:
        """The first rows of a table that a job keeps, while it runs, too."""
        wanted = str(request.path_params["file_id"])
        for file in await self._files.files(JobId(str(request.path_params["job_id"]))):
            if isinstance(file, dict) and file.get("file_id") == wanted and file.get("blob"):
                path = await asyncio.to_thread(self._blob_file, str(file["blob"]))
                if path is None:
                    break
                name = PurePosixPath(str(file["name"])).name
                rows = await self._recorder.ask("preview", path=str(path), name=name)
                return Response(rows, media_type="application/json")
        error = f"the job keeps no file {wanted[:100]!r}"
        return JSONResponse({"error": error}, status_code=404)

    # --- seed 004 ---

    async def _asked(self, what: str, **about: object) -> Any:
        return json.loads(await self._recorder.ask(what, **about))

    async def _experiments(self, request: Request) -> Response:
        del request
        found = await self._asked("experiments")
        return JSONResponse(
            [{**each, "display_name": each["display_name"] or each["id"]} for each in found]
        )

    async def _seed_rows(self, request: Request) -> bytes:
        points = number(request, "max_points", POINTS, most=POINTS_MAX)
        return await self._recorder.ask(
            "seed_rows",
            run=_run_of(request),
            since_step=number_asked(request, "since_step", least=-NUMBER_MAX),
            max_points=points or None,
        )

    async def _seed_content(self, request: Request) -> Response:
        """The bytes of a file, but of a Parquet file its first rows."""
        asked = request.query_params
        if asked.get("path", "").endswith(".parquet") and "preview" not in asked:
            return await self._shown(request, "seed_preview")
        return await self._content(request)

    async def _seed_runs(self, request: Request) -> Response:
        experiment = str(request.path_params["experiment"])
        found = await self._asked("runs", experiment=experiment, limit=LIMIT_MAX)
        names = _names(request, "metrics")
        for each in found:
            if names is not None:
                each["last"] = {k: v for k, v in each["last"].items() if k in names}
        return JSONResponse([_seed_view(each) for each in found])

    async def _config(self, request: Request) -> Response:
        return JSONResponse((await self._asked("run", run=_run_of(request)))["config"])

    async def _metadata(self, request: Request) -> Response:
        return JSONResponse(_seed_view(await self._asked("run", run=_run_of(request))))

    async def _edit(self, request: Request) -> Response:
        """Change name, description or tags."""
        changes = changes_of(RunEdit, await bounded_body(request))
        await self._recorder.ask("edit", run=_run_of(request), changes=changes)
        return await self._metadata(request)

    async def _experiment(self, request: Request) -> bytes:
        experiment = str(request.path_params["experiment"])
        return await self._recorder.ask("experiment", experiment=experiment)

    async def _edit_experiment(self, request: Request) -> bytes:
        """Change display name, description, tags or project."""
        changes = changes_of(ExperimentEdit, await bounded_body(request))
        experiment = str(request.path_params["experiment"])
        await self._recorder.ask("edit_experiment", experiment=experiment, changes=changes)
        return await self._experiment(request)

    async def _row_stream(self, request: Request) -> Response:
        run = _run_of(request)
        await self._streams.check(run)
        return _event_stream(self._streams.rows(run))

    async def _log_stream(self, request: Request) -> Response:
        run, file = _run_of(request), request.query_params.get("file", "run.log")
        path = Path(json.loads(await self._recorder.ask("log_path", run=run, file=file)))
        last = request.headers.get("last-event-id", "")
        offset = int(last) if last.isdecimal() and len(last) < 17 else 0
        return _event_stream(self._streams.text(run, path, offset))

    async def _artifacts(self, request: Request) -> Response:
        run = _run_of(request)
        own = await self._asked("plain_files", run=run)
        found = (await self._asked("run", run=run))["artifacts"]
        views = [_file_view(each, is_default=True) for each in own]
        return JSONResponse(views + [_file_view(each, is_default=False) for each in found])

    async def _seed_stats(self, request: Request) -> Response:
        """How each run of an experiment stands."""
        experiment = str(request.path_params["experiment"])
        found = await self._asked("runs", experiment=experiment, limit=LIMIT_MAX)
        views = [_seed_view(each) for each in found]
        same = ("status", "started_at", "finished_at", "duration_secs")
        return JSONResponse(
            [
                {
                    "run": each["id"],
                    **{key: each[key] for key in same},
                    "last_metrics": each["vectors"],
                }
                for each in views
            ]
        )

    async def _stats(self, request: Request) -> bytes:
        del request
        return await self._recorder.ask("stats")

    async def _about(self, request: Request) -> Response:
        del request
        return JSONResponse({"live_mode": True, "read_only": False, "version": __version__})


def _event_stream(parts: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(parts, media_type="text/event-stream", headers=HEADERS)


def _seed_view(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run in the seed's words."""
    times = ("started_at", "finished_at", "heartbeat_at")
    same = ("experiment", "status", *times, "description", "tags", "group", "rank", "language")
    return {
        "id": run["run"],
        "name": run["name"],
        **{key: run[key] for key in same},
        "duration_secs": run["duration_s"],
        "scalars": {},
        # What JSON has not is told as a text elsewhere; the seed's readers take numbers.
        "vectors": {k: None if v in _NO_NUMBERS else v for k, v in run["last"].items()},
        "env_path": None,  # A path of the coordinator's machine.
    }


def _file_view(file: Mapping[str, Any], *, is_default: bool) -> dict[str, Any]:
    path = PurePosixPath(file["path"])
    return {
        "path": file["path"],
        "name": path.name,
        "size": file["size_bytes"],
        "ext": path.suffix.removeprefix("."),
        "is_default": is_default,
    }


def _run_of(request: Request) -> str:
    asked = request.query_params.get("experiment")
    experiment = request.path_params.get("experiment", asked)
    run = str(request.path_params["run"])
    return run if experiment is None else f"{experiment}/{run}"


def _names(request: Request, key: str) -> list[str] | None:
    text = request.query_params.get(key)
    return None if text is None else [name for name in text.split(",") if name]
