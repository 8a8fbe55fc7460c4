"""Where the coordinator is, and what opens it: arguments, environment, this machine's files."""

import asyncio
import hashlib
import ipaddress
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from lineshaft_protocol.errors import LineshaftError
from lineshaft_protocol.values import value
from lineshaft_runtime.connection_errors import problem_of

PINNED = "ls1"
PIN_TIMEOUT_S = 10.0


class NoCoordinatorError(LineshaftError):
    """Nothing says where the coordinator is."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"no coordinator is known: none was started on this machine ({home} has no "
            "coordinator.json). Start one with 'lineshaft coordinator', or name one by URL or "
            "LINESHAFT_URL."
        )
        self.home = home


class NoTokenError(LineshaftError):
    """Nothing says what opens the coordinator."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"no token for {url}: give one, set LINESHAFT_TOKEN, or run 'lineshaft login'. "
            "'lineshaft token create' on the head node makes one."
        )
        self.url = url


class WrongCertificateError(LineshaftError):
    """Who answers is not the coordinator that was expected; nothing secret was sent."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the certificate of {url} is not the one that the token (or, on its own machine, "
            "coordinator.json) names: somebody else may be answering, or the coordinator has a new "
            "certificate; then make a new token there."
        )
        self.url = url


class UnencryptedTokenError(LineshaftError):
    """A token that names a certificate would be sent where anybody can read it."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the token is for an encrypted connection only, and {url} is none; write wss://"
        )
        self.url = url


class BadUrlError(LineshaftError, ValueError):
    """A text does not name a coordinator."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} names no coordinator; write it as ws://host:7433 or host:7433")
        self.text = text


class BadTokenError(LineshaftError):
    """A text that was given as a token is none. The text of the error does not have it."""

    def __init__(self) -> None:
        super().__init__(
            "the token has a character that no token has, as a space, a line break or a letter "
            "that is not ASCII; copy it again from where 'lineshaft token create' printed it"
        )


@value()
class Whereabouts:
    """A coordinator, and the way in."""

    url: str
    """``ws://host:port`` or ``wss://host:port``."""
    token: str
    home: Path
    local_certificate: str | None = None
    """SHA-256 of the certificate that the coordinator of this machine shows, in hexadecimal;
    ``None``: it has none, or it is not the coordinator meant here."""

    @classmethod
    def find(
        cls, url: str | None, token: str | None, *, environ: Mapping[str, str]
    ) -> "Whereabouts":
        """Look in arguments, then ``LINESHAFT_*``, then what was kept on this machine.

        A token that names a certificate takes the encrypted way, unless it stays on this machine.

        Raises:
            NoCoordinatorError: Nothing names one.
            NoTokenError: There is no token for it.
            BadTokenError: What was given as a token is none.
            BadUrlError: The URL is none.
            UnencryptedTokenError: The token names a certificate, but the URL says ``ws://``.
            OSError: A file that is there cannot be read.
        """
        home = home_of(environ)
        text = url or environ.get("LINESHAFT_URL") or _kept_url(home)
        if text is None:
            raise NoCoordinatorError(home)
        plain = normal_url(text)
        local = _local_certificate(home, plain)
        secret = token or environ.get("LINESHAFT_TOKEN")
        secret = secret or _kept_token(home, plain, environ, is_own=local is not None)
        if secret is None:
            raise NoTokenError(plain)
        if not (secret.isascii() and secret.isprintable() and " " not in secret):
            raise BadTokenError
        if _pin_of(secret) and plain.startswith("ws:") and not _is_this_machine(plain):
            if "://" in text:
                raise UnencryptedTokenError(plain)
            plain = f"wss:{plain.removeprefix('ws:')}"
        return cls(plain, secret, home, local)

    @property
    def secret(self) -> str:
        """What is sent as the bearer token."""
        return self.token.rpartition(".")[2] if _pin_of(self.token) else self.token

    async def trust(self) -> ssl.SSLContext | None:
        """The context for TLS; with a pinned certificate it trusts that one alone.

        Raises:
            WrongCertificateError: The server has another certificate than the pinned one.
            CannotConnectError: The server cannot be reached.
        """
        if not self.url.startswith("wss:"):
            return None
        if (pin := _pin_of(self.token) or self.local_certificate) is None:
            return ssl.create_default_context()
        parts = urlsplit(self.url)
        address = (parts.hostname or "", parts.port or 443)
        try:
            async with asyncio.timeout(PIN_TIMEOUT_S):
                pem = await asyncio.to_thread(
                    ssl.get_server_certificate, address, timeout=PIN_TIMEOUT_S
                )
        except OSError as error:
            raise problem_of(error, self.url) from error
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() != pin:
            raise WrongCertificateError(self.url)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate itself is what is trusted, whatever name it bears.
        context.check_hostname = False
        # Also one that others have signed: who signed it is not asked.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=pem)
        return context


def home_of(environ: Mapping[str, str]) -> Path:
    """Where Lineshaft keeps what belongs to this user: ``LINESHAFT_HOME`` or ``~/.lineshaft``."""
    return Path(environ.get("LINESHAFT_HOME") or Path.home() / ".lineshaft")


def normal_url(text: str) -> str:
    """A coordinator's URL from ``host:port``, ``http(s)://…`` or ``ws(s)://…``.

    Raises:
        BadUrlError: It is none of these.
    """
    full = text if "://" in text else f"ws://{text}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise BadUrlError(text) from error
    scheme = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.path not in ("", "/"):
        raise BadUrlError(text)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{host}:{port or 7433}"


def _kept_url(home: Path) -> str | None:
    for name in ("login.json", "coordinator.json"):
        path = home / name
        if path.exists():
            return str(json.loads(path.read_text())["url"])
    return None


def _local_certificate(home: Path, url: str) -> str | None:
    """The hash of the certificate of this machine's coordinator, if it is the one at the URL."""
    path = home / "coordinator.json"
    if not url.startswith("wss:") or not path.exists():
        return None
    kept = json.loads(path.read_text())
    own = normal_url(str(kept["url"]))
    is_same = own == url or (
        _is_this_machine(own) and _is_this_machine(url) and urlsplit(own).port == urlsplit(url).port
    )
    return str(kept["certificate_sha256"]) if is_same and "certificate_sha256" in kept else None


def _kept_token(home: Path, url: str, environ: Mapping[str, str], *, is_own: bool) -> str | None:
    if named := environ.get("LINESHAFT_TOKEN_FILE"):
        return Path(named).read_text().strip()
    login = home / "login.json"
    if login.exists():
        kept = json.loads(login.read_text())
        if normal_url(str(kept["url"])) == url:
            return str(kept["token"])
    local = home / "token"
    # The local token opens everything here: it is never sent to another machine, nor to anybody
    # who cannot show the certificate of our coordinator.
    if local.exists() and (is_own or _is_this_machine(url)):
        return local.read_text().strip()
    return None


def _pin_of(token: str) -> str | None:
    kind, _, rest = token.partition(".")
    pin, _, _ = rest.partition(".")
    return pin if kind == PINNED and pin else None


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # A name, and names such as 127.example.org are anybody's.
        return False
