"""Serves the dashboard's files.

The page is static and open: it holds no secret, and can do nothing without a token, which the
browser gets in the fragment of the address and keeps to itself. Its policy lets it load scripts and
talk to nobody but us, and lets nobody frame it. Pictures, sound and films of jobs come as `blob:`:
the page has fetched them with its token, and only its own scripts make such addresses.
"""

import hashlib
import mimetypes
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lineshaft_coordinator.server.admission import Door

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Site:
    """Every file of the page, read when it is first asked for."""

    def __init__(self) -> None:
        folder = resources.files("lineshaft_coordinator.page") / "assets"
        self._files = dict(_walk(folder, ""))
        self._read: dict[str, tuple[bytes, str]] = {}

    def routes(self) -> list[Route]:
        """The page at `/`, and what it loads."""
        return [Route("/", self._index), Route("/assets/{name:path}", self._asset)]

    def doors(self) -> list[Door]:
        """No WebSocket."""
        return []

    async def _index(self, request: Request) -> Response:
        return self._answer(request, "index.html")

    async def _asset(self, request: Request) -> Response:
        return self._answer(request, str(request.path_params["name"]))

    def _answer(self, request: Request, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            return PlainTextResponse("there is no such file\n", status_code=404)
        if name not in self._read:
            content = file.read_bytes()
            self._read[name] = content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        content, tag = self._read[name]
        headers = {**HEADERS, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        suffix = name[name.rfind(".") :]
        kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
        return Response(content, media_type=kind, headers=headers)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for each in folder.iterdir():
        name = prefix + each.name
        found += _walk(each, f"{name}/") if each.is_dir() else [(name, each)]
    return found
