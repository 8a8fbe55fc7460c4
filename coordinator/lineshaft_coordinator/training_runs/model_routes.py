"""`/api/models` and the checkpoints of notebooks, as clients of seed 000 use them."""

import base64
import errno
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from pydantic import JsonValue
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.server.admission import Door, Grant
from lineshaft_coordinator.server.query_numbers import number
from lineshaft_coordinator.training_runs.answering import Answering, body_of, told
from lineshaft_coordinator.training_runs.bodies import CheckpointBody, ModelBody
from lineshaft_coordinator.training_runs.desk import RunError, check_owner
from lineshaft_coordinator.training_runs.models import Models, ModelsFullError, ModelView
from lineshaft_coordinator.training_runs.notebooks import Notebooks
from lineshaft_protocol.ids import is_name

_TOO_LONG: Final = "exceeded maximum size"
"""What the parser says of a field that is longer than `_FIELD_BYTES_MAX`."""
_FIELD_BYTES_MAX: Final = 1024 * 1024
MODELS = "/api/models"
VERSIONS = f"{MODELS}/{{model_id}}/versions"
CHECKPOINTS = "/api/notebooks/{notebook_id}/checkpoints"
LISTED_MAX = 1000


class ModelRoutes:
    """Serves models and notebooks.

    Args:
        models: Those it knows.
        notebooks: Their checkpoints.
        answering: What all routes do.
        upload_bytes_max: How long the upload of a version may be, in bytes.
    """

    def __init__(
        self, models: Models, notebooks: Notebooks, answering: Answering, *, upload_bytes_max: int
    ) -> None:
        self._models, self._notebooks, self._answering = models, notebooks, answering
        self._upload_bytes_max = upload_bytes_max

    def routes(self) -> Sequence[Route]:
        """The REST interface."""
        guarded = self._answering.guarded
        return [
            Route(MODELS, guarded(self._list), methods=["GET"]),
            Route(MODELS, guarded(self._create), methods=["POST"]),
            Route(f"{MODELS}/{{model_id}}", guarded(self._get), methods=["GET"]),
            Route(f"{MODELS}/{{model_id}}", guarded(self._delete), methods=["DELETE"]),
            Route(VERSIONS, guarded(self._versions), methods=["GET"]),
            Route(VERSIONS, guarded(self._add_version), methods=["POST"]),
            Route(f"{VERSIONS}/{{number:int}}", guarded(self._version), methods=["GET"]),
            Route(f"{VERSIONS}/{{number:int}}/download", guarded(self._download), methods=["GET"]),
            Route(CHECKPOINTS, guarded(self._checkpoints), methods=["GET"]),
            Route(CHECKPOINTS, guarded(self._add_checkpoint), methods=["POST"]),
            Route(f"{CHECKPOINTS}/best", guarded(self._best), methods=["GET"]),
        ]

    def doors(self) -> Sequence[Door]:
        """None."""
        return ()

    async def _list(self, request: Request, grant: Grant) -> Response:
        models = await self._models.listed(
            None if grant.role == "admin" else grant.token_id,
            min(number(request, "limit", 100), LISTED_MAX),
            min(number(request, "offset", 0), 1_000_000),
        )
        return told(models)

    async def _create(self, request: Request, grant: Grant) -> Response:
        body = await body_of(request, ModelBody)
        model = await self._models.create(
            grant.token_id, body.name, body.model_type, body.description
        )
        return told(model, 201)

    async def _get(self, request: Request, grant: Grant) -> Response:
        return told(await self._own(request, grant))

    async def _delete(self, request: Request, grant: Grant) -> Response:
        model = await self._own(request, grant)
        await self._models.delete(str(model["id"]))
        return Response(status_code=204)

    async def _versions(self, request: Request, grant: Grant) -> Response:
        model = await self._own(request, grant)
        return told(await self._models.versions(str(model["id"])))

    async def _add_version(self, request: Request, grant: Grant) -> Response:
        model = await self._own(request, grant)
        form = await _form_of(request, self._upload_bytes_max)
        try:
            file, metrics, run_id = (
                form.get(name) for name in ("file", "metrics", "training_run_id")
            )
            if not isinstance(file, UploadFile):
                raise RunError(400, "send a form with the model as 'file'")
            parsed: JsonValue = json.loads(metrics) if isinstance(metrics, str) else None
            version = await self._models.add_version(
                str(model["id"]),
                file.file,
                file.filename or "",
                parsed,
                run_id if isinstance(run_id, str) else None,
            )
        except ModelsFullError as error:
            raise RunError(507, str(error)) from error
        except OSError as error:
            raise _no_room(error) from error
        finally:
            await form.close()
        return told(version, 201)

    async def _version(self, request: Request, grant: Grant) -> Response:
        return told(await self._own_version(request, grant))

    async def _download(self, request: Request, grant: Grant) -> Response:
        version = await self._own_version(request, grant)
        path = self._models.file_of(version)
        if not path.is_file():
            raise RunError(410, "its content is gone")
        digest = str(version["sha256"])
        sha256 = base64.b64encode(bytes.fromhex(digest)).decode()
        headers = {"ETag": f'"{digest}"', "Repr-Digest": f"sha-256=:{sha256}:"}
        media_type = "application/octet-stream"
        return FileResponse(path, headers=headers, filename=path.name, media_type=media_type)

    async def _add_checkpoint(self, request: Request, grant: Grant) -> Response:
        body = await body_of(request, CheckpointBody)
        notebook_id = _notebook_id(request)
        kept = await self._notebooks.add(
            notebook_id, grant.token_id, body.epoch, body.step, body.metrics
        )
        return told(kept, 201)

    async def _checkpoints(self, request: Request, grant: Grant) -> Response:
        return told(await self._notebooks.listed(_notebook_id(request), _user(grant)))

    async def _best(self, request: Request, grant: Grant) -> Response:
        best = await self._notebooks.best(_notebook_id(request), _user(grant))
        if best is None:
            raise RunError(404, "no checkpoint of this notebook has a loss")
        return told(best)

    async def _own(self, request: Request, grant: Grant) -> ModelView:
        model_id = str(request.path_params["model_id"])
        model = await self._models.get(model_id)
        if model is None:
            raise RunError(404, f"there is no model {model_id[:100]}")
        check_owner(str(model["user_id"]), grant, "model")
        return model

    async def _own_version(self, request: Request, grant: Grant) -> ModelView:
        model = await self._own(request, grant)
        wanted = int(request.path_params["number"])
        version = await self._models.version(str(model["id"]), wanted)
        if version is None:
            raise RunError(404, f"there is no version {wanted} of this model")
        return version


async def _form_of(request: Request, bytes_max: int) -> FormData:
    """Read a form; a long file in it goes to a temporary one as it comes, so memory stays flat.

    Raises:
        RunError: It is longer than that, there is no room for it, or it is no form.
        ClientDisconnect: The client left meanwhile.
    """

    async def pieces() -> AsyncGenerator[bytes, None]:
        left = bytes_max - int(request.headers.get("content-length", "0"))
        if left >= 0:
            left = bytes_max
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left < 0:
            raise _TooLongError(f"an upload has at most {bytes_max} bytes")

    try:
        parser = MultiPartParser(
            request.headers,
            pieces(),
            max_files=1,
            max_fields=10,
            max_part_size=_FIELD_BYTES_MAX,
        )
        return await parser.parse()
    except _TooLongError as error:
        raise RunError(413, error.message) from error
    except MultiPartException as error:
        if _TOO_LONG in error.message:
            text = "a field of the form has at most 1 MiB; longer is 'file' alone, sent as a file"
            raise RunError(413, text) from error
        raise RunError(400, "send a form with the model as 'file'") from error
    except KeyError as error:
        raise RunError(400, "send a form with the model as 'file'") from error
    except OSError as error:
        raise _no_room(error) from error


class _TooLongError(MultiPartException):
    """A form is too long; of the parser's own kind, for it tidies up after those."""


def _no_room(error: OSError) -> Exception:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return RunError(507, "there is no room on the coordinator's disk") if is_full else error


def _user(grant: Grant) -> str | None:
    return None if grant.role == "admin" else grant.token_id


def _notebook_id(request: Request) -> str:
    notebook_id = str(request.path_params["notebook_id"])
    if not is_name(notebook_id):
        raise RunError(400, "a notebook's id has letters, digits and - _ . : @ + only")
    return notebook_id
