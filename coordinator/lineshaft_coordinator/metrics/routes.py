"""`/metrics`: the coordinator's numbers, for Prometheus and what reads its format."""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.core.shop import Shop
from lineshaft_coordinator.data.moving import ObjectMover
from lineshaft_coordinator.metrics.census import census
from lineshaft_coordinator.metrics.exposition import (
    CONTENT_TYPE,
    Family,
    Histogram,
    Split,
    Written,
    exposition,
)
from lineshaft_coordinator.metrics.meter import Meter
from lineshaft_coordinator.server.admission import Door
from lineshaft_coordinator.server.guard import Guard, Refusal

PATH = "/metrics"


class MetricsRoutes:
    """Answers scrapes.

    On loopback no token is asked for: scrapers rarely have one, and what is told (counts, and names
    of workers and GPUs) is what `/info` tells there, too. Elsewhere a token is needed as for all
    else.

    Args:
        data: The coordinator's folder.
        blob_bytes: How much is stored as blobs.
        drops: How many messages to live viewers were dropped.
        objects: To and from the object store; None if there is none.
        certificate_expires_at: When what is shown expires, in seconds since 1970; None without TLS.
        is_loopback: Whether only this machine can reach us.
    """

    def __init__(  # noqa: PLR0913 - each is told
        self,
        shop: Shop,
        meter: Meter,
        guard: Guard,
        *,
        data: Path,
        blob_bytes: Callable[[], int],
        drops: Callable[[], int],
        objects: ObjectMover | None = None,
        certificate_expires_at: float | None = None,
        is_loopback: bool,
    ) -> None:
        self._objects, self._certificate_expires_at = objects, certificate_expires_at
        self._shop, self._meter, self._guard = shop, meter, guard
        self._data, self._blob_bytes, self._drops = data, blob_bytes, drops
        self._is_loopback = is_loopback

    def routes(self) -> list[Route]:
        """The one endpoint."""
        return [Route(PATH, self._scrape)]

    def doors(self) -> list[Door]:
        """No WebSocket."""
        return []

    async def _scrape(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return PlainTextResponse(f"{refusal.text.strip()}\n", status_code=refusal.status)
        now = asyncio.get_running_loop().time()
        free_bytes = await asyncio.to_thread(_free_bytes, self._data)
        told: list[Written] = [*self._meter.families, self._environments()]
        told += [*census(self._shop, now), *self._rest(free_bytes)]
        if self._objects is not None:
            told += _of_objects(self._objects)
        if self._certificate_expires_at is not None:
            told.append(_of_certificate(self._certificate_expires_at))
        return Response(exposition(told), media_type=CONTENT_TYPE)

    def _refusal(self, request: Request) -> Refusal | None:
        if self._is_loopback:
            return self._guard.refuse_page(request)
        grant = self._guard.enter(request, "look")
        return grant if isinstance(grant, Refusal) else None

    def _environments(self) -> Split:
        made, hits = self._meter.builds, self._shop.environment_hits
        found = Histogram(made.name, made.help, made.bounds)
        found.counts, found.sum_s = list(hits.counts), hits.sum_s
        return Split("hit", {"true": found, "false": made})

    def _rest(self, free_bytes: int) -> Iterable[Family]:
        return (
            Family(
                "lineshaft_ws_dropped_total",
                "Messages to live viewers that were dropped because they read too slowly.",
                "counter",
                {(): self._drops()},
            ),
            Family(
                "lineshaft_blob_bytes",
                "What is stored as blobs.",
                "gauge",
                {(): self._blob_bytes()},
            ),
            Family(
                "lineshaft_data_free_bytes",
                "Room on the disk of the data folder.",
                "gauge",
                {(): free_bytes},
            ),
        )


def _of_certificate(expires_at: float) -> Family:
    return Family(
        "lineshaft_tls_certificate_expires_seconds",
        "When the certificate that is shown expires, in seconds since 1970.",
        "gauge",
        {(): expires_at},
    )


def _of_objects(objects: ObjectMover) -> tuple[Family, Family]:
    return (
        Family(
            "lineshaft_object_store_up",
            "Whether the object store can be used, as far as is known.",
            "gauge",
            {(): int(objects.problem is None)},
        ),
        Family(
            "lineshaft_object_store_waiting_blobs",
            "Blobs on the disk that are to be moved to the object store.",
            "gauge",
            {(): objects.waiting_count},
        ),
    )


def _free_bytes(data: Path) -> int:
    found = os.statvfs(data)
    return found.f_bavail * found.f_frsize
