"""How long each attempt may go on without an answered heartbeat.

A lease is the coordinator's promise to give an attempt's job to nobody else. It counts from the
moment the last answered heartbeat was sent: what looks like a connection may be one to us alone.
"""

from lineshaft_worker.core.attempts import Attempt, Bench

BEAT_S_MIN = 0.5
"""The most often a worker speaks because of a short lease, in seconds."""


def beat_s(heartbeat_s: float, lease_s: float) -> float:
    """How often to speak, so that a short cut does not look like a long one to a lease."""
    return min(heartbeat_s, max(BEAT_S_MIN, lease_s / 4))


def shortest_s(bench: Bench, *, otherwise_s: float) -> float | None:
    """The shortest lease of an attempt that nobody ends yet; ``None`` when there is none."""
    return min(
        (_lease_s(each, otherwise_s) for each in bench.attempts.values() if each.is_going_on),
        default=None,
    )


def over(bench: Bench, now: float, *, since: float, otherwise_s: float) -> list[Attempt]:
    """The attempts whose lease is over, alone as we have been since then."""
    return [
        each
        for each in bench.attempts.values()
        # Compared as a deadline is made of shortest_s: a difference might wake us for ever.
        if each.is_going_on and now >= since + _lease_s(each, otherwise_s)
    ]


def _lease_s(attempt: Attempt, otherwise_s: float) -> float:
    lease_s = attempt.assign.lease_s
    if lease_s is None:
        return otherwise_s
    # What only waits here does nothing twice; it may not start without a fresh heartbeat.
    is_waiting = attempt.is_to_start
    return max(lease_s, otherwise_s) if is_waiting else lease_s
