"""Attempts that may take only so long to begin, or to say something.

From its Assign until its code begins an attempt has ``prepare_s``; from then on it must print,
report or save something every ``silence_s``. A plan that waits for a child, or for a slot after
that, says nothing, and may; so may what its user froze. That time does not count.
"""

import math

from lineshaft_protocol.outcomes import Failure
from lineshaft_worker.core.attempts import Attempt, Bench, Phase
from lineshaft_worker.core.io import AttemptKey

LOOK_AGAIN_S = 0.05
"""Between two looks at an attempt whose time is over: when we stood still, what it said in time
lies unread behind the tick that says how late it is."""


class Watchdog:
    """Finds attempts whose time is over; costs nothing for those that set none."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._heard_at: dict[AttemptKey, float] = {}
        self._looked_at: dict[AttemptKey, float] = {}
        """Those whose time is over, and when that was seen."""

    def watch(self, key: AttemptKey, now: float) -> None:
        """It was assigned, or taken over."""
        attempt = self._bench.attempts.get(key)
        timeouts = attempt.assign.job.timeouts if attempt is not None else None
        if timeouts is not None and (timeouts.prepare_s or timeouts.silence_s):
            self._heard_at.setdefault(key, now)

    def hold(self, now: float) -> None:
        """Something happens: up to now, the time of those that may be silent did not count."""
        for key in self._heard_at:
            attempt = self._bench.attempts.get(key)
            if attempt is not None and _may_be_silent(attempt):
                self._heard_at[key] = now
                self._looked_at.pop(key, None)

    def hear(self, key: AttemptKey, now: float) -> None:
        """It began or said something."""
        if key in self._heard_at:
            self._heard_at[key] = now
            self._looked_at.pop(key, None)

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
            self._looked_at.pop(key, None)
        late = [key for key in self._heard_at if now >= self._until(key)]
        found: list[tuple[Attempt, Failure]] = []
        for key in late:
            if key not in self._looked_at:
                self._looked_at[key] = now
                continue
            del self._heard_at[key], self._looked_at[key]
            attempt = self._bench.attempts[key]
            found.append((attempt, _failure(attempt)))
        return found

    def _until(self, key: AttemptKey) -> float:
        attempt = self._bench.attempts.get(key)
        if attempt is None or not attempt.is_going_on or _may_be_silent(attempt):
            return math.inf
        limit_s = _limit_s(attempt)
        if limit_s is None:
            return math.inf
        looked_at = self._looked_at.get(key)
        return self._heard_at[key] + limit_s if looked_at is None else looked_at + LOOK_AGAIN_S


def _may_be_silent(attempt: Attempt) -> bool:
    # Of what a daemon before us started we learn from the coordinator whether it is frozen.
    is_still = attempt.is_frozen or attempt.pause == "unknown"
    return is_still or attempt.is_suspended or bool(attempt.children)


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
