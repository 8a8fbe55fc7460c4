"""What can be asked of a coordinator that does not answer as it should, and without a token."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from lineshaft_runtime.locating import Whereabouts

ANSWER_S = 5.0
TEXT_BYTES_MAX = 1000


async def obstacle_of(place: Whereabouts) -> str | None:
    """Return why a coordinator takes no work, as it says itself; None if it says nothing such."""
    from lineshaft_protocol.errors import LineshaftError  # noqa: PLC0415 - takes long

    try:
        tls = await place.trust()
        status, text = await asyncio.to_thread(_ask, place.url, tls)
    except (LineshaftError, OSError, http.client.HTTPException):
        return None
    return text if status == http.client.SERVICE_UNAVAILABLE else None


def _ask(url: str, tls: ssl.SSLContext | None) -> tuple[int, str]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPConnection(host, port, timeout=ANSWER_S)
        if tls is None
        else http.client.HTTPSConnection(host, port, timeout=ANSWER_S, context=tls)
    )
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(TEXT_BYTES_MAX).decode(errors="replace")
    finally:
        connection.close()
    return answer.status, " ".join(text.split())


def certificate_expires_at(url: str) -> datetime | None:
    """Return when the certificate that is shown at a `wss` URL expires; None without TLS.

    Nothing is verified, and nothing told: also of an expired one the day is of interest.

    Raises:
        OSError: Nobody answers there.
        ValueError: What is shown cannot be read.
    """
    from lineshaft_runtime.certificates import expires_at, first_of_chain  # noqa: PLC0415 - seldom

    if not url.startswith("wss:"):
        return None
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 443)
    shown = ssl.get_server_certificate(address, timeout=ANSWER_S)
    return datetime.fromtimestamp(expires_at(first_of_chain(shown)), UTC)
