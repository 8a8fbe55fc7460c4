"""The gateway's doors: its WebSocket, and upstream's HTTP endpoints."""

import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import cast

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.data.blob_errors import BlobElsewhereError, BlobError
from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.gateway import machines
from lineshaft_coordinator.gateway.conversation import LIMITS, Conversation, Desks
from lineshaft_coordinator.gateway.kept_filters import KeptFilters
from lineshaft_coordinator.gateway.plans import Plans
from lineshaft_coordinator.gateway.python_jobs import PythonJobs
from lineshaft_coordinator.gateway.running_plans import RunningPlans
from lineshaft_coordinator.gateway.uploads import UPLOAD_BYTES_MAX, Uploads
from lineshaft_coordinator.server.admission import Door, Grant, Visit
from lineshaft_coordinator.server.guard import Guard, Refusal
from lineshaft_coordinator.server.sessions import Sessions
from lineshaft_protocol.errors import ProtocolError
from lineshaft_protocol.seed import Register, UnencodableError, decode_json, read_data_ref
from lineshaft_runtime.connection import Admitted

PATH = "/ws"


class BodyTooLongError(Exception):
    """An upload is longer than one may be."""


class Gateway:
    """Serves clients of the seed plan protocol.

    Args:
        sessions: Where their jobs are submitted.
        blobs: Where payloads, results and uploads lie.
        shop: The core's state, for reading.
        guard: Who may come in.
        is_loopback: Whether only this machine can reach us: then /info needs no token.
    """

    def __init__(
        self,
        sessions: Sessions,
        blobs: BlobStore,
        shop: Shop,
        *,
        guard: Guard,
        is_loopback: bool,
    ) -> None:
        self._shop, self._guard = shop, guard
        self._is_loopback = is_loopback
        self._worker_id = f"lineshaft@{socket.gethostname()}"
        self._uploads = Uploads(blobs)
        running = RunningPlans()
        self._desks = Desks(
            worker_id=self._worker_id,
            shop=shop,
            sessions=sessions,
            plans=Plans(blobs, KeptFilters(), self._uploads, running),
            python_jobs=PythonJobs(blobs, running, self._worker_id),
            running=running,
        )

    def doors(self) -> list[Door]:
        """Its WebSocket."""
        return [Door(PATH, self._admit)]

    def _admit(self, visit: Visit) -> Admitted:
        return Admitted(Conversation(self._desks, visit.grant.token_id), LIMITS)

    def routes(self) -> list[Route]:
        """The HTTP endpoints of an upstream worker, and those of its registry that only read."""
        return [
            Route("/health", self._health),
            Route("/info", self._info),
            Route("/upload", self._guarded(self._upload), methods=["POST"]),
            Route("/download", self._guarded(self._download)),
            Route("/workers", self._guarded(self._workers)),
            Route("/summary", self._guarded(self._summary)),
        ]

    async def _health(self, request: Request) -> Response:
        del request
        return PlainTextResponse("ok")

    async def _info(self, request: Request) -> Response:
        # Upstream's clients send no token here. What a machine has is no secret to its own users.
        if self._is_loopback:
            refusal = self._guard.refuse_page(request)
            return self._register() if refusal is None else _refused(refusal)
        return await self._guarded(self._info_of)(request)

    async def _info_of(self, request: Request, grant: Grant) -> Response:
        del request, grant
        return self._register()

    def _register(self) -> Response:
        register = Register(
            worker_id=self._worker_id, capabilities=machines.capabilities(self._shop)
        )
        return JSONResponse(register.model_dump(mode="json"))

    async def _upload(self, request: Request, grant: Grant) -> Response:
        try:
            body = await _body(request)
            ref = await self._uploads.keep(grant.token_id, body)
        except BodyTooLongError:
            return PlainTextResponse(f"at most {UPLOAD_BYTES_MAX} bytes\n", status_code=413)
        except (ProtocolError, UnencodableError) as error:
            return PlainTextResponse(f"{error}\n", status_code=400)
        except BlobError as error:
            return PlainTextResponse(f"{error}\n", status_code=507)
        except ClientDisconnect:
            return Response(status_code=400)
        return JSONResponse(ref.model_dump(mode="json"))

    async def _download(self, request: Request, grant: Grant) -> Response:
        try:
            ref = read_data_ref(decode_json(request.query_params.get("ref", "")))
        except ProtocolError as error:
            return PlainTextResponse(f"{error}\n", status_code=400)
        try:
            text = await self._uploads.text(grant.token_id, ref)
        except BlobElsewhereError as error:
            return PlainTextResponse(f"{error}\n", status_code=503)
        if text is None:
            return Response(status_code=404)
        return Response(text, media_type="application/json")

    async def _workers(self, request: Request, grant: Grant) -> Response:
        del grant
        scheme = "wss" if request.url.scheme == "https" else "ws"
        address = f"{scheme}://{request.url.netloc}"
        listed = machines.registry(self._shop, address=address, at=datetime.now(UTC))
        # A list of JSON values is one; the types of lists only do not know.
        return JSONResponse(cast("JsonValue", listed))

    async def _summary(self, request: Request, grant: Grant) -> Response:
        del request, grant
        return PlainTextResponse(machines.summary(self._shop))

    def _guarded(
        self, answer: Callable[[Request, Grant], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Let in who has a token for clients, and no other site's page."""

        async def endpoint(request: Request) -> Response:
            grant = self._guard.enter(request)
            return _refused(grant) if isinstance(grant, Refusal) else await answer(request, grant)

        return endpoint


def _refused(refusal: Refusal) -> Response:
    return PlainTextResponse(f"{refusal.text.strip()}\n", status_code=refusal.status)


async def _body(request: Request) -> bytes:
    """Read a body.

    Raises:
        BodyTooLongError: It is longer than an upload may be.
        ClientDisconnect: The client left meanwhile.
    """
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > UPLOAD_BYTES_MAX:
        raise BodyTooLongError
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > UPLOAD_BYTES_MAX:
            raise BodyTooLongError
    return bytes(body)
