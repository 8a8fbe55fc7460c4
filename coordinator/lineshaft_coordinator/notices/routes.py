"""`/api/checkpoints/latest`: the last notice of a model, for those that come late."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.notices.announcer import Announcer
from lineshaft_coordinator.server.admission import Door
from lineshaft_coordinator.server.guard import Guard, Refusal

PATH = "/api/checkpoints/latest"


class NoticeRoutes:
    """Serves notices.

    Args:
        announcer: ``None`` if nothing is announced.
    """

    def __init__(self, announcer: Announcer | None, guard: Guard) -> None:
        self._announcer, self._guard = announcer, guard

    def routes(self) -> list[Route]:
        """The HTTP endpoint."""
        return [Route(PATH, self._latest)]

    def doors(self) -> list[Door]:
        """No WebSockets: Redis tells."""
        return []

    async def _latest(self, request: Request) -> Response:
        grant = self._guard.enter(request)
        if isinstance(grant, Refusal):
            return _error(grant.status, grant.text)
        model_name = request.query_params.get("model_name")
        if not model_name:
            return _error(400, f"name the model: {PATH}?model_name=NAME")
        if self._announcer is None:
            return _error(
                404, "checkpoint notices are off; start the coordinator with REDIS_URL set"
            )
        notice = await self._announcer.last(model_name)
        if notice is None:
            return _error(404, f"no checkpoint of {model_name[:200]!r} was announced")
        return JSONResponse(json.loads(notice.to_json()))


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text.strip()}, status_code=status)
