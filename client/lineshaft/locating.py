"""Where the coordinator is, and how to prove to each other who we are."""

import asyncio
import hashlib
import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lineshaft.errors import (
    AccessDeniedError,
    CertificateError,
    CoordinatorUnreachableError,
    InvalidUrlError,
)

CLIENT_PATH = "/v1/client"

_PINNED = re.compile(r"ls1\.([0-9a-f]{64})\.(.+)")
_LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Place:
    """A coordinator, as a client finds it."""

    url: str
    """`ws://` or `wss://`, with host, and with the path of clients."""
    token: str | None = field(repr=False)
    pin: str | None = None
    """SHA-256 of the one certificate that is trusted; None trusts what the system trusts."""

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody in between can read or change what is said."""
        return self.url.startswith("wss://")


def locate(
    url: str | None, token: str | None, *, environ: Mapping[str, str] | None = None
) -> Place:
    """Find the coordinator: as told, by `LINESHAFT_URL`, or the one of this machine.

    A token may be given, or be in `LINESHAFT_TOKEN`, in the file `LINESHAFT_TOKEN_FILE`, or in
    `token` in the folder `LINESHAFT_HOME` (`~/.lineshaft`), where the coordinator of this machine
    puts it. The last is for that coordinator only.

    Raises:
        InvalidUrlError: The text is no URL.
        CoordinatorUnreachableError: No URL is given, and there is none of this machine.
        AccessDeniedError: The file of the token cannot be read.
        CertificateError: The token is for an encrypted connection, and this would be none.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("LINESHAFT_HOME") or Path.home() / ".lineshaft").expanduser()
    given = url or environ.get("LINESHAFT_URL")
    local_url = _local_url(home)
    if given is None and local_url is None:
        raise CoordinatorUnreachableError(
            "this machine",
            f"none is running here ({home / 'coordinator.json'} is missing). Start one with "
            "`lineshaft up`, or pass the URL of another: Client('host:7433') or LINESHAFT_URL",
        )
    found = token or _environment_token(environ)
    full_url = _full_url(given or local_url or "", is_pinned=bool(found and _PINNED.match(found)))
    if found is None and (given is None or _is_local(full_url)):
        found = _file_token(home / "token")
    pinned = _PINNED.fullmatch(found) if found else None
    place = Place(full_url, found, pinned.group(1) if pinned else None)
    if place.pin is not None and not place.is_encrypted and not _is_local(full_url):
        raise CertificateError(full_url, place.pin, None)
    return place


async def trust(place: Place, *, timeout_s: float) -> ssl.SSLContext | None:
    """Return whom to trust at the place, once it is known to be the right one; sends no token.

    Args:
        place: Of the coordinator.
        timeout_s: Longest time to ask for its certificate, in seconds.

    Raises:
        CertificateError: Another certificate than the token names.
        OSError: The server cannot be reached, or speaks no TLS.
    """
    if not place.is_encrypted:
        return None
    if place.pin is None:
        return ssl.create_default_context()
    parts = urlsplit(place.url)
    address = (parts.hostname or "", parts.port or 443)
    certificate = await asyncio.to_thread(ssl.get_server_certificate, address, timeout=timeout_s)
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    if found != place.pin:
        raise CertificateError(place.url, place.pin, found)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate is known by itself, not by its name or by who signed it.
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _full_url(url: str, *, is_pinned: bool) -> str:
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        scheme, rest = "wss" if is_pinned else "ws", scheme
    scheme = {"http": "ws", "https": "wss"}.get(scheme.lower(), scheme.lower())
    rest = rest.rstrip("/").removesuffix(CLIENT_PATH)
    full = f"{scheme}://{rest}{CLIENT_PATH}"
    try:
        parts = urlsplit(full)
        is_sound = scheme in {"ws", "wss"} and parts.hostname and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound or "?" in rest or "#" in rest or " " in rest:
        raise InvalidUrlError(url)
    return full


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in _LOCAL_HOSTS


def _local_url(home: Path) -> str | None:
    try:
        described: object = json.loads((home / "coordinator.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    match described:
        case {"url": str(url)}:
            return url
        case _:
            return None


def _environment_token(environ: Mapping[str, str]) -> str | None:
    if token := environ.get("LINESHAFT_TOKEN", "").strip():
        return token
    if path := environ.get("LINESHAFT_TOKEN_FILE"):
        try:
            return Path(path).expanduser().read_text(encoding="utf-8").strip() or None
        except OSError as error:
            text = f"LINESHAFT_TOKEN_FILE names {path}, which cannot be read ({error.strerror})."
            raise AccessDeniedError("the coordinator", text) from error
    return None


def _file_token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None  # A coordinator on this machine may do without.
