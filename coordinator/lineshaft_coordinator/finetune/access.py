"""Who may use the training server: tokens, pages of allowed origins, and how often."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lineshaft_coordinator.finetune.limits import RateLimit
from lineshaft_coordinator.finetune.settings import TrainingSettings
from lineshaft_coordinator.server.admission import Gate, Grant, Tokens, is_loopback
from lineshaft_coordinator.server.guard import NO_TOKEN
from lineshaft_coordinator.server.roles import Permission, wrong_role
from lineshaft_runtime.connection import token_of
from lineshaft_runtime.serving import let_in

LimitName: TypeAlias = Literal["execute", "files", "general"]
IsJobToken: TypeAlias = Callable[[str | None, str], bool]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_HEADERS: Final = "Authorization, Content-Type, Range, If-Range, If-None-Match"
_EXPOSED: Final = "Content-Length, Content-Range, Content-Disposition, ETag, Repr-Digest"
ANYBODY: Final = Grant("without-token", "client")
JOB: Final = Grant("job-token", "client")


class Access:
    """Decides about each request.

    Args:
        settings: What the operator allows.
        tokens: Who may do what.
        gate: Refuses what pages of other sites cause.
        is_job_token: Whether a token is that of a training: it opens what concerns that one.
    """

    def __init__(
        self, settings: TrainingSettings, tokens: Tokens, gate: Gate, is_job_token: IsJobToken
    ) -> None:
        self._settings, self._tokens, self._gate = settings, tokens, gate
        self._is_job_token = is_job_token
        self._limits: dict[LimitName, RateLimit] = {
            "execute": RateLimit(settings.execute_per_minute),
            "files": RateLimit(settings.files_per_minute),
            "general": RateLimit(settings.requests_per_minute),
        }

    def grant(self, token: str | None, peer: str, job_id: str | None) -> Grant | None:
        """What somebody may do; None: nothing.

        Args:
            token: What it brought.
            peer: Its address.
            job_id: The training that it is about, if it is about one.
        """
        grant = self._tokens.grant(token)
        if grant is None and job_id is not None and self._is_job_token(token, job_id):
            return JOB
        if grant is None and not token and self._settings.without_token and is_loopback(peer):
            return ANYBODY
        return grant

    def guarded(self, endpoint: Endpoint, limit: LimitName, takes: Permission) -> Endpoint:
        """Let an endpoint answer those who may ask."""

        async def answer(request: Request) -> Response:
            origin = request.headers.get("origin")
            response = self._refusal(request, limit, takes)
            if response is None:
                response = await endpoint(request)
            if origin is not None and origin in self._settings.origins:
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = _EXPOSED
                response.headers.add_vary_header("Origin")
            return response

        return answer

    async def preflight(self, request: Request) -> Response:
        """Answer a browser that asks what a page may do."""
        origin = request.headers.get("origin")
        if origin is None or origin not in self._settings.origins:
            return detail(403, "this page may not use the training server")
        headers = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, HEAD, POST",
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }
        return Response(status_code=204, headers=headers)

    def refuse_page(self, host: str | None, origin: str | None) -> str | None:
        """Why what a page asks for is refused; None if it may ask."""
        foreign = None if origin in self._settings.origins else origin
        refusal = self._gate.refuse_page(host, foreign)
        return refusal.text.strip() if refusal is not None else None

    def _refusal(self, request: Request, limit: LimitName, takes: Permission) -> Response | None:
        headers = request.headers
        text = self.refuse_page(headers.get("host"), headers.get("origin"))
        if text is not None:
            return detail(403, text)
        peer = request.client.host if request.client is not None else ""
        job_id = request.path_params.get("job_id")
        grant = self.grant(token_of(headers, request.query_params), peer, job_id)
        if grant is None:
            return detail(401, NO_TOKEN)
        if not grant.may(takes):
            return detail(403, wrong_role(grant.role, takes))
        request.state.shows_output = grant.may("read_output")
        request.state.token_id = grant.token_id
        let_in(request.scope)
        wait_s = self._limits[limit].wait_s(peer, time.monotonic())
        if wait_s > 0:
            response = detail(429, f"Rate limit exceeded: try again in {wait_s:.0f} seconds")
            response.headers["Retry-After"] = str(int(wait_s) + 1)
            return response
        return None


def detail(status: int, text: str) -> Response:
    """An error, as clients of the dialect read it."""
    return JSONResponse({"detail": text}, status_code=status)
