"""What may stand in queries of `/api/v1`: what is not known there is refused, not overlooked.

A table of its own: the one with the schemas of answers costs memory.
"""

from collections.abc import Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

OWN: Final = "/api/v1/"
_JOB: Final = f"{OWN}jobs/{{job_id}}"
_RUN: Final = f"{OWN}runs/{{run}}"
_OF: Final = ("experiment",)

QUERIES: Final[dict[str, tuple[str, ...]]] = {
    f"{OWN}jobs": (
        "status",
        "limit",
        "before",
        "kind",
        "tag",
        "name",
        "find",
        "since",
        "owner",
    ),
    f"{_JOB}/events": ("after_attempt", "after_seq", "limit"),
    f"{_JOB}/logs": ("attempt", "stream", "offset", "tail", "limit", "wait"),
    f"{_JOB}/live": ("since_seq", "since", "metrics", "kinds", "rate", "gaps"),
    f"{OWN}arrays/{{job_id}}": ("status", "offset", "limit"),
    f"{OWN}runs": ("experiment", "status", "tag", "limit", "offset"),
    _RUN: _OF,
    f"{_RUN}/metrics": (
        *_OF,
        "names",
        "since_step",
        "until_step",
        "max_points",
        "attempts",
        "system",
    ),
    f"{_RUN}/histograms": (*_OF, "tag", "limit"),
    f"{_RUN}/text": (*_OF, "file", "offset"),
    f"{_RUN}/artifacts/content": (*_OF, "path", "file_id", "preview"),
    f"{OWN}compare": ("runs", "names"),
}
"""By path; the other paths take none. A token may stand in any."""


def refuse_unknown(routes: Iterable[Route]) -> list[Route]:
    """Let those of our own interface refuse other names than they know; returns all of them."""
    found = list(routes)
    for route in found:
        if route.path.startswith(OWN):
            route.app = _Checked(route.app, route.path)
    return found


def complaint(path: str, asked: Iterable[str]) -> str | None:
    """Say what is wrong with the names in a query, for who asks; None if nothing is.

    Args:
        path: As in `QUERIES`.
        asked: The names.
    """
    names = QUERIES.get(path, ())
    unknown = next((name for name in asked if name not in (*names, "token")), None)
    if unknown is None:
        return None
    known = ", ".join(names) or "nothing but token"
    return f"{path} does not take {unknown[:40]!r} in its query: it takes {known}"


class _Checked:
    """An ASGI application that answers only what it knows all names of."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("query_string"):
            problem = complaint(self._path, Request(scope).query_params)
            if problem is not None:
                await JSONResponse({"error": problem}, status_code=400)(scope, receive, send)
                return
        await self._app(scope, receive, send)
