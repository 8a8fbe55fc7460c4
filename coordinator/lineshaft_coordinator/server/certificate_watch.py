"""Says in time that the certificate the coordinator shows is about to expire."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from lineshaft_coordinator.server.tls import UnusableCertificateError
from lineshaft_runtime.certificates import expires_at, first_of_chain

logger = logging.getLogger(__name__)

DAY_S = 24 * 3600.0
WARN_DAYS = 30


def expiry_of(certificate: Path) -> float:
    """Return when the certificate that is shown expires, in seconds since 1970.

    Raises:
        UnusableCertificateError: There is none in the file.
    """
    try:
        return expires_at(first_of_chain(certificate.read_text()))
    except ValueError as error:
        raise UnusableCertificateError(certificate, None, str(error)) from error


def warn_of(certificate: Path, expires: float, now: float) -> None:
    """Say if a certificate expires within a month, or has.

    Args:
        certificate: Its file.
        expires: In seconds since 1970, as `now`.
        now: What the clock on the wall says.
    """
    left_s = expires - now
    if left_s >= WARN_DAYS * DAY_S:
        return
    day = datetime.fromtimestamp(expires, UTC).date().isoformat()
    fields = {"file": str(certificate), "expires": day, "days_left": int(left_s // DAY_S)}
    if left_s > 0:
        logger.warning("the TLS certificate expires soon", extra=fields)
    else:
        logger.error("the TLS certificate has expired: nobody can connect", extra=fields)


async def watch_certificate(certificate: Path, *, every_s: float = DAY_S) -> None:
    """Warn at once and then daily, until cancelled.

    Args:
        certificate: The file that was loaded at the start: a new one counts from the next start.
        every_s: Pause, in seconds.

    Raises:
        UnusableCertificateError: There is no certificate in the file.
    """
    expires = expiry_of(certificate)
    while True:
        warn_of(certificate, expires, time.time())
        await asyncio.sleep(every_s)
