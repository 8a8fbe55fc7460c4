"""Attempts that may take only so long to begin, or to say something.

From its Assign until its code begins an attempt has ``prepare_s``; from then on it must print,
report or save something every ``silence_s``. A plan that waits for a child says nothing, and may.
"""

import math

from lineshaft_protocol.outcomes import Failure
from lineshaft_worker.core.attempts import Attempt, Bench, Phase
from lineshaft_worker.core.io import AttemptKey


class Watchdog:
    """Finds attempts whose time is over; costs nothing for those that set none."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._heard_at: dict[AttemptKey, float] = {}

    def watch(self, key: AttemptKey, now: float) -> None:
        """It was assigned, or taken over."""
        attempt = self._bench.attempts.get(key)
        timeouts = attempt.assign.job.timeouts if attempt is not None else None
        if timeouts is not None and (timeouts.prepare_s or timeouts.silence_s):
            self._heard_at.setdefault(key, now)

    def hear(self, key: AttemptKey, now: float) -> None:
        """It began or said something, or a child of it ended."""
        if key in self._heard_at:
            self._heard_at[key] = now

    def next(self) -> float | None:
        """When the first of them has had its time."""
        if not self._heard_at:
            return None
        at = min(self._until(key) for key in self._heard_at)
        return None if math.isinf(at) else at

    def due(self, now: float) -> list[tuple[Attempt, Failure]]:
        """Take out those that have had their time, with what is to be said of them."""
        for key in [key for key in self._heard_at if key not in self._bench.attempts]:
            del self._heard_at[key]
        late = [key for key in self._heard_at if now >= self._until(key)]
        found: list[tuple[Attempt, Failure]] = []
        for key in late:
            del self._heard_at[key]
            attempt = self._bench.attempts[key]
            found.append((attempt, _failure(attempt)))
        return found

    def _until(self, key: AttemptKey) -> float:
        attempt = self._bench.attempts.get(key)
        if attempt is None or not attempt.is_going_on or attempt.children:
            return math.inf
        limit_s = _limit_s(attempt)
        return math.inf if limit_s is None else self._heard_at[key] + limit_s


def _is_preparing(attempt: Attempt) -> bool:
    return attempt.phase is not Phase.RUNNING or not attempt.has_begun


def _limit_s(attempt: Attempt) -> float | None:
    timeouts = attempt.assign.job.timeouts
    if timeouts is None:
        return None
    return timeouts.prepare_s if _is_preparing(attempt) else timeouts.silence_s


def _failure(attempt: Attempt) -> Failure:
    limit_s = _limit_s(attempt)
    if _is_preparing(attempt):
        text = f"its worker did not begin it within its prepare_timeout of {limit_s:g} s"
        return Failure(cause="prepare_timeout", message=text)
    text = f"it printed, reported and saved nothing for its silence_timeout of {limit_s:g} s"
    return Failure(cause="silence_timeout", message=text)
