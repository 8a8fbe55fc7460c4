"""Who may come in, and as what: tokens, roles, and what a browser's page may not do.

A token is 256 random bits; the file of tokens holds only their SHA-256. The one exception is
the local token: programs on this machine read it from a file that only its owner can read.
"""

import fcntl
import hashlib
import hmac
import ipaddress
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lineshaft_coordinator.server.roles import (
    LOCAL_PERMISSIONS,
    PERMISSIONS,
    ROLES,
    UNSAID,
    Permission,
    TokenRole,
    wrong_role,
)
from lineshaft_coordinator.server.sessions import Role, Sessions
from lineshaft_protocol.errors import LineshaftError
from lineshaft_runtime.connection import Admitted, Listener, UpgradeRequest
from lineshaft_runtime.opening import Rejection

logger = logging.getLogger(__name__)

SECRET_BYTES = 32
LOCAL_ID = "local"
"""Names the local token, which ids of made tokens never do."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TAKEN_IDS: Final = (LOCAL_ID, "me", "nobody")
"""What means something else where the owner of jobs is asked for."""
_SESSIONS: Final[Mapping[Role, Permission]] = {"client": "submit", "worker": "work"}
"""What it takes to open one."""


class InsecureListenError(LineshaftError):
    """The coordinator was told to listen to the network without TLS."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"refusing to listen on {host} without TLS: anyone on the network could read the "
            "tokens and run code on your workers. Add --tls-self-signed, or --tls-cert and "
            "--tls-key; or listen on 127.0.0.1 and reach it through an SSH tunnel."
        )
        self.host = host


class TokensDamagedError(LineshaftError):
    """The file of tokens cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged: {reason}. Bring the file back, or remove it and make all tokens "
            "again with 'lineshaft token create'"
        )
        self.path, self.reason = path, reason


class TokenNameError(LineshaftError):
    """A token cannot have this name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"no token can be named {name[:80]!r}: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True, slots=True)
class Grant:
    """What the holder of a token may do."""

    token_id: str
    role: TokenRole

    def may(self, permission: Permission) -> bool:
        """Whether its holder may do this."""
        return permission in self.permissions

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """All that its holder may do."""
        return LOCAL_PERMISSIONS if self.token_id == LOCAL_ID else PERMISSIONS[self.role]


class Tokens:
    """The tokens that open this coordinator.

    Args:
        data: The coordinator's folder; holds ``tokens.json``.
        local: The local token, which grants everything.
    """

    def __init__(self, data: Path, local: str) -> None:
        self._file = data / "tokens.json"
        self._local = _digest(local)
        self._read_state: tuple[int, ...] | None = None
        self._grants: Mapping[str, Grant] = {}
        self._problem: str | None = None

    def grant(self, token: str | None) -> Grant | None:
        """What the token allows; ``None`` when it is not one of ours.

        While the file of tokens is damaged only the local one is: nobody knows who was revoked.
        """
        if token is None:
            return None
        # What was handed out for a pinned certificate carries its hash in front.
        digest = _digest(token.rpartition(".")[2])
        if hmac.compare_digest(digest, self._local):
            return Grant(LOCAL_ID, "admin")
        self._read_again()
        return self._grants.get(digest)

    def create(self, role: TokenRole, name: str | None = None) -> tuple[str, str]:
        """Make a token; returns its id, and the secret that is shown once and never kept.

        Args:
            role: What it opens.
            name: Its id, which is told as the owner of jobs; None: eight random digits.

        Raises:
            TokenNameError: The name is another token's, or none.
            TokensDamagedError: The file of tokens cannot be read; it is left as it is.
        """
        secret = secrets.token_urlsafe(SECRET_BYTES)
        token_id = secrets.token_hex(4) if name is None else name
        if not _ID.fullmatch(token_id) or token_id in _TAKEN_IDS:
            allowed = "letters, digits and any of . _ @ -, 64 at most, a letter or digit first"
            raise TokenNameError(token_id, f"take {allowed}; not {', '.join(_TAKEN_IDS)}")
        with self._alone():
            grants = self._grants_now()
            if any(grant.token_id == token_id for grant in grants.values()):
                way_out = f"'lineshaft token revoke {token_id}' makes it free"
                raise TokenNameError(token_id, f"there is one of this name; {way_out}")
            self._write(grants | {_digest(secret): Grant(token_id, role)})
        return token_id, secret

    def revoke(self, token_id: str) -> bool:
        """Forget a token; returns whether there was one of this id.

        Raises:
            TokensDamagedError: The file of tokens cannot be read; it is left as it is.
        """
        with self._alone():
            grants = self._grants_now()
            kept = {digest: each for digest, each in grants.items() if each.token_id != token_id}
            self._write(kept)
        return len(kept) < len(grants)

    def listed(self) -> list[Grant]:
        """All tokens but the local one.

        Raises:
            TokensDamagedError: The file of tokens cannot be read.
        """
        return list(self._grants_now().values())

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Keep others from changing the file: what is read is what will be replaced."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._file.with_name("tokens.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, grants: Mapping[str, Grant]) -> None:
        entries = {
            digest: {"id": grant.token_id, "role": grant.role} for digest, grant in grants.items()
        }
        write_private(self._file, json.dumps(entries, indent=1))

    def _grants_now(self) -> dict[str, Grant]:
        try:
            text = self._file.read_text()
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise TokensDamagedError(self._file, "it is no text") from error
        try:
            return {
                str(digest): Grant(str(entry["id"]), ROLES[entry["role"]])
                for digest, entry in json.loads(text).items()
            }
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise TokensDamagedError(self._file, f"it holds no tokens ({error})") from error

    def _read_again(self) -> None:
        try:
            found = self._file.stat()
            state = found.st_mtime_ns, found.st_size, found.st_ino
            if state != self._read_state:
                self._grants, self._problem = self._grants_now(), None
                self._read_state = state
        except FileNotFoundError:
            self._grants, self._read_state, self._problem = {}, None, None
        except (OSError, TokensDamagedError) as error:
            # Read again at the next question; and what was known before may have been revoked.
            self._grants, self._read_state = {}, None
            if self._problem != str(error):
                self._problem = str(error)
                logger.error("only the local token opens this", extra={"why": self._problem})  # noqa: TRY400 - no bug


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody who may come in, at a door."""

    request: UpgradeRequest
    grant: Grant
    params: Mapping[str, str]
    """What stood in the path for the names in the door's."""


@dataclass(frozen=True, slots=True)
class Door:
    """One path for WebSockets of clients, beside those of Lineshaft's own protocol."""

    path: str
    """As ``/ws/{job_id}``: a name in braces stands for one part of a path."""
    admit: Callable[[Visit], Listener | Admitted | Rejection]
    """Decides who listens."""
    no_token: str = "the token is missing or not known here\n"  # noqa: S105 - a text
    """Told to who brings no token."""
    bad_token: str = "the token is missing or not known here\n"  # noqa: S105 - a text
    """Told to who brings one that is not known."""
    origins: tuple[str, ...] = ()
    """Pages of other sites that may come here, as ``http://host:port``."""
    other: Callable[[UpgradeRequest, Mapping[str, str]], Grant | None] | None = None
    """What somebody may do whose token is none of the coordinator's; None: nothing."""
    takes: Permission = UNSAID
    """Who may not do this stays outside."""

    def params(self, path: str) -> Mapping[str, str] | None:
        """What stands for the names in the door's path; None: the path is not of this door."""
        wanted, given = self.path.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        params: dict[str, str] = {}
        for want, give in zip(wanted, given, strict=True):
            if want.startswith("{") and give:
                params[want.strip("{}")] = give
            elif want != give:
                return None
        return params


class Gate:
    """Decides about each connection before it is answered.

    Args:
        tokens: Who may do what.
        sessions: Where those who may come in go.
        is_loopback: Whether we listen on this machine only: then the Host must say so too, or
            a page in a browser could reach us under another name.
    """

    def __init__(self, tokens: Tokens, sessions: Sessions, *, is_loopback: bool) -> None:
        self._tokens, self._sessions, self._is_loopback = tokens, sessions, is_loopback
        self.doors: list[Door] = []
        """Other paths for clients; the first that fits is taken."""

    def accept(self, request: UpgradeRequest) -> Listener | Admitted | Rejection:
        """Who listens to this connection, or why nobody does."""
        door, params = self._door_of(request.path)
        is_welcome = door is not None and request.origin in door.origins
        refusal = self.refuse_page(request.host, None if is_welcome else request.origin)
        if refusal is not None:
            return refusal
        if door is not None:
            return self._at_door(door, request, params)
        roles: dict[str, Role] = {"/v1/client": "client", "/v1/worker": "worker"}
        role = roles.get(request.path)
        if role is None:
            return Rejection(404, "WebSockets are at /v1/client and /v1/worker\n")
        grant = self._tokens.grant(request.token)
        if grant is None:
            return Rejection(401, "the token is missing or not known here\n")
        if not grant.may(_SESSIONS[role]):
            return _refused(grant, _SESSIONS[role])
        return self._sessions.listener(role, grant.token_id)

    def _door_of(self, path: str) -> tuple[Door | None, Mapping[str, str]]:
        for door in self.doors:
            if (params := door.params(path)) is not None:
                return door, params
        return None, {}

    def _at_door(
        self, door: Door, request: UpgradeRequest, params: Mapping[str, str]
    ) -> Listener | Admitted | Rejection:
        grant = self._tokens.grant(request.token)
        if grant is None and door.other is not None:
            grant = door.other(request, params)
        if grant is None:
            return Rejection(401, door.bad_token if request.token else door.no_token)
        if not grant.may(door.takes):
            return _refused(grant, door.takes)
        return door.admit(Visit(request, grant, params))

    def refuse_page(self, host: str | None, origin: str | None) -> Rejection | None:
        """Refuse what a web page of somebody else may have caused."""
        try:
            name = urlsplit(f"//{host}").hostname if host else None
            page = urlsplit(origin).netloc if origin is not None else host
        except ValueError:  # As a bracket without its other one.
            return Rejection(400, "the Host or Origin of this request cannot be read\n")
        if self._is_loopback and name not in (None, "localhost", "127.0.0.1", "::1"):
            return Rejection(403, f"this coordinator is not {name}\n")
        if page != host:
            return Rejection(403, f"pages of {origin} may not come here\n")
        return None


def _refused(grant: Grant, wanted: Permission) -> Rejection:
    return Rejection(403, f"{wrong_role(grant.role, wanted)}\n")


def local_token(home: Path) -> str:
    """The token for programs of this user on this machine; made when there is none."""
    path = home / "token"
    if path.exists():
        token = path.read_text().strip()
        if token:
            return token
    token = secrets.token_urlsafe(SECRET_BYTES)
    write_private(path, token + "\n")
    return token


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # A name, wherever it leads: 127.example.org is none of ours.
        return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
