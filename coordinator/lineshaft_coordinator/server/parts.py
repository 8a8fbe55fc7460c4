"""What serves on the coordinator's port, and which paths each part of it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import Route

from lineshaft_coordinator.data.blobs import BlobStore
from lineshaft_coordinator.feeds.live_routes import LiveRoutes
from lineshaft_coordinator.finetune.routes import TrainingRoutes
from lineshaft_coordinator.finetune.server import TrainingServer
from lineshaft_coordinator.gateway import doors
from lineshaft_coordinator.metrics.routes import MetricsRoutes
from lineshaft_coordinator.notices.announcer import Announcer
from lineshaft_coordinator.notices.routes import NoticeRoutes
from lineshaft_coordinator.page.site import Site
from lineshaft_coordinator.recorder.routes import RunRoutes
from lineshaft_coordinator.recorder.supervisor import Recorder
from lineshaft_coordinator.server.actions import DaemonActions
from lineshaft_coordinator.server.admission import Door, Gate, Tokens, is_loopback
from lineshaft_coordinator.server.certificate_watch import expiry_of
from lineshaft_coordinator.server.daemon import Daemon
from lineshaft_coordinator.server.guard import Guard
from lineshaft_coordinator.server.me import MeRoutes
from lineshaft_coordinator.server.openapi import OpenApiRoutes
from lineshaft_coordinator.server.rest import Rest
from lineshaft_coordinator.settings import CoordinatorSettings
from lineshaft_coordinator.training_runs.server import TrainingRuns


class RouteGroup(Protocol):
    """What one part of the coordinator serves on its port."""

    def routes(self) -> Sequence[Route]:
        """Its HTTP endpoints."""
        ...

    def doors(self) -> Sequence[Door]:
        """Its WebSockets."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that answers requests."""

    daemon: Daemon
    blobs: BlobStore
    actions: DaemonActions
    training: TrainingServer
    runs: TrainingRuns
    announcer: Announcer | None
    recorder: Recorder


def application(
    settings: CoordinatorSettings, parts: Parts, tokens: Tokens, gate: Gate
) -> Starlette:
    """Put all endpoints together; the doors for WebSockets are given to the gate."""
    guard = Guard(tokens, gate)
    groups = _groups(settings, parts, tokens, gate, guard)
    for group in groups:
        gate.doors += group.doors()
    daemon, actions = parts.daemon, parts.actions

    def obstacle() -> str | None:
        return actions.obstacle or daemon.room.obstacle

    more = [route for group in groups for route in group.routes()]
    rest = Rest(daemon.questions, actions, daemon.blob_file, guard, obstacle, more)
    return rest.application()


def _groups(
    settings: CoordinatorSettings, parts: Parts, tokens: Tokens, gate: Gate, guard: Guard
) -> list[RouteGroup]:
    daemon, blobs, runs = parts.daemon, parts.blobs, parts.runs
    shop, is_local = daemon.core.shop, is_loopback(settings.host)
    return [
        *runs.groups(guard, tokens),
        doors.Gateway(daemon.sessions, blobs, shop, guard=guard, is_loopback=is_local),
        LiveRoutes(daemon.feeds, daemon.questions, guard),
        TrainingRoutes(parts.training, tokens, gate),
        NoticeRoutes(parts.announcer, guard),
        MetricsRoutes(
            shop,
            daemon.meter,
            guard,
            data=settings.data,
            blob_bytes=lambda: blobs.total_bytes,
            drops=lambda: daemon.feeds.drops.count + runs.hub.drops.count,
            objects=daemon.questions.objects,
            certificate_expires_at=None
            if settings.tls_certificate is None
            else expiry_of(settings.tls_certificate),
            is_loopback=is_local,
        ),
        MeRoutes(guard),
        OpenApiRoutes(),
        Site(),
        RunRoutes(parts.recorder, guard, daemon.questions, daemon.blob_file),
    ]
