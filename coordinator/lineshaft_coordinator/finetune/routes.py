"""The routes of the training server, as seed 001 has them."""

import asyncio
import json
import logging
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobError
from lineshaft_coordinator.finetune.access import Access, LimitName, detail
from lineshaft_coordinator.finetune.archives import Archives, Content, Entry, file_entry
from lineshaft_coordinator.finetune.controls import WrongStateError
from lineshaft_coordinator.finetune.downloads import (
    archive_response,
    artifacts_of,
    kept_entries,
)
from lineshaft_coordinator.finetune.execution import NoTrainerError, read_execute
from lineshaft_coordinator.finetune.follower import UnknownTrainingError
from lineshaft_coordinator.finetune.live import LIMITS
from lineshaft_coordinator.finetune.server import TrainingRefusedError, TrainingServer
from lineshaft_coordinator.finetune.views import View, seen, status_view
from lineshaft_coordinator.server.admission import Door, Gate, Grant, Tokens, Visit
from lineshaft_coordinator.server.query_numbers import number
from lineshaft_coordinator.server.questions import UnknownJobError
from lineshaft_coordinator.server.retrying import RetryRefusedError
from lineshaft_coordinator.server.roles import Permission
from lineshaft_coordinator.store.errors import StoreError, StoreFullError
from lineshaft_coordinator.strict_json import strict
from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.wire import NUMBER_MAX
from lineshaft_runtime.connection import Admitted, UpgradeRequest
from lineshaft_runtime.opening import Rejection

logger = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 256 * 1024 * 1024
LOG_LINES_MAX: Final = 10_000
_REFUSED: Final = {"duplicate_id": 409, "draining": 503, "too_many_jobs": 503}

Answer = Callable[[Request], Awaitable[View | Response]]


class TrainingRoutes:
    """Serves the training server on the coordinator's port.

    Args:
        server: Who does what is asked.
        tokens: Who may come in.
        gate: Refuses what pages of other sites cause.
    """

    def __init__(self, server: TrainingServer, tokens: Tokens, gate: Gate) -> None:
        self._server = server
        self._access = Access(server.settings, tokens, gate, server.trainer.is_token_of)
        self._archives = Archives()

    def routes(self) -> list[Route]:
        """The HTTP endpoints."""
        base, one = "/api/training", "/api/training/{job_id}"
        # Viewers see how trainings stand, no output of theirs and no paths of this machine.
        gets: dict[str, Answer] = {
            f"{base}/health": self._health,
            f"{base}/queue": self._queue,
            f"{base}/analytics/summary": self._summary,
            f"{base}/analytics/compare": self._compare,
            f"{base}/status/{{job_id}}": self._status,
            f"{one}/analytics": self._analytics,
        }
        metrics: dict[str, Answer] = {f"{base}/metrics/{{job_id}}": self._metrics}
        errors: dict[str, Answer] = {f"{one}/errors": self._errors}
        texts: dict[str, Answer] = {
            f"{base}/logs/{{job_id}}": self._logs,
            f"{one}/download/logs": self._log_archive,
        }
        files: dict[str, Answer] = {
            f"{base}/checkpoints/{{job_id}}": self._checkpoints,
            f"{one}/download/model": self._model,
        }
        posts: dict[str, Answer] = {
            f"{base}/pause/{{job_id}}": self._pause,
            f"{base}/resume/{{job_id}}": self._resume,
            f"{base}/cancel/{{job_id}}": self._cancel,
            f"{one}/force-start": self._force_start,
            f"{base}/reconnect": self._reconnect,
        }
        return [
            *self._group(gets, "general", "look"),
            *self._group(metrics, "files", "look"),
            *self._group(errors, "general", "read_output"),
            *self._group(texts, "files", "read_output"),
            *self._group(files, "files", "download"),
            *self._group(posts, "general", "control", "POST"),
            *self._group({f"{base}/execute": self._execute}, "execute", "submit", "POST"),
            Route(f"{base}/{{rest:path}}", self._access.preflight, methods=["OPTIONS"]),
        ]

    def doors(self) -> list[Door]:
        """The WebSocket."""
        return [
            Door(
                "/ws/training/{job_id}",
                self._admit,
                origins=self._origins,
                other=self._other,
                takes="look",
            )
        ]

    @property
    def _origins(self) -> tuple[str, ...]:
        return self._server.settings.origins

    def _other(self, request: UpgradeRequest, params: Mapping[str, str]) -> Grant | None:
        peer = request.peer.rpartition(":")[0].strip("[]")
        return self._access.grant(request.token, peer, params.get("job_id"))

    def _admit(self, visit: Visit) -> Admitted | Rejection:
        job_id = visit.params["job_id"]
        if not self._server.knows(job_id):
            return Rejection(403, f"Training job {job_id[:128]} not found\n")
        shows_output = visit.grant.may("read_output")
        return Admitted(self._server.feeds.viewer(job_id, shows_output=shows_output), LIMITS)

    def _group(
        self,
        answers: dict[str, Answer],
        limit: LimitName,
        takes: Permission,
        method: str = "GET",
    ) -> list[Route]:
        return [
            Route(path, self._access.guarded(_told(answer), limit, takes), methods=[method])
            for path, answer in answers.items()
        ]

    # --- reading ---

    async def _health(self, request: Request) -> View:
        del request
        return self._server.health()

    async def _queue(self, request: Request) -> View:
        del request
        return self._server.controls.queue()

    async def _status(self, request: Request) -> View:
        following = await self._server.follower.of(_job_id(request))
        standing = seen(following.standing(), shows_output=request.state.shows_output)
        return status_view(following.job_id, following.fold, standing, following.request)

    async def _metrics(self, request: Request) -> Response:
        following = await self._server.follower.of(_job_id(request))
        points = self._server.follower.points(following)

        async def body() -> AsyncIterator[bytes]:
            yield b'{"job_id":' + json.dumps(following.job_id).encode() + b',"metrics":['
            comma = b""
            async for page in points:
                for point in page:
                    yield comma + json.dumps(strict(point), allow_nan=False).encode()
                    comma = b","
            yield b"]}"

        return StreamingResponse(body(), media_type="application/json")

    async def _logs(self, request: Request) -> View:
        limit = number(request, "limit", 100, least=1, most=LOG_LINES_MAX)
        offset = number(request, "offset", 0, least=-NUMBER_MAX)
        job_id = _job_id(request)
        page = await self._server.logs(job_id, limit, offset)
        return {
            "job_id": job_id,
            "logs": [*page.lines],
            "total_lines": page.total_lines,
            "offset": page.offset,
            "limit": limit,
        }

    async def _errors(self, request: Request) -> View:
        return await self._server.errors(_job_id(request))

    async def _checkpoints(self, request: Request) -> View:
        return await self._server.checkpoints_view(_job_id(request))

    async def _analytics(self, request: Request) -> View:
        return await self._server.analytics(_job_id(request))

    async def _summary(self, request: Request) -> View:
        del request
        return await self._server.summary()

    async def _compare(self, request: Request) -> View:
        text = request.query_params.get("job_ids", "")
        job_ids = [each.strip() for each in text.split(",") if each.strip()]
        if not 2 <= len(set(job_ids)) <= 50:
            raise ValueError("job_ids must name 2 to 50 different trainings: job_ids=a,b")
        return await self._server.compare(list(dict.fromkeys(job_ids)))

    # --- doing ---

    async def _execute(self, request: Request) -> View:
        execute = read_execute(await _body(request))
        return await self._server.execute(execute, request.state.token_id)

    async def _pause(self, request: Request) -> View:
        return await self._server.controls.pause(_job_id(request))

    async def _resume(self, request: Request) -> View:
        path = request.query_params.get("checkpoint_path")
        return await self._server.controls.resume(_job_id(request), path or None)

    async def _cancel(self, request: Request) -> View:
        return await self._server.controls.cancel(_job_id(request))

    async def _force_start(self, request: Request) -> View:
        return await self._server.controls.force_start(_job_id(request), request.state.token_id)

    async def _reconnect(self, request: Request) -> View:
        del request
        return await self._server.controls.reconnect()

    # --- downloads ---

    async def _model(self, request: Request) -> Response:
        job_id, wanted = _job_id(request), request.query_params.get("checkpoint")
        if wanted is not None and (".." in wanted or "/" in wanted or "\\" in wanted):
            return detail(400, "Invalid checkpoint name")
        found = await self._server.checkpoints(job_id)
        kept = artifacts_of(await self._server.kept_files(job_id))
        folder, filename = f"job_{job_id}", f"job_{job_id}_model.zip"
        if wanted is not None or not kept:
            chosen = next((each for each in found if wanted in (None, each.label)), None)
            if chosen is None:
                what = f"checkpoint {wanted[:200]}" if wanted is not None else "model or checkpoint"
                return detail(404, f"Training job {job_id} has no {what}")
            kept, folder = [chosen.file], chosen.label
            if wanted is not None:
                filename = f"job_{job_id}_{chosen.label}.zip"
        paths = [await asyncio.to_thread(self._server.blob_file, file.blob or "") for file in kept]
        entries = await asyncio.to_thread(kept_entries, kept, folder, paths)
        return archive_response(request, await self._archives.of(entries), filename)

    async def _log_archive(self, request: Request) -> Response:
        job_id, files = _job_id(request), self._server.files
        following = await self._server.follower.of(job_id)
        await self._server.follower.catch_up(following)
        log, progress = files.log(job_id), files.progress(job_id)
        entries = await asyncio.to_thread(
            _log_entries, log, progress, self._server.settings.log_filename
        )
        archive = await self._archives.of(entries)
        return archive_response(request, archive, f"job_{job_id}_logs.zip")


def _log_entries(log: Path, progress: Path, log_name: str) -> list[Entry]:
    """Describe both files as they are now: the one only grows, the other is replaced."""
    entries: list[Entry] = []
    if log.exists():
        entries.append(file_entry(log, log_name, log.stat().st_mtime))
    if progress.exists():
        at, data = progress.stat().st_mtime, progress.read_bytes()
        entries.append(Entry(progress.name, Content(len(data), data), at))
    return entries


def _told(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Turn what may come of an answer into a response."""

    async def endpoint(request: Request) -> Response:
        try:
            data = await answer(request)
        except (UnknownTrainingError, UnknownJobError) as error:
            return detail(404, str(error))
        except WrongStateError as error:
            return detail(400, str(error))
        except RetryRefusedError as error:
            return detail(409, str(error))
        except TrainingRefusedError as error:
            return detail(_REFUSED.get(error.code, 400), str(error))
        except (NoTrainerError, StoreFullError, BlobElsewhereError) as error:
            return detail(503, str(error))
        except BlobError as error:
            return detail(507, str(error))
        except StoreError as error:
            return detail(500, str(error))
        except ValidationError as error:
            first = error.errors()[0]
            return detail(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except (LineshaftError, ValueError) as error:
            return detail(400, str(error))
        except (FileNotFoundError, tarfile.TarError) as error:
            return detail(410, str(error))
        return data if isinstance(data, Response) else JSONResponse(strict(data))

    return endpoint


def _job_id(request: Request) -> str:
    return str(request.path_params["job_id"])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"the request has more than {BODY_BYTES_MAX} bytes")
    return bytes(body)
