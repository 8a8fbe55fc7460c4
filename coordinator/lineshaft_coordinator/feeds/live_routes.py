"""`/api/v1/jobs/{id}/live`: a job as it goes, on a WebSocket or as server-sent events."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lineshaft_coordinator.feeds.event_stream import END_ID, EventStream
from lineshaft_coordinator.feeds.hub import Hub
from lineshaft_coordinator.feeds.live_dialect import KINDS, KINDS_USUAL, LiveDialect, lagged
from lineshaft_coordinator.feeds.places import parse_place
from lineshaft_coordinator.feeds.thinner import RATE_MAX, RATE_MIN, Thinner
from lineshaft_coordinator.feeds.told import Place
from lineshaft_coordinator.feeds.viewers import WEBSOCKET_LIMITS, WebSocketViewer
from lineshaft_coordinator.server.admission import Door, Grant, Visit
from lineshaft_coordinator.server.api_queries import complaint
from lineshaft_coordinator.server.guard import Guard, Refusal
from lineshaft_coordinator.server.questions import Questions, UnknownJobError
from lineshaft_coordinator.server.roles import wrong_role
from lineshaft_coordinator.store.errors import StoreError
from lineshaft_protocol.ids import JobId
from lineshaft_runtime.connection import Admitted
from lineshaft_runtime.opening import Rejection

PATH = "/api/v1/jobs/{job_id}/live"


class LiveRoutes:
    """Serves Lineshaft's own feed."""

    def __init__(self, hub: Hub, questions: Questions, guard: Guard) -> None:
        self._hub, self._questions, self._guard = hub, questions, guard

    def routes(self) -> list[Route]:
        """Server-sent events."""
        return [Route(PATH, _Endpoint(self))]

    def doors(self) -> list[Door]:
        """The WebSocket."""
        return [Door(PATH, self._admit, takes="look")]

    def _admit(self, visit: Visit) -> Admitted | Rejection:
        problem = complaint(PATH, visit.request.query)
        if problem is not None:
            return Rejection(400, f"{problem}\n")
        try:
            asked = _Asked.read(visit.request.query, visit.grant)
        except _HiddenError as error:
            return Rejection(403, f"{error}\n")
        except ValueError as error:
            return Rejection(400, f"{error}\n")
        job_id = visit.params["job_id"]
        viewer = WebSocketViewer(
            partial(self._hub.subscribe, job_id, since=asked.since),
            partial(self._hub.unsubscribe, job_id),
            asked.dialect,
            gap=lagged if asked.wants_gaps else None,
            thinner=asked.thinner(),
            drops=self._hub.drops,
        )
        return Admitted(viewer, WEBSOCKET_LIMITS)

    async def answer(self, request: Request) -> Response | EventStream:
        """Begin a stream of events, or say why not."""
        grant = self._guard.enter(request, "look")
        if isinstance(grant, Refusal):
            return _error(grant.status, grant.text)
        job_id = JobId(str(request.path_params["job_id"]))
        last_id = request.headers.get("last-event-id")
        if last_id == END_ID:
            return Response(status_code=204)  # Tells a browser not to come again.
        query = dict(request.query_params)
        if last_id:
            query["since"] = last_id
        try:
            asked = _Asked.read(query, grant)
            await self._questions.job(job_id)
        except UnknownJobError as error:
            return _error(404, str(error))
        except StoreError as error:
            return _error(500, str(error))
        except _HiddenError as error:
            return _error(403, str(error))
        except ValueError as error:
            return _error(400, str(error))
        return EventStream(
            partial(self._hub.subscribe, job_id, since=asked.since),
            partial(self._hub.unsubscribe, job_id),
            asked.dialect,
            gap=lagged,
            thinner=asked.thinner(),
            drops=self._hub.drops,
        )


class _Endpoint:
    """An ASGI application of its own: an EventStream is none of Starlette's responses."""

    def __init__(self, routes: LiveRoutes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._routes.answer(Request(scope, receive))
        await response(scope, receive, send)


class _HiddenError(Exception):
    """A viewer asks for what viewers do not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a viewer wants to see."""

    since: Place | None
    dialect: LiveDialect
    rate: float | None
    wants_gaps: bool

    @staticmethod
    def read(query: Mapping[str, str], grant: Grant) -> "_Asked":
        """Read a query.

        Raises:
            _HiddenError: It asks for output, and the token is for a viewer.
            ValueError: It asks for something that there is not.
        """
        since = query.get("since_seq", query.get("since"))
        kinds = _kinds(query.get("kinds"))
        if "log" in kinds and not grant.may("read_output"):
            raise _HiddenError(wrong_role(grant.role, "read_output"))
        return _Asked(
            since=parse_place(since) if since is not None else None,
            dialect=LiveDialect(
                kinds, _listed(query.get("metrics")), shows_output=grant.may("read_output")
            ),
            rate=_rate(query.get("rate")),
            wants_gaps=query.get("gaps", "1") != "0",
        )

    def thinner(self) -> Thinner | None:
        """Make what sums up for this viewer."""
        return None if self.rate is None else Thinner(self.rate)


def _kinds(text: str | None) -> frozenset[str]:
    if text is None:
        return KINDS_USUAL
    kinds = frozenset(_listed(text))
    if unknown := sorted(kinds - KINDS):
        raise ValueError(f"kinds may be {', '.join(sorted(KINDS))}, not {unknown[0][:40]!r}")
    return kinds


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(sorted(name for name in (text or "").split(",") if name))


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not RATE_MIN <= rate <= RATE_MAX:
        raise ValueError(
            f"rate is messages a second, from {RATE_MIN:g} to {RATE_MAX:g}, not {text[:40]!r}"
        )
    return rate


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text.strip()}, status_code=status)
