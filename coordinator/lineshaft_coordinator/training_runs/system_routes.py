"""Health, counts and gauges, as clients of seed 000 ask for them."""

import platform
import time
from collections.abc import Sequence

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.server.admission import Door, Grant, Tokens
from lineshaft_coordinator.server.questions import Questions
from lineshaft_coordinator.store.errors import StoreError
from lineshaft_coordinator.training_runs.answering import Answering
from lineshaft_coordinator.training_runs.desk import RunDesk
from lineshaft_coordinator.training_runs.gauges import Gauges, Machine
from lineshaft_coordinator.training_runs.gpu_gauges import gpu_gauges
from lineshaft_coordinator.training_runs.models import Models
from lineshaft_coordinator.training_runs.words import timestamp
from lineshaft_protocol.version import __version__


class SystemRoutes:
    """Serves what there is to know of the coordinator and its machines."""

    def __init__(
        self,
        questions: Questions,
        desk: RunDesk,
        models: Models,
        machine: Machine,
        tokens: Tokens,
        answering: Answering,
    ) -> None:
        self._questions, self._desk, self._models = questions, desk, models
        self._machine, self._tokens, self._answering = machine, tokens, answering

    def routes(self) -> Sequence[Route]:
        """The REST interface."""
        guarded = self._answering.guarded
        return [
            Route("/health", self._health),
            Route("/api/metrics", guarded(self._metrics, "look")),
            Route("/api/admin/stats", guarded(self._stats, "see_all")),
            Route("/api/system/info", guarded(self._info, "look")),
            Route("/api/system/gpus", guarded(self._gpus, "look")),
            Route("/api/system/metrics", guarded(self._gauges, "look")),
            Route("/api/system/metrics/history", guarded(self._history, "look")),
        ]

    def doors(self) -> Sequence[Door]:
        """None."""
        return ()

    async def _health(self, request: Request) -> Response:
        # Clients of the seed plan protocol ask at the same path, and know only a word. Those of the
        # two training dialects accept JSON, or are pages, and find what each of them expects.
        headers = request.headers
        if "json" not in headers.get("accept", "") and "origin" not in headers:
            return PlainTextResponse("ok")
        try:
            await self._questions.info()
            model_count, is_healthy = await self._models.count(), True
        except StoreError:
            model_count, is_healthy = 0, False
        slots, used = 0, 0
        for worker in self._questions.workers():
            if isinstance(worker, dict):
                slots += _whole(worker["slots"])
                used += _whole(worker["used_slots"])
        word = "healthy" if is_healthy else "unhealthy"
        health = self._questions.health() | {
            "status": word,
            "database": word,
            "inference": "healthy",
            "models_loaded": model_count,
            "pool_size": slots,
            "pool_utilization": used / slots if slots else 0.0,
            "last_check": timestamp(time.time()),
        }
        return JSONResponse(health, status_code=200 if is_healthy else 503)

    async def _metrics(self, request: Request, grant: Grant) -> Response:
        del request, grant
        counts = await self._counts()
        lines = [
            "# TYPE axonml_server_info gauge",
            f'axonml_server_info{{version="{__version__}"}} 1',
        ]
        for name in ("users_total", "runs_running", "endpoints_running"):
            lines += [f"# TYPE axonml_{name} gauge", f"axonml_{name} {counts[name]}"]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def _stats(self, request: Request, grant: Grant) -> Response:
        del request, grant
        return JSONResponse(await self._counts())

    async def _counts(self) -> dict[str, int]:
        reported = await self._desk.reported.counts()
        info = await self._questions.info()
        jobs = info["jobs"]
        job_count = sum(map(_whole, jobs.values())) if isinstance(jobs, dict) else 0
        return {
            "users_total": len(self._tokens.listed()) + 1,
            "runs_total": sum(reported.values()) + job_count,
            "runs_running": reported.get("running", 0)
            + _whole(info["live_jobs"])
            - _whole(info["queued_jobs"]),
            "models_total": await self._models.count(),
            "endpoints_total": 0,
            "endpoints_running": 0,
        }

    async def _info(self, request: Request, grant: Grant) -> Response:
        del request, grant
        gauges = self._machine.now()
        cores = gauges["cpu_per_core"]
        return JSONResponse(
            {
                "hostname": platform.node(),
                "os": platform.system(),
                "kernel": platform.release(),
                "architecture": platform.machine(),
                "cpu_count": len(cores) if isinstance(cores, list) else 0,
                "memory_total_bytes": gauges["memory_total_bytes"],
                "uptime_seconds": gauges["uptime_seconds"],
                "version": __version__,
            }
        )

    async def _gpus(self, request: Request, grant: Grant) -> Response:
        del request, grant
        return JSONResponse(gpu_gauges(self._questions.workers()))

    async def _gauges(self, request: Request, grant: Grant) -> Response:
        del request, grant
        gauges: Gauges = self._machine.now()
        gauges["gpu_metrics"] = gpu_gauges(self._questions.workers())
        return JSONResponse(gauges)

    async def _history(self, request: Request, grant: Grant) -> Response:
        del request, grant
        points = self._machine.history()
        return JSONResponse(
            {
                "timestamps": [point["timestamp"] for point in points],
                "cpu_history": [point["cpu_usage_percent"] for point in points],
                "memory_history": [point["memory_percent"] for point in points],
                "disk_io_read": _grown(points, "disk_read_bytes"),
                "disk_io_write": _grown(points, "disk_write_bytes"),
                "network_rx": _grown(points, "network_rx_bytes"),
                "network_tx": _grown(points, "network_tx_bytes"),
                "gpu_utilization": [point["gpu_utilization"] for point in points],
            }
        )


def _whole(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def _grown(points: Sequence[Gauges], name: str) -> list[JsonValue]:
    """By how much a counter grew since the point before; the first has none before it."""
    counts = [_whole(point[name]) for point in points]
    return [after - before for before, after in zip(counts[:1] + counts, counts, strict=False)]
