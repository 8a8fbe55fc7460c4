"""Commands about who may do what: log in here, and tokens on the head node."""

import asyncio
import hashlib
import json
import os
import socket
import ssl
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Protocol, cast
from urllib.parse import urlsplit

import typer

from lineshaft.cli.exits import NotFoundError, UsageError
from lineshaft.cli.flags import Json
from lineshaft.cli.output import Column, Output

ROLES = ("worker", "client", "viewer", "admin")
PORT = 7433

Data = Annotated[
    Path | None, typer.Option("--data", help="The coordinator's data folder; default HOME/data.")
]


class Grant(Protocol):
    """A token, as the coordinator lists it."""

    @property
    def token_id(self) -> str:
        """Names it."""
        ...

    @property
    def role(self) -> str:
        """What it opens."""
        ...


class Tokens(Protocol):
    """The coordinator's tokens."""

    def create(self, role: str, name: str | None) -> tuple[str, str]:
        """Make one; returns its id and its secret."""
        ...

    def revoke(self, token_id: str) -> bool:
        """Forget one."""
        ...

    def listed(self) -> Sequence[Grant]:
        """All of them."""
        ...


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="As wss://head-node:7433.")],
    token: Annotated[
        str | None, typer.Option(help="From 'lineshaft token create --role client'.")
    ] = None,
    is_json: Json = False,
) -> None:
    """Keep where the coordinator is and what opens it, once it has let us in."""
    from lineshaft.async_client import AsyncClient  # noqa: PLC0415 - takes long
    from lineshaft.cli.asking import CONNECT_S, whereabouts  # noqa: PLC0415 - likewise

    output = Output(is_json=is_json)
    secret = token or os.environ.get("LINESHAFT_TOKEN") or _asked()
    is_pinned = secret.startswith("ls1.") and "://" not in url
    place = whereabouts(f"wss://{url}" if is_pinned else url, secret)

    async def try_it() -> None:
        async with AsyncClient(place.url, token=place.token, connect_timeout=CONNECT_S):
            pass

    asyncio.run(try_it())
    path = place.home.expanduser() / "login.json"
    _write_private(path, json.dumps({"url": place.url, "token": place.token}) + "\n")
    if output.is_json:
        output.document({"url": place.url, "file": str(path)})
    else:
        output.line(f"logged in to {place.url}; kept in {path}")


def _asked() -> str:
    secret: str = typer.prompt("Token", hide_input=True, err=True)
    return secret.strip()


def tokens() -> typer.Typer:
    """Return the commands about tokens."""
    app = typer.Typer(help="Make, list and revoke tokens, on the head node.", no_args_is_help=True)
    app.command()(create)
    app.command("list")(listed)
    app.command()(revoke)
    return app


def create(
    role: Annotated[str, typer.Option(help=f"What it opens: {', '.join(ROLES)}.")] = "worker",
    host: Annotated[
        str | None, typer.Option(help="Name of this machine for others; default its host name.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Whose it is, as alice: shown as the owner of jobs.")
    ] = None,
    data: Data = None,
    is_json: Json = False,
) -> None:
    """Make a token and print how to use it; its secret is shown this once."""
    from lineshaft.cli.dashboard import page_address  # noqa: PLC0415 - takes long

    output = Output(is_json=is_json)
    if role not in ROLES:
        raise UsageError(f"no role {role!r}; there are: {', '.join(ROLES)}")
    home = _home()
    folder = data or home / "data"
    url = _coordinator_url(home)
    token_id, secret = _tokens(folder).create(role, name)
    pin = _pin(url, folder)
    token = f"ls1.{pin}.{secret}" if pin else secret
    is_local = url.startswith("ws://")
    reachable = url if is_local else _seen_from_outside(url, host)
    # Viewers have no commands: what they may see is on the page.
    joins = {
        "worker": f"lineshaft worker {reachable} --token {token}",
        "viewer": page_address(reachable, token),
    }
    line = joins.get(role, f"lineshaft login {reachable} --token {token}")
    if is_json:
        document = {"id": token_id, "role": role, "token": token, "url": reachable, "join": line}
        output.document(document)
        return
    what = "in a browser there, open" if role == "viewer" else "on the other machine"
    output.note(f"token {token_id} for a {role}; {what}:")
    if is_local:
        port = urlsplit(url).port
        output.note(
            "(the coordinator listens on this machine only, so first: "
            f"ssh -N -L {port}:127.0.0.1:{port} {host or socket.gethostname()})"
        )
    output.command(line)


def listed(data: Data = None, is_json: Json = False) -> None:
    """List the tokens, without their secrets, which nobody keeps."""
    output = Output(is_json=is_json)
    grants = _tokens(data or _home() / "data").listed()
    if is_json:
        output.document([{"id": each.token_id, "role": each.role} for each in grants])
        return
    output.table([Column("ID"), Column("ROLE")], [[each.token_id, each.role] for each in grants])


def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="From 'lineshaft token list'.")],
    data: Data = None,
    is_json: Json = False,
) -> None:
    """Forget a token; who has it is not let in again, but stays as long as connected."""
    output = Output(is_json=is_json)
    if not _tokens(data or _home() / "data").revoke(token_id):
        raise NotFoundError(f"no token has the id {token_id}; 'lineshaft token list' lists them")
    if is_json:
        output.document({"id": token_id, "revoked": True})
    else:
        output.line(f"token {token_id} is revoked")


def _tokens(folder: Path) -> Tokens:
    from lineshaft.cli.daemons import COORDINATOR_MODULES, need  # noqa: PLC0415 - a cycle else

    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no data folder of a coordinator; run this on the head node, as the user "
            "who runs the coordinator, or name its folder with --data"
        )
    need("lineshaft token", "coordinator", COORDINATOR_MODULES)
    # By name: the client may not depend on the coordinator, which need not be installed.
    module = import_module("lineshaft_coordinator.server.admission")
    # No token equals the empty one: here it only says that there is no local token to compare.
    return cast("Tokens", module.Tokens(folder, ""))  # as its methods there say


def _home() -> Path:
    from lineshaft_runtime.locating import home_of  # noqa: PLC0415 - takes long

    return home_of(os.environ).expanduser()


def _coordinator_url(home: Path) -> str:
    path = home / "coordinator.json"
    try:
        return str(json.loads(path.read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path} does not say where the coordinator listens; start it once before tokens "
            "are made, and set LINESHAFT_HOME if it was set there"
        ) from error


def _pin(url: str, folder: Path) -> str | None:
    """Return the hash of our own certificate, if that is the one in use; others are not pinned."""
    certificate = folder / "tls" / "certificate.pem"
    if not url.startswith("wss:") or not certificate.exists():
        return None
    pem = certificate.read_text()
    der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") :])
    parts = urlsplit(url)
    try:
        shown = ssl.get_server_certificate((parts.hostname or "", parts.port or PORT), timeout=3)
    except OSError:
        return hashlib.sha256(der).hexdigest()  # It is not running; the certificate stays.
    return hashlib.sha256(der).hexdigest() if ssl.PEM_cert_to_DER_cert(shown) == der else None


def _seen_from_outside(url: str, host: str | None) -> str:
    parts = urlsplit(url)
    is_loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    name = host or (socket.gethostname() if is_loopback else parts.hostname or "")
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{parts.port or PORT}"


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
