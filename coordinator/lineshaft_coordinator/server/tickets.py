"""Addresses that open one kept file for a short while, without a token.

A browser saves a file of any length by itself, but sends no token with it; and a token in an
address would stay in its history and in the logs of proxies. So who has a token asks for a ticket:
128 random bits that are good for one file and a minute.
"""

import secrets
from collections.abc import Callable

from lineshaft_protocol.ids import JobId

GOOD_FOR_S = 60.0
TICKETS_MAX = 1024
"""Most tickets at a time; the oldest goes first."""


class Tickets:
    """Those that are still good.

    Args:
        now: Seconds on any clock that does not go back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._issued: dict[str, tuple[float, JobId, str]] = {}

    def issue(self, job_id: JobId, file_id: str) -> str:
        """Make one for a kept file of a job."""
        while len(self._issued) >= TICKETS_MAX:
            del self._issued[next(iter(self._issued))]
        ticket = secrets.token_urlsafe(16)
        self._issued[ticket] = (self._now() + GOOD_FOR_S, job_id, file_id)
        return ticket

    def find(self, ticket: str) -> tuple[JobId, str] | None:
        """What it opens; None if it is not, or no longer, good. A download may be resumed by it."""
        found = self._issued.get(ticket)
        if found is None:
            return None
        until, job_id, file_id = found
        if self._now() > until:
            del self._issued[ticket]
            return None
        return job_id, file_id
