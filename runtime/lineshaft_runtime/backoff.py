"""How long to wait before trying again."""

import random


class Backoff:
    """Growing waits with full jitter, so that many who lost one server do not return as one.

    Args:
        first_s: Upper end of the first wait; above 0.
        factor: Growth of the upper end from one wait to the next; at least 1.
        max_s: Upper end of all later waits; at least `first_s`.
        rng: Source of the jitter. A seeded one makes the waits repeatable.
    """

    def __init__(self, first_s: float, factor: float, max_s: float, rng: random.Random) -> None:
        assert 0 < first_s <= max_s, "the first wait lies above 0 and not above the longest"
        assert factor >= 1, "waits never shrink"
        self._first_s = first_s
        self._factor = factor
        self._max_s = max_s
        self._rng = rng
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """Draw the next wait, in seconds, from 0 up to the current upper end."""
        wait_s = self._rng.uniform(0, self._ceiling_s)
        # The upper end is kept, not computed from a count: a power overflows after
        # a few hundred tries, and a worker may try for weeks.
        self._ceiling_s = min(self._max_s, self._ceiling_s * self._factor)
        return wait_s

    def reset(self) -> None:
        """Begin again with short waits; call it once the thing waited for has proven itself."""
        self._ceiling_s = self._first_s
