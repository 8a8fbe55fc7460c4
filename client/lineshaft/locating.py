"""Where the coordinator of a client is."""

import os
from collections.abc import Mapping

from lineshaft_runtime.locating import Whereabouts

CLIENT_PATH = "/v1/client"


def locate(
    url: str | None, token: str | None, *, environ: Mapping[str, str] | None = None
) -> Whereabouts:
    """Find the coordinator as `Whereabouts.find` does, by default with this process's environment.

    Raises:
        NoCoordinatorError: No URL is given, and none is known on this machine.
        NoTokenError: There is no token for it.
        BadUrlError: The URL is none.
        UnencryptedTokenError: The token names a certificate, but the URL says `ws://`.
        OSError: A file that is there cannot be read.
    """
    return Whereabouts.find(url, token, environ=os.environ if environ is None else environ)
