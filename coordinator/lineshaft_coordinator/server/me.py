"""`/api/v1/me`: who somebody is to the coordinator, by the token that they bring."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.server.admission import Door
from lineshaft_coordinator.server.guard import Guard, Refusal

PATH = "/api/v1/me"


class MeRoutes:
    """Tells people and programs what their token is good for, before they try."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def routes(self) -> list[Route]:
        """The one endpoint."""
        return [Route(PATH, self._me)]

    def doors(self) -> list[Door]:
        """No WebSocket."""
        return []

    async def _me(self, request: Request) -> Response:
        grant = self._guard.enter(request, "look")
        if isinstance(grant, Refusal):
            return JSONResponse({"error": grant.text.strip()}, status_code=grant.status)
        return JSONResponse(
            {
                "role": grant.role,
                "token": grant.token_id,
                "permissions": [*grant.permissions],
            }
        )
