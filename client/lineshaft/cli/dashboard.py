"""`lineshaft dashboard`: the coordinator's page, with the token that opens it."""

import os
import sys
import webbrowser
from typing import Annotated
from urllib.parse import quote, urlsplit

import typer

from lineshaft.cli.asking import ask, whereabouts
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Output


def dashboard(
    is_browserless: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only.")
    ] = False,
    is_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Open the coordinator's page in a browser; print its address.

    The address has the token behind its '#', which browsers send to nobody. Whoever has the
    address can do what the token allows.
    """
    output = Output(is_json=is_json)
    place = whereabouts(url, token)
    ask(url, token, lambda client: client.workers())  # Or say why nobody answers.
    address = page_address(place.url, place.token)
    if is_json:
        output.document({"url": address})
    else:
        output.line(address)
    if not is_browserless and not is_json and sys.stdout.isatty() and _has_screen():
        webbrowser.open(address)


def page_address(url: str, token: str | None) -> str:
    """Where a browser finds the page of a coordinator, given its WebSocket address."""
    parts = urlsplit(url)
    scheme = "https" if parts.scheme in ("wss", "https") else "http"
    fragment = f"#token={quote(token, safe='')}" if token else ""
    return f"{scheme}://{parts.netloc}/{fragment}"


def _has_screen() -> bool:
    # Without one, Python would start a browser for terminals, over what we just printed.
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
