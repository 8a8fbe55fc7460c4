"""Commands for the secrets of jobs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from lineshaft.cli.asking import ask
from lineshaft.cli.exits import NotFoundError, UsageError
from lineshaft.cli.flags import Json, Token, Url
from lineshaft.cli.output import Output

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lineshaft.async_client import AsyncClient


def secrets() -> typer.Typer:
    """Return the commands."""
    app = typer.Typer(
        help="Values that jobs get in their environment, kept encrypted by the coordinator.",
        no_args_is_help=True,
    )
    app.command("set")(_set)
    app.command("list")(_list)
    app.command("remove")(_remove)
    return app


def _set(
    name: Annotated[str, typer.Argument(help="As HF_TOKEN; letters, digits and underscores.")],
    url: Url = None,
    token: Token = None,
) -> None:
    """Keep a secret; its value is read from standard input, or asked for."""
    if sys.stdin.isatty():
        value = typer.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        # A pipe usually ends in a newline that is not meant.
        value = sys.stdin.read().removesuffix("\n")
    _keep(name, value, url, token)
    Output().note(f"secret {name} is kept; jobs get it by --secret {name}")


def _remove(
    name: Annotated[str, typer.Argument(help="Of the secret.")],
    url: Url = None,
    token: Token = None,
) -> None:
    """Forget a secret; jobs that have it keep it."""
    if not _keep(name, None, url, token):
        raise NotFoundError(f"no secret {name} is kept; 'lineshaft secret list' lists them")
    Output().note(f"secret {name} was removed")


def _list(is_json: Json = False, url: Url = None, token: Token = None) -> None:
    """List the names of secrets; values are told to nobody but jobs."""
    from lineshaft_protocol.client_messages import Query  # noqa: PLC0415 - takes long

    async def names(client: AsyncClient) -> JsonValue:
        return await client.shell.questions.ask(Query(request_id=0, what="secrets"))

    kept = ask(url, token, names)
    output = Output(is_json=is_json)
    if is_json:
        output.document(kept)
    elif isinstance(kept, dict):
        for name, set_at in kept.items():
            when = time.localtime(set_at if isinstance(set_at, int | float) else 0)
            output.line(f"{name}\tset {time.strftime('%Y-%m-%d %H:%M', when)}")


def _keep(name: str, value: str | None, url: str | None, token: str | None) -> bool:
    from pydantic import ValidationError  # noqa: PLC0415 - takes long

    from lineshaft_protocol.client_messages import KeepSecret  # noqa: PLC0415 - takes long

    try:
        message = KeepSecret(request_id=0, name=name, value=value)
    except ValidationError as error:
        # Without what was given: it may be the value.
        place, text = error.errors(include_input=False)[0]["loc"][0], error.errors()[0]["msg"]
        raise UsageError(f"{place} of the secret: {text}") from None

    async def keep(client: AsyncClient) -> JsonValue:
        return await client.shell.questions.ask(message)

    return ask(url, token, keep) is True
