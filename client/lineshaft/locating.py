"""Where the coordinator is, and that its token is never told to whoever listens on the way."""

import os
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from lineshaft.errors import UnencryptedTokenError
from lineshaft_runtime.locating import Whereabouts

CLIENT_PATH = "/v1/client"

_LOCAL_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def locate(
    url: str | None, token: str | None, *, environ: Mapping[str, str] | None = None
) -> Whereabouts:
    """Find the coordinator as `Whereabouts.find` does; a pinned token needs an encrypted way.

    Raises:
        NoCoordinatorError: No URL is given, and none is known on this machine.
        NoTokenError: There is no token for it.
        BadUrlError: The URL is none.
        UnencryptedTokenError: The token names a certificate, but the URL says `ws://`.
        OSError: A file that is there cannot be read.
    """
    environ = os.environ if environ is None else environ
    where = Whereabouts.find(url, token, environ=environ)
    is_pinned = where.secret != where.token
    if (
        not is_pinned
        or where.url.startswith("wss:")
        or urlsplit(where.url).hostname in _LOCAL_HOSTS
    ):
        return where
    if "://" in (url or environ.get("LINESHAFT_URL") or "://"):
        raise UnencryptedTokenError(where.url)
    return replace(where, url=f"wss:{where.url.removeprefix('ws:')}")
