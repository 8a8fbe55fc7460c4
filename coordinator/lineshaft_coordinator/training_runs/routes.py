"""`/api/training/runs` and its stream, as clients of seed 000 use them."""

from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lineshaft_coordinator.feeds.viewer_queue import QueueLimits
from lineshaft_coordinator.feeds.viewers import WEBSOCKET_LIMITS, WebSocketViewer
from lineshaft_coordinator.server.admission import Door, Grant, Visit
from lineshaft_coordinator.server.query_numbers import number
from lineshaft_coordinator.store.errors import StoreError
from lineshaft_coordinator.training_runs.answering import Answering, body_of, told
from lineshaft_coordinator.training_runs.bodies import (
    CompleteBody,
    LogBody,
    MetricsBody,
    RunBody,
)
from lineshaft_coordinator.training_runs.desk import RunDesk, RunError
from lineshaft_coordinator.training_runs.messages import RunDialect
from lineshaft_coordinator.training_runs.reported import NewRun
from lineshaft_coordinator.training_runs.words import STATUSES, Status
from lineshaft_runtime.connection import Admitted
from lineshaft_runtime.opening import Rejection

RUNS = "/api/training/runs"
RUN = f"{RUNS}/{{run_id}}"
RING = QueueLimits(messages=100)
"""What the seed keeps for a viewer who falls behind."""
LISTED_MAX = 1000
LINES_MAX = 10_000


class RunRoutes:
    """Serves runs."""

    def __init__(self, desk: RunDesk, answering: Answering) -> None:
        self._desk, self._answering = desk, answering

    def routes(self) -> Sequence[Route]:
        """The REST interface."""
        guarded = self._answering.guarded
        return [
            Route(RUNS, guarded(self._list, "look"), methods=["GET"]),
            Route(RUNS, guarded(self._create), methods=["POST"]),
            Route(RUN, guarded(self._get, "look"), methods=["GET"]),
            Route(RUN, guarded(self._delete), methods=["DELETE"]),
            Route(f"{RUN}/stop", guarded(self._stop, "control"), methods=["POST"]),
            Route(f"{RUN}/complete", guarded(self._complete), methods=["POST"]),
            Route(f"{RUN}/metrics", guarded(self._metrics, "look"), methods=["GET"]),
            Route(f"{RUN}/metrics", guarded(self._record), methods=["POST"]),
            Route(f"{RUN}/logs", guarded(self._logs, "read_output"), methods=["GET"]),
            Route(f"{RUN}/logs", guarded(self._log), methods=["POST"]),
        ]

    def doors(self) -> Sequence[Door]:
        """The stream."""
        return [
            Door(
                f"{RUN}/stream",
                self._admit,
                no_token="Missing token parameter. Connect with ?token=<jwt>",  # noqa: S106 - a text
                bad_token="Invalid token: not one of this coordinator's",  # noqa: S106 - a text
                takes="look",
            )
        ]

    def _admit(self, visit: Visit) -> Admitted | Rejection:
        run_id = visit.params["run_id"]
        try:
            hub = self._desk.hub_of(run_id, visit.grant)
        except RunError as error:
            return Rejection(error.status, str(error))
        except StoreError as error:
            return Rejection(500, f"{error}\n")
        viewer = WebSocketViewer(
            partial(hub.subscribe, run_id),
            partial(hub.unsubscribe, run_id),
            RunDialect(),
            limits=RING,
            drops=hub.drops,
        )
        return Admitted(viewer, WEBSOCKET_LIMITS)

    async def _list(self, request: Request, grant: Grant) -> Response:
        runs = await self._desk.listed(
            grant,
            status=_status(request.query_params.get("status")),
            limit=min(number(request, "limit", 100), LISTED_MAX),
            offset=min(number(request, "offset", 0), 1_000_000),
        )
        return told(runs)

    async def _create(self, request: Request, grant: Grant) -> Response:
        body = await body_of(request, RunBody)
        new = NewRun(
            name=body.name,
            model_type=body.model_type,
            config=body.config.model_dump(mode="json"),
            model_version_id=body.model_version_id,
            dataset_id=body.dataset_id,
        )
        return told(await self._desk.create(grant, new), 201)

    async def _get(self, request: Request, grant: Grant) -> Response:
        return told(await self._desk.get(grant, _run_id(request)))

    async def _delete(self, request: Request, grant: Grant) -> Response:
        await self._desk.delete(grant, _run_id(request))
        return Response(status_code=204)

    async def _stop(self, request: Request, grant: Grant) -> Response:
        return told(await self._desk.stop(grant, _run_id(request)))

    async def _complete(self, request: Request, grant: Grant) -> Response:
        body = await body_of(request, CompleteBody)
        run = await self._desk.complete(grant, _run_id(request), success=body.success)
        return told(run)

    async def _metrics(self, request: Request, grant: Grant) -> Response:
        return told(await self._desk.metrics(grant, _run_id(request)))

    async def _record(self, request: Request, grant: Grant) -> Response:
        body = await body_of(request, MetricsBody)
        values = body.model_dump(mode="json", exclude_none=True, exclude={"custom"})
        shown = await self._desk.record(grant, _run_id(request), values, body.custom)
        return told(shown, 201)

    async def _logs(self, request: Request, grant: Grant) -> Response:
        lines = await self._desk.logs(
            grant,
            _run_id(request),
            offset=min(number(request, "offset", 0), 1_000_000_000),
            limit=min(number(request, "limit", LINES_MAX), LINES_MAX),
        )
        return told({"logs": lines})

    async def _log(self, request: Request, grant: Grant) -> Response:
        body = await body_of(request, LogBody)
        entry = await self._desk.log(grant, _run_id(request), body.level, body.message)
        return told(entry, 201)


def _run_id(request: Request) -> str:
    return str(request.path_params["run_id"])


def _status(text: str | None) -> Status | None:
    # An unknown word is no filter, as in the seed.
    return next((status for status in STATUSES if status == text), None)
