"""Commands that tell what is set, and where that comes from."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import typer

from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Column, Output
from lineshaft_protocol.version import __version__

HIDDEN = "(hidden)"


class Setting(NamedTuple):
    """One setting and where it comes from."""

    name: str
    value: str | None
    origin: str


def configuration() -> typer.Typer:
    """Return the commands about settings."""
    app = typer.Typer(help="Show what is set, and by what.", no_args_is_help=True)
    app.callback()(_group)
    app.command()(show)
    return app


def _group() -> None:
    pass  # With a single command, typer would leave its name out.


def show(is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """Show which coordinator commands would ask, with which token, and why that one."""
    output = Output(is_json=is_json)
    settings = effective(url, token, os.environ)
    if is_json:
        output.document(
            {each.name: {"value": each.value, "origin": each.origin} for each in settings}
        )
        return
    columns = [Column("SETTING"), Column("VALUE"), Column("ORIGIN")]
    output.table(columns, [[each.name, each.value or "", each.origin] for each in settings])


def effective(url: str | None, token: str | None, environ: Mapping[str, str]) -> list[Setting]:
    """Return all settings of a client. Secrets are hidden."""
    from lineshaft_runtime.locating import home_of  # noqa: PLC0415 - takes long

    home = home_of(environ)
    home_origin = "LINESHAFT_HOME" if environ.get("LINESHAFT_HOME") else "default"
    return [
        Setting("home", str(home), home_origin),
        _url(url, environ, home),
        _token(token, environ, home),
    ]


def _url(url: str | None, environ: Mapping[str, str], home: Path) -> Setting:
    from lineshaft_runtime.locating import normal_url  # noqa: PLC0415 - takes long

    if url:
        return Setting("url", normal_url(url), "--url")
    if given := environ.get("LINESHAFT_URL"):
        return Setting("url", normal_url(given), "LINESHAFT_URL")
    for name in ("login.json", "coordinator.json"):
        if (home / name).exists():
            from lineshaft.cli.asking import whereabouts  # noqa: PLC0415 - takes long

            # Any token does, for only the URL is wanted.
            return Setting("url", whereabouts(None, "-").url, str(home / name))
    return Setting("url", None, "not set: no coordinator was started here, and nobody logged in")


def _token(token: str | None, environ: Mapping[str, str], home: Path) -> Setting:
    from lineshaft.cli.asking import whereabouts  # noqa: PLC0415 - takes long
    from lineshaft_protocol.errors import LineshaftError  # noqa: PLC0415 - likewise

    if token:
        return Setting("token", HIDDEN, "--token")
    for name in ("LINESHAFT_TOKEN", "LINESHAFT_TOKEN_FILE"):
        if environ.get(name):
            return Setting("token", HIDDEN, name)
    try:
        found = whereabouts(None, None).token
    except (LineshaftError, OSError) as error:
        return Setting("token", None, f"not set: {error}")
    local = home / "token"
    is_local = local.exists() and local.read_text().strip() == found
    return Setting("token", HIDDEN, str(local if is_local else home / "login.json"))


def version(is_json: Json = False) -> None:
    """Print the version."""
    output = Output(is_json=is_json)
    python = ".".join(map(str, sys.version_info[:3]))
    if is_json:
        from lineshaft_protocol.versions import (  # noqa: PLC0415 - takes long
            PROTOCOL_MAX,
            PROTOCOL_MIN,
        )

        protocol = {"min": PROTOCOL_MIN, "max": PROTOCOL_MAX}
        output.document({"lineshaft": __version__, "python": python, "protocol": protocol})
    else:
        output.line(f"lineshaft {__version__} (Python {python})")
