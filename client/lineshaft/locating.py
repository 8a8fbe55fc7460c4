"""Where the coordinator of a client is."""

import os
import re
import socket
from collections.abc import Mapping
from typing import cast

from lineshaft.errors import BadNameError
from lineshaft_protocol.ids import is_name
from lineshaft_runtime.locating import Whereabouts

CLIENT_PATH = "/v1/client"


def locate(
    url: str | None, token: str | None, *, environ: Mapping[str, str] | None = None
) -> Whereabouts:
    """Find the coordinator as `Whereabouts.find` does, by default with this process's environment.

    Raises:
        NoCoordinatorError: No URL is given, and none is known on this machine.
        NoTokenError: There is no token for it.
        BadTokenError: What was given as a token is none.
        BadUrlError: The URL is none.
        UnencryptedTokenError: The token names a certificate, but the URL says `ws://`.
        OSError: A file that is there cannot be read.
    """
    return Whereabouts.find(url, token, environ=os.environ if environ is None else environ)


def named(what: str, text: str) -> str:
    """Return a name that a user gave, once it is seen to be one. Raises BadNameError."""
    # Annotations bind nobody: it may be anything.
    if not isinstance(cast("object", text), str) or not is_name(text):
        raise BadNameError(what, text)
    return text


def default_client_id() -> str:
    """Return a name for a client in queues and records: user, host and process."""
    import getpass  # noqa: PLC0415 - it looks for a terminal, and few ask for the module

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container may run as somebody without a name.
        user = str(os.getuid())
    name = f"{user}@{socket.gethostname()}-{os.getpid()}"
    return re.sub(r"[^A-Za-z0-9_.:@+-]", "_", name).lstrip("_.:@+-")[:128] or "client"
