"""Counts the environments that were there already, by how long the look for them took."""

from bisect import bisect_left

from lineshaft_protocol.figures import ENVIRONMENT_BOUNDS_S, Figures


class Hits:
    """Since the daemon's start; each costs a search among a dozen bounds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(ENVIRONMENT_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def observe(self, span_s: float) -> None:
        """Count one that was found after so many seconds."""
        self._counts[bisect_left(ENVIRONMENT_BOUNDS_S, span_s)] += 1
        self._sum_s += span_s

    def figures(self, *, spool_bytes: int) -> Figures:
        """For a heartbeat, with what else the daemon counted."""
        return Figures(
            spool_bytes=spool_bytes,
            environment_hits=tuple(self._counts),
            environment_hits_s=self._sum_s,
        )
