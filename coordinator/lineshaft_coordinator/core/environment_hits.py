"""How often workers had an environment already, and how long they looked; since our start.

A worker tells what it counted since its own start, so that a heartbeat that is lost costs nothing.
What it had counted when we first heard of it belongs to an earlier coordinator.
"""

from dataclasses import dataclass, field

from lineshaft_protocol.figures import ENVIRONMENT_BOUNDS_S, Figures

_BUCKETS = len(ENVIRONMENT_BOUNDS_S) + 1


@dataclass(slots=True)
class EnvironmentHits:
    """Of all workers together."""

    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    """By bucket; the last has what took longer than all bounds."""
    sum_s: float = 0.0

    def add(self, told: Figures, *, since: Figures | None) -> None:
        """Count what is new.

        Args:
            told: By a worker now.
            since: What the same start of its daemon told before; None for its first word.
        """
        if since is None:
            return
        before, now = since.environment_hits or (0,) * _BUCKETS, told.environment_hits
        # A worker of another release may have other buckets: those fit nowhere.
        if len(before) == len(now) == _BUCKETS:
            grown = [max(0, new - old) for new, old in zip(now, before, strict=True)]
            self.counts = [have + more for have, more in zip(self.counts, grown, strict=True)]
            self.sum_s += max(0.0, told.environment_hits_s - since.environment_hits_s)
